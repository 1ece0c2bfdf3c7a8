"""``python -m frontend``: the public application with flags, as tmpnb was started. Containers use ``gunicorn_conf``."""

import sys

from common.settings import load
from frontend.http.multiprocess import configure
from frontend.settings import PublicSettings


def main(argv: list[str]) -> None:
    """Serve until SIGTERM."""
    settings = load(PublicSettings, argv)
    options = configure(settings)
    # Only now: see ``configure``.
    from frontend.http.gunicorn import GunicornServer
    from frontend.public.wsgi import create_app

    GunicornServer(options, lambda: create_app(settings)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
