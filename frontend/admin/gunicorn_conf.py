"""gunicorn's configuration of the admin application: ``gunicorn -c python:frontend.admin.gunicorn_conf …``."""

from common.settings import load
from frontend.http.multiprocess import configure
from frontend.settings import AdminSettings

globals().update(configure(load(AdminSettings)))
