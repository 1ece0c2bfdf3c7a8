"""``python -m frontend.admin``: the admin application with flags. Containers use ``gunicorn_conf``."""

import sys

from common.settings import load
from frontend.http.multiprocess import share_metrics
from frontend.settings import AdminSettings, bind


def main(argv: list[str]) -> None:
    """Serve until SIGTERM."""
    settings = load(AdminSettings, argv)
    folder = share_metrics(settings)
    # Only now: they import prometheus_client, which looks for the folder at once.
    from common.runtime.logs import setup_logging
    from frontend.admin.wsgi import create_admin
    from frontend.http.gunicorn import Server, gunicorn_settings

    setup_logging("admin", settings.log_level, settings.audit_file)
    options = gunicorn_settings(settings, bind(settings.bind_ip, settings.admin_port), folder)
    Server(options, lambda: create_admin(settings)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
