"""``python -m frontend.admin``: the admin application with flags. Containers use ``gunicorn_conf``."""

import sys

from common.settings import load
from frontend.http.multiprocess import configure
from frontend.settings import AdminSettings


def main(argv: list[str]) -> None:
    """Serve until SIGTERM."""
    settings = load(AdminSettings, argv)
    options = configure(settings)
    # Only now: see ``configure``.
    from frontend.admin.wsgi import create_admin
    from frontend.http.gunicorn import GunicornServer

    GunicornServer(options, lambda: create_admin(settings)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
