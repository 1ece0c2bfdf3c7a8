"""``python -m frontend``: the public application with flags, as tmpnb was started. Containers use ``gunicorn_conf``."""

import sys

from common.logs import setup_logging
from common.settings import load
from frontend.serving import Server, gunicorn_settings
from frontend.settings import PublicSettings, bind
from frontend.wsgi import create_app, start_app, stop_app


def main(argv: list[str]) -> None:
    """Serve until SIGTERM."""
    settings = load(PublicSettings, argv)
    setup_logging("frontend", settings.log_level)
    options = gunicorn_settings(settings, bind(settings.ip, settings.port))
    Server(options, lambda: create_app(settings), start_app, stop_app).run()


if __name__ == "__main__":
    main(sys.argv[1:])
