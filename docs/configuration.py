"""Writes docs/configuration.md from the settings classes and PoolSpec: ``make docs``. A test keeps it up to date."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.settings import AgentSettings
from common.records.pools import PoolSpec
from common.settings import CommonSettings
from frontend.settings import AdminSettings, CliSettings, CullerSettings, PublicSettings
from proxy.acme.settings import AcmeSettings
from proxy.settings import ProxySettings

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """# Configuration

Written by `make docs`; do not edit.

Every process takes its settings from flags (`--cull-period 60` or `--cull_period=60`), then the environment
(`TMPNB_CULL_PERIOD=60`), then the TOML file named by `--config` or `TMPNB_CONFIG`, then the defaults. A wrong one ends
the process at once and is named with its value and what is accepted.

Where `make up` runs the processes, a setting is written into `.env` by its second name, and `make up` again has it
used. Decided by the compose file are addresses, ports and places inside the containers (`ip`, `port`, `admin_ip`,
`run_dir`, `statics_dir`, `certs_dir`, `acme_dir`, `acme_port`, `pools_file`, `url`, `public_url`, `metrics_port`,
`metrics_address`): `TMPNB_PORT` and `TMPNB_ADMIN_PORT` in `.env` are the published ports. HAProxy's variables are in
the head of [haproxy.cfg](../proxy/haproxy/haproxy.cfg).
"""
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Every process", CommonSettings),
    ("Frontend", PublicSettings),
    ("Admin application", AdminSettings),
    ("Culler", CullerSettings),
    ("Agent", AgentSettings),
    ("Route sync", ProxySettings),
    ("Certificates by ACME", AcmeSettings),
    ("Command line", CliSettings),
)
POOLS = """## Pools

In `deploy/config/pools.toml`, a table `[pools.<name>]` each; applied with `tmpnb pools apply FILE`. `${NAME}` in
`image` is taken from the environment. Changing anything but sizes, timeouts, `redirect_uri` and `link_prefixes` makes a
new generation.
"""


def rows(model: type[BaseModel], own: bool, prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name == "v" or (own and name in CommonSettings.model_fields and model is not CommonSettings):
            continue
        variable = field.validation_alias if isinstance(field.validation_alias, str) else prefix + name.upper()
        shown = f"`{name}`" if not prefix else f"`{name}`<br>`{variable}`"
        text = (field.description or "").replace("|", "\\|")
        yield f"| {shown} | {default(field.get_default(call_default_factory=True))} | {text} |"


def default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value in (None, "", {}, ()) or isinstance(value, SecretStr):
        return ""
    if value == socket.gethostname():
        return "this machine's name"
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value}`"


def page() -> str:
    parts = [HEAD]
    for title, model in SECTIONS:
        parts += [f"## {title}\n", "| setting | default | meaning |\n|---|---|---|"]
        parts += [*rows(model, own=True, prefix="TMPNB_"), ""]
    parts += [POOLS, "| field | default | meaning |\n|---|---|---|", *rows(PoolSpec, own=False, prefix="")]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
