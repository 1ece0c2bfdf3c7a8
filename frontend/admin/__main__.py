"""``python -m frontend.admin``: the admin application with flags. Containers use ``gunicorn_admin_conf``."""

import sys

from common.logs import setup_logging
from common.settings import load
from frontend.serving import Server, gunicorn_settings
from frontend.settings import AdminSettings, bind
from frontend.wsgi import create_admin, start_admin, stop_admin


def main(argv: list[str]) -> None:
    """Serve until SIGTERM."""
    settings = load(AdminSettings, argv)
    setup_logging("admin", settings.log_level)
    options = gunicorn_settings(settings, bind(settings.bind_ip, settings.admin_port))
    Server(options, lambda: create_admin(settings), start_admin, stop_admin).run()


if __name__ == "__main__":
    main(sys.argv[1:])
