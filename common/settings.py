"""How every process gets its settings: flags over ``TMPNB_*`` environment over a TOML file over defaults.

The only place that reads the environment. Called once, by each composition root, before anything else starts.
"""

import os
import socket
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from common.records.base import Name
from common.records.pool_fields import split_commas

T = TypeVar("T", bound="ProcessSettings")


UrlList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]

# Sixteen random hexadecimal digits: at a thousand guesses a second they take some 300 million years.
SECRET_MIN_CHARS, SECRET_MIN_SYMBOLS = 16, 6


class Secret(SecretStr):
    """Chosen by an operator, and shown to us, or by us, to get in. ``load`` checks that nobody can guess it: at every
    start, and not what a test makes up."""


def guessable(text: str) -> bool:
    """Whether somebody could try it out."""
    repeats = 0 < (text + text).find(text, 1) < len(text)
    return len(text) < SECRET_MIN_CHARS or len(set(text)) < SECRET_MIN_SYMBOLS or repeats


# A name of DNS in lower case, or nothing.
_DOMAIN = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,9})?$"
# What is put before it must fit into the 253 characters of a name.
DomainName = Annotated[str, Field(pattern=_DOMAIN, max_length=200)]


class ProcessSettings(BaseSettings):
    """Settings of any process, also of one that asks neither Consul nor RabbitMQ."""

    model_config = SettingsConfigDict(
        env_prefix="TMPNB_",
        env_ignore_empty=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        frozen=True,
        populate_by_name=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    # The file named by --config; set by ``load`` for the time of one construction.
    _file: ClassVar[str | None] = None

    cluster: Name = Field(default="main", description="everything that shares one Consul prefix and RabbitMQ vhost")
    metrics_ip: str = Field(default="0.0.0.0", description="address to listen at for Prometheus")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="port to listen at for Prometheus; 0: none (the compose files say 9465)"
    )
    metrics_address: str | None = Field(
        default=None,
        pattern=r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$",
        description="host:port where Prometheus reaches metrics_port, if not at this machine's name",
    )
    audit_file: Path | None = Field(
        default=None, description="file that the audit log is also appended to; reopened when it was rotated away"
    )
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least level logged")

    @property
    def metrics_target(self) -> str:
        """host:port where Prometheus reaches this process; empty: nowhere."""
        if not self.metrics_port:
            return ""
        return self.metrics_address or f"{socket.gethostname()}:{self.metrics_port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 we do not read .env files: compose does
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 nor secret directories
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources = [init_settings, env_settings]
        if cls._file:
            sources.append(TomlConfigSettingsSource(settings_cls, cls._file))
        return tuple(sources)


class CommonSettings(ProcessSettings):
    """Settings that every process of a cluster has."""

    consul_urls: UrlList = Field(
        default=("http://127.0.0.1:8500",),
        min_length=1,
        description="Consul, comma-separated: http(s)://host:port",
    )
    consul_token: SecretStr | None = Field(default=None, description="Consul ACL token")
    consul_answer_max_bytes: int = Field(
        default=256 << 20,
        ge=16 << 20,
        le=4 << 30,
        description="bytes of one answer of Consul; a longer one counts as none. 100,000 routes are some 100 MB",
    )
    rabbitmq_urls: UrlList = Field(
        default=("amqp://tmpnb@127.0.0.1:5672/tmpnb",),
        min_length=1,
        description="RabbitMQ, comma-separated: amqp(s)://user@host:port/vhost, without the password",
    )
    rabbitmq_password: Secret = Field(
        default=Secret(""), description="password of the user in rabbitmq_urls, 16 characters or more"
    )
    user_domain: DomainName = Field(
        default="",
        description="each server has a host name below this domain (users.example.org), which needs wildcard DNS; "
        "empty: servers live at paths below the cluster's own name",
    )


def load(settings: type[T], argv: list[str] | None = None, **overrides: Any) -> T:
    """The checked settings of a process, from ``argv`` (None: no flags), the environment and the file of ``--config``.

    Flags may be written with dashes or underscores, as tmpnb took them. Ends the process with status 2 and one line
    per problem that names the option, the value and what is accepted.
    """
    arguments = _spelled_out(settings, [_dashed(argument) for argument in argv or []])
    settings._file = _take_config(arguments) or os.environ.get("TMPNB_CONFIG")
    if settings._file and not Path(settings._file).is_file():
        _refuse(settings, [((), f"--config (TMPNB_CONFIG): no such file {settings._file!r}; accepted: TOML", None)])
    try:
        if argv is not None:
            source: CliSettingsSource[T] = CliSettingsSource(
                settings, cli_parse_args=arguments, cli_exit_on_error=False
            )
            overrides |= {"_cli_settings_source": source}
        found = settings(**overrides)
    except ValidationError as exc:
        _refuse(settings, [(problem["loc"], problem["msg"], problem["input"]) for problem in exc.errors()])
    except (SettingsError, OSError, ValueError) as exc:
        _refuse(settings, [((), str(exc), None)])
    finally:
        settings._file = None
    _refuse_guessable(found)
    return found


def _refuse_guessable(found: ProcessSettings) -> None:
    """Of a secret that is set. One that is needed and not set is refused where it is needed."""
    wrong = (
        f"too easy to guess: at least {SECRET_MIN_CHARS} characters are accepted, {SECRET_MIN_SYMBOLS} of them "
        "different, and nothing repeated ('openssl rand -hex 24' makes a good one)"
    )
    secrets = {name: value.get_secret_value() for name, value in found if isinstance(value, Secret)}
    if weak := [name for name, text in secrets.items() if text and guessable(text)]:
        _refuse(type(found), [((name,), wrong, None) for name in weak])


def set_variable(name: str, value: str) -> None:
    """Set a variable of the process's environment, for a library that takes its settings from nowhere else."""
    os.environ[name] = value


def environment() -> dict[str, str]:
    """The process's environment, for ``${NAME}`` in files whose reader says that it is taken from there."""
    return dict(os.environ)


def _dashed(argument: str) -> str:
    """``--cull_period=5`` and ``--cull-period=5`` are the same flag."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("_", "-") + equals + value


def _spelled_out(settings: type[ProcessSettings], arguments: list[str]) -> list[str]:
    """A switch alone means true, as tmpnb took it."""
    fields = settings.model_fields.items()
    switches = {f"--{name.replace('_', '-')}" for name, field in fields if field.annotation is bool}
    return [
        f"{argument}=true" if argument in switches and after.startswith("--") else argument
        for argument, after in pairwise([*arguments, "--"])
    ]


def _take_config(arguments: list[str]) -> str | None:
    """Take ``--config FILE`` off the flags: it says where other settings come from, it is none itself."""
    for i, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return arguments.pop(i).partition("=")[2]
        if argument == "--config" and i + 1 < len(arguments):
            arguments.pop(i)
            return arguments.pop(i)
    return None


def _refuse(settings: type[ProcessSettings], problems: list[tuple[tuple[int | str, ...], str, Any]]) -> NoReturn:
    for location, message, given in problems:
        name = str(location[0]).replace("-", "_") if location else ""
        if not name:
            print(f"settings: {message}", file=sys.stderr)  # noqa: T201 logging is not set up yet
            continue
        known = settings.model_fields.items()
        name, field = next(((key, f) for key, f in known if name in (key, f.validation_alias)), (name, None))
        secret = field is not None and "Secret" in str(field.annotation)
        shown = "" if secret or given is None else f" (given: {str(given)[:80]!r})"
        accepted = f"; accepted: {field.description}" if field is not None and field.description else ""
        variable = field.validation_alias if field is not None else None
        option = f"--{name.replace('_', '-')} ({variable or f'TMPNB_{name.upper()}'})"
        print(f"settings: {option}: {message}{shown}{accepted}", file=sys.stderr)  # noqa: T201
    sys.exit(2)
