"""gunicorn's configuration of the admin application: ``gunicorn -c python:frontend.admin.gunicorn_conf …``."""

from common.settings import load
from frontend.http.multiprocess import share_metrics
from frontend.settings import AdminSettings, bind

_settings = load(AdminSettings)
_metrics_folder = share_metrics(_settings)

# Only now: the rest imports prometheus_client, which looks for the folder at once.
from common.runtime.logs import setup_logging  # noqa: E402
from frontend.http.gunicorn import gunicorn_settings  # noqa: E402

setup_logging("admin", _settings.log_level, _settings.audit_file)
globals().update(gunicorn_settings(_settings, bind(_settings.bind_ip, _settings.admin_port), _metrics_folder))
