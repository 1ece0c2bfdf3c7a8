"""``python -m frontend``: the public application with flags, as tmpnb was started. Containers use ``gunicorn_conf``."""

import sys

from common.settings import load
from frontend.http.multiprocess import serve
from frontend.settings import PublicSettings

if __name__ == "__main__":
    serve(load(PublicSettings, sys.argv[1:]), "frontend.public.wsgi:create_app")
