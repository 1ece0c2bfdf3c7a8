"""gunicorn's configuration of the public application: ``gunicorn -c python:frontend.public.gunicorn_conf …``."""

from common.settings import load
from frontend.http.multiprocess import share_metrics
from frontend.settings import PublicSettings, bind

_settings = load(PublicSettings)
_metrics_folder = share_metrics(_settings)

# Only now: the rest imports prometheus_client, which looks for the folder at once.
from common.runtime.logs import setup_logging  # noqa: E402
from frontend.http.gunicorn import gunicorn_settings  # noqa: E402

setup_logging("frontend", _settings.log_level, _settings.audit_file)
globals().update(gunicorn_settings(_settings, bind(_settings.ip, _settings.port), _metrics_folder))
