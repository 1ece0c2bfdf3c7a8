"""gunicorn's configuration of the public application: ``gunicorn -c python:frontend.public.gunicorn_conf …``."""

from common.settings import load
from frontend.http.multiprocess import configure
from frontend.settings import PublicSettings

globals().update(configure(load(PublicSettings)))
