"""Style, scripts and pictures of the pages, and the templates that both applications share."""

import hashlib
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, send_from_directory

SHARED = Path(__file__).parent


def install(app: Flask) -> None:
    """Serve at ``/static/`` what is in ``static/`` beside ``app`` or here; templates are found in both places, too."""
    # A blueprint's templates come after the application's own.
    app.register_blueprint(Blueprint("shared", __name__, template_folder="templates"))
    folders = {
        file.relative_to(folder).as_posix(): folder
        for folder in (SHARED / "static", Path(app.root_path) / "static")
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    # A hash of the content in the address, so that browsers may keep files for ever.
    versions = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12] for name, folder in folders.items()}

    def static(filename: str) -> Response:
        return send_from_directory(folders[filename], filename) if filename in folders else abort(404)

    app.add_url_rule("/static/<path:filename>", "static", static)
    app.jinja_env.globals["static"] = lambda name: f"/static/{name}?v={versions[name]}"
