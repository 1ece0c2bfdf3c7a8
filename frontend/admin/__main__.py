"""``python -m frontend.admin``: the admin application with flags. Containers use ``gunicorn_conf``."""

import sys

from common.settings import load
from frontend.http.multiprocess import serve
from frontend.settings import AdminSettings

if __name__ == "__main__":
    serve(load(AdminSettings, sys.argv[1:]), "frontend.admin.wsgi:create_admin")
