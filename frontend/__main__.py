"""``python -m frontend``: the public application with flags, as tmpnb was started. Containers use ``gunicorn_conf``."""

import sys

from common.settings import load
from frontend.http.multiprocess import share_metrics
from frontend.settings import PublicSettings, bind


def main(argv: list[str]) -> None:
    """Serve until SIGTERM."""
    settings = load(PublicSettings, argv)
    folder = share_metrics(settings)
    # Only now: they import prometheus_client, which looks for the folder at once.
    from common.runtime.logs import setup_logging
    from frontend.http.gunicorn import Server, gunicorn_settings
    from frontend.public.wsgi import create_app

    setup_logging("frontend", settings.log_level, settings.audit_file)
    options = gunicorn_settings(settings, bind(settings.ip, settings.port), folder)
    Server(options, lambda: create_app(settings)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
