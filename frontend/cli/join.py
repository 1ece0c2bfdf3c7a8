"""``tmpnb join``: the text that makes another machine with a Docker Engine a host of this cluster.

Only prints: nothing is sent anywhere, and the cluster learns of the host when its agent announces itself. The options
of ``docker run`` are those of the agent in docker-compose.cluster.yml; deploy/hosts/ has them for other starters.
"""

import ipaddress
import re
import shlex
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import TypeAdapter, ValidationError

from common.records.base import IMAGE, Name
from common.records.base import Labels as HostLabels
from common.records.pool_fields import absolute_path
from common.settings import UrlList
from frontend.cli.context import settings
from frontend.cli.output import complain
from frontend.settings import CliSettings

CONTAINER = "tmpnb-agent"
SOCKET = "/var/run/docker.sock"
# As the compose file runs it. In the Engine's own network, not the machine's: an agent listens nowhere, and a restarted
# one tells by its container's name that its predecessor is dead (agent/host/predecessor.py). Always restarted: an
# Engine that comes back after a crash ends what still runs, and takes that for an operator's stop.
OPTIONS = (
    f"--detach --name {CONTAINER} --restart always --read-only --tmpfs /tmp:mode=1777,size=64m",
    "--cap-drop ALL --security-opt no-new-privileges --pids-limit 128 --memory 512m --stop-timeout 40",
    "--log-opt max-size=10m --log-opt max-file=3 --health-cmd 'python3 -m common.runtime.heartbeat' "
    "--health-interval 20s",
    f'--user 10001:10001 --group-add "$(stat -c %g {SOCKET})" --volume {SOCKET}:{SOCKET}',
)
# What may stand in a shell's double quotes; names of other machines have nothing else.
_SETTING = re.compile(r"TMPNB_[A-Z0-9_]+=[^\x00-\x1f\x7f]+")
_HOSTNAME = re.compile(r"[A-Za-z0-9._:-]+")

Host = Annotated[str | None, typer.Option(help="The new host's name; its own machine name if left out.")]
Address = Annotated[
    str | None,
    typer.Option(help="Its IP address as the proxies reach it; if left out, the one it talks to Consul from."),
]
Urls = Annotated[str | None, typer.Option(help="As the new host reaches it, comma-separated.")]
Labels = Annotated[str | None, typer.Option(help="Which pools it may serve: gpu=yes,room=a.")]
Directories = Annotated[str | None, typer.Option(help="What pools may mount of it: /srv/data,/srv/home.")]
Network = Annotated[bool, typer.Option("--allow-host-network", help="Whether pools may have its network.")]
Image = Annotated[str | None, typer.Option(help="The agent's image, which is on the host or in a registry.")]
MetricsPort = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Publish the agent's metrics for Prometheus at this port of the address."),
]
More = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting of the agent, any number of times: --set TMPNB_MAX_STARTING=4."),
]
File = Annotated[bool, typer.Option("--file", help="Print the env file for many hosts instead of a command.")]


def install(app: typer.Typer) -> None:
    app.command()(join)


def join(
    host: Host = None,
    address: Address = None,
    consul_urls: Urls = None,
    rabbitmq_urls: Urls = None,
    labels: Labels = None,
    allowed_host_directories: Directories = None,
    allow_host_network: Network = False,
    image: Image = None,
    metrics_port: MetricsPort = None,
    more: More = None,
    file: File = False,
) -> None:
    """Print the command that starts an agent on a new host: tmpnb join | ssh root@HOST sh."""
    chosen = settings()
    consul = _urls("--consul-urls", consul_urls, chosen.agent_consul_urls or chosen.consul_urls, ("http", "https"))
    rabbit = _urls(
        "--rabbitmq-urls", rabbitmq_urls, chosen.agent_rabbitmq_urls or chosen.rabbitmq_urls, ("amqp", "amqps")
    )
    image = image or chosen.agent_image
    _check(host, address, labels, image)
    variables = _variables(chosen, consul, rabbit)
    # The host's own are for the command line, where its shell can fill them in.
    own = {"TMPNB_HOST": host, "TMPNB_ADDRESS": address, "TMPNB_LABELS": labels}
    directories = _directories(allowed_host_directories)
    variables["TMPNB_ALLOWED_HOST_DIRECTORIES"] = ",".join(directories)
    variables["TMPNB_ALLOW_HOST_NETWORK"] = "true" if allow_host_network else None
    variables |= _more(more or [], variables | own)
    if file:
        text = "".join(f"{name}={value}\n" for name, value in (variables | own).items() if value)
    else:
        text = _command(own, variables, directories, image, urlsplit(consul[0]).hostname or "", metrics_port)
    complain("this text holds the cluster's secrets: keep it off shared screens and out of shell histories")
    sys.stdout.write(text)


def _variables(chosen: CliSettings, consul: tuple[str, ...], rabbit: tuple[str, ...]) -> dict[str, str | None]:
    token = chosen.consul_token.get_secret_value() if chosen.consul_token else None
    return {
        "TMPNB_CLUSTER": chosen.cluster,
        "TMPNB_USER_DOMAIN": chosen.user_domain,
        "TMPNB_CONSUL_URLS": ",".join(consul),
        "TMPNB_CONSUL_TOKEN": token,
        "TMPNB_RABBITMQ_URLS": ",".join(rabbit),
        "TMPNB_RABBITMQ_PASSWORD": chosen.rabbitmq_password.get_secret_value(),
    }


def _command(
    own: dict[str, str | None],
    variables: dict[str, str | None],
    directories: tuple[str, ...],
    image: str,
    control: str,
    metrics_port: int | None,
) -> str:
    """A script for any POSIX shell. Secrets are in its standard input and in Docker's, so no list of processes shows
    them; pasted into an interactive shell, they stay out of its history."""
    name = shlex.quote(own["TMPNB_HOST"]) if own["TMPNB_HOST"] else '"$(uname -n | tr A-Z a-z)"'
    lines = ["case $- in *i*) set +o history ;; esac 2>/dev/null  # what follows holds a secret"]
    if own["TMPNB_ADDRESS"]:
        address = own["TMPNB_ADDRESS"]
    else:
        # The address that this machine would use to reach Consul.
        first = "awk '{print $1; exit}'"
        lines.append(f"tmpnb_control=$(getent ahostsv4 {shlex.quote(control)} | {first})")
        source = "sed -n 's/.* src \\([0-9.]*\\).*/\\1/p'"
        lines.append(f'tmpnb_address=$(ip -4 route get "${{tmpnb_control:-none}}" | {source})')
        address = f'"${{tmpnb_address:?no way to {control} from here; see tmpnb join --address}}"'
    environment = f"--env TMPNB_HOST={name} --env TMPNB_ADDRESS={address}"
    # Docker asks nobody for the MTU of the machine's uplink, and servers' downloads hang where theirs is larger.
    uplink = "ip -4 route show default | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p;q'"
    link = f'ip -o link show dev "$({uplink})" 2>/dev/null'
    lines.append(f"tmpnb_mtu=$({link} | sed -n 's/.* mtu \\([0-9]*\\).*/\\1/p')")
    lines.append('[ "${tmpnb_mtu:-1500}" -lt 1500 ] || tmpnb_mtu=')
    environment += " ${tmpnb_mtu:+--env TMPNB_NETWORK_MTU=$tmpnb_mtu}"
    if own["TMPNB_LABELS"]:
        environment += f" --env TMPNB_LABELS={shlex.quote(own['TMPNB_LABELS'])}"
    if metrics_port:
        # Published where servers are, so at the address that the host is known by.
        at = f"[{address}]" if ":" in (own["TMPNB_ADDRESS"] or "") else address
        lines.append(f"tmpnb_metrics={at}:{metrics_port}")
        environment += f" --env TMPNB_METRICS_PORT={metrics_port} --env TMPNB_METRICS_ADDRESS=$tmpnb_metrics"
        environment += f" --publish $tmpnb_metrics:{metrics_port}"
    # The agent looks at what pools may mount, where the host has it; it needs not write there.
    volumes = [f"--volume {shlex.quote(f'{path}:{path}:ro')}" for path in directories]
    options = " \\\n  ".join((*OPTIONS, *volumes, environment))
    lines.append(f"docker run {options} \\\n  --env-file /dev/stdin {shlex.quote(image)} <<'TMPNB_END'")
    lines += [f"{key}={value}" for key, value in variables.items() if value]
    after = 'tmpnb_status=$?; case $- in *i*) set -o history ;; esac 2>/dev/null; (exit "$tmpnb_status")'
    return "\n".join([*lines, "TMPNB_END", after, ""])


def _urls(option: str, given: str | None, default: tuple[str, ...], schemes: tuple[str, ...]) -> tuple[str, ...]:
    urls = TypeAdapter(UrlList).validate_python(given) if given is not None else default
    accepted = f"{schemes[0]}://host:port, comma-separated, as the new host reaches it"
    if not urls:
        _refuse(option, given, accepted)
    for url in urls:
        parts = urlsplit(url)
        name = parts.hostname or ""
        if parts.scheme not in schemes or not _HOSTNAME.fullmatch(name) or any(c.isspace() for c in url):
            _refuse(option, url, accepted)
        if parts.password:
            shown = f"{parts.scheme}://{parts.username}:…@{name}"
            _refuse(option, shown, f"{accepted}; the password is TMPNB_RABBITMQ_PASSWORD")
        # The name of a container, or this machine's loopback: a default that no other machine can use.
        if given is None and ("." not in name or name.startswith("127.")):
            variable = f"TMPNB_AGENT_{option[2:].replace('-', '_').upper()}"
            _refuse(option, url, f"{accepted}; give it, or set TMPNB_CONTROL_IP ({variable})")
    return urls


def _more(given: list[str], known: dict[str, str | None]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for each in given:
        name, _, value = each.partition("=")
        if not _SETTING.fullmatch(each):
            _refuse("--set", each, "TMPNB_NAME=value, on one line")
        if name in known:
            _refuse("--set", name, "settings without an option of their own, or with one that was not given here")
        found[name] = value
    return found


def _directories(given: str | None) -> tuple[str, ...]:
    paths = TypeAdapter(UrlList).validate_python(given or "")
    for path in paths:
        try:
            absolute_path(path)
        except ValueError:
            _refuse("--allowed-host-directories", path, "absolute paths without '..', '//' and ':', comma-separated")
    return tuple(absolute_path(path) for path in paths)


def _check(host: str | None, address: str | None, labels: str | None, image: str) -> None:
    if host is not None:
        try:
            TypeAdapter(Name).validate_python(host)
        except ValidationError:
            _refuse("--host", host, "lower-case letters, digits, '-' and '.'")
    if address is not None:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            _refuse("--address", address, "an IP address")
        if found.is_loopback or found.is_unspecified:
            _refuse("--address", address, "an IP address that the proxies reach, so not this one")
    if labels is not None:
        pairs = [part.partition("=") for part in labels.split(",")]
        try:
            TypeAdapter(HostLabels).validate_python({name: value for name, _, value in pairs})
        except ValidationError:
            _refuse("--labels", labels, "name=value, comma-separated; letters, digits, '-', '_' and '.' in both")
    if not re.fullmatch(IMAGE, image):
        _refuse("--image", image, "an image reference")


def _refuse(option: str, given: str | None, accepted: str) -> None:
    complain(f"{option}: {given!r} is not accepted; accepted: {accepted}")
    raise typer.Exit(2)
