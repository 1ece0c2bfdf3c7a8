"""Runs lego, which speaks ACME: one certificate per run.

The only module that knows lego's options, its files and what it says. Belongs to one thread.
"""

import hashlib
import logging
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from common.errors import TransientError
from common.settings import environment
from proxy.acme.settings import AcmeSettings
from proxy.certificates.pem import Certificate, Refused, read

log = logging.getLogger(__name__)

# Found as a shell would.
LEGO = "lego"
# How often a running lego is looked at: to beat the heart, and to hear that the process is to stop.
LOOK_S = 1.0
# Until one that was asked to stop is killed.
STOP_S = 3.0
ERROR_CHARS = 600
# A shorter value ("60", "https") is no secret, and taking it out would spoil the text.
SECRET_CHARS = 6
# What lego does not say itself: which of our settings it is about.
HINTS = {
    "unrecognized DNS provider": "TMPNB_ACME_DNS; not every lego has all providers, see docs/operations.md",
    "credentials information are missing": "the file TMPNB_ACME_ENV_FILE does not have them",
}
# Of every container, and in every other path or address.
PUBLIC = {"PATH", "HOME", "HOSTNAME", "LANG", "PWD", "PYTHONPATH", "LEGO_CA_CERTIFICATES"}
# "2026/11/27 15:04:05 [INFO] [workshop.example.org] acme: use http-01 solver"
_LOGGED = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (\[INFO\] )?", re.MULTILINE)
_KIND = re.compile(r"urn:ietf:params:acme:error:(\w+)")
# As Let's Encrypt says it: "retry after 2026-11-27T15:04:05Z", in older words with a space and "UTC".
_RETRY_AFTER = re.compile(r"retry after (\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)", re.IGNORECASE)


class NotObtained(TransientError):
    """There is no (new) certificate. The text is lego's own."""

    def __init__(self, text: str, kind: str = "", not_before: datetime | None = None) -> None:
        """``kind``: what ACME calls the error (``dns``, ``rateLimited``); empty: it did not come so far.
        ``not_before``: when the server wants to be asked again."""
        super().__init__(text)
        self.kind = kind
        self.not_before = not_before


class Stopped(Exception):
    """The process is to end, and lego was ended."""


class Lego:
    """lego with our settings."""

    def __init__(self, settings: AcmeSettings, stopping: threading.Event, beat: Callable[[], None]) -> None:
        """``stopping`` ends a running lego; ``beat`` is called while one runs."""
        self._settings = settings
        self._stopping = stopping
        self._beat = beat
        # A server's certificates are of no use with another one, which an operator may just be trying out.
        host = urlsplit(settings.acme_server).netloc.replace(":", "_")
        digest = hashlib.sha256(settings.acme_server.encode()).hexdigest()[:8]
        #: lego's own directory: accounts and certificates of one ACME server.
        self.folder = settings.acme_dir / f"{host}-{digest}"

    def read(self, name: str) -> Certificate:
        """What was obtained for the name. Raises ``OSError``; ``Refused``, also for a new chain beside an old key: a
        crash between two writes leaves that behind."""
        stem = self.folder / "certificates" / file_stem(name)
        chain, key = (stem.with_name(stem.name + ending) for ending in (".crt", ".key"))
        return read(chain.read_bytes(), key.read_bytes())

    def obtain(self, name: str) -> Certificate:
        """Have a certificate of its own, with a new key, issued for the name. Raises ``NotObtained``,
        ``Stopped``."""
        said = self._run(name)
        try:
            if said:
                raise self._failure(said)
            return self.read(name)
        except (OSError, Refused) as exc:
            raise NotObtained(f"lego has obtained something that cannot be used: {exc}") from exc

    def _run(self, name: str) -> str:
        """What lego says of its failure; empty: there is none."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        variables = self._variables()
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(  # noqa: S603 an operator's own options
                    self._command(name), env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            except OSError as exc:
                return str(exc)
            in_time = self._wait(process)
            output.seek(0)
            said = without(variables, output.read().decode(errors="replace"), name)
        log.debug("lego ended", extra={"certificate": name, "status": process.returncode, "said": said})
        if not in_time:
            said += f"ended after {self._settings.acme_timeout_s:g} s (TMPNB_ACME_TIMEOUT_S)"
        return "" if process.returncode == 0 else said or f"lego ended with {process.returncode}"

    def _failure(self, said: str) -> NotObtained:
        error = failure(said)
        if error.kind == "accountDoesNotExist":
            # Closed, or forgotten by a server that is only for trying: its key stays, and the next run registers it.
            for account in self.folder.glob("accounts/*/*/account.json"):
                account.unlink(missing_ok=True)
        return error

    def _command(self, name: str) -> list[str]:
        settings = self._settings
        challenge = (
            ("--dns", settings.acme_dns) if settings.acme_dns else ("--http", f"--http.port=:{settings.acme_port}")
        )
        account = ("--accept-tos", "--email", settings.email, "--server", settings.acme_server)
        # Not "renew": it wants the account and the certificate of before to be there, and decides itself when.
        return [
            LEGO,
            "--path",
            str(self.folder),
            *account,
            *challenge,
            *settings.acme_options,
            "--domains",
            name,
            "run",
        ]

    def _variables(self) -> dict[str, str]:
        """A provider's, and none of ours."""
        given = {name: value for name, value in environment().items() if not name.startswith("TMPNB_")}
        return given | ({"LEGO_CA_CERTIFICATES": str(self._settings.acme_ca)} if self._settings.acme_ca else {})

    def _wait(self, process: "subprocess.Popen[bytes]") -> bool:
        """Until it ends, or has to; False: it took too long. Raises ``Stopped``."""
        looks = int(self._settings.acme_timeout_s / LOOK_S)
        for _ in range(looks):
            try:
                process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                self._beat()
            else:
                return True
            if self._stopping.is_set():
                break
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._stopping.is_set():
            raise Stopped
        return False


def file_stem(name: str) -> str:
    """As lego names files: ``_.users.example.org`` for ``*.users.example.org``."""
    return name.replace("*", "_")


def without(variables: dict[str, str], said: str, name: str) -> str:
    """What lego said of a name without the values of variables: some providers show a token in the URL that they could
    not ask for."""
    given = {value for variable, value in variables.items() if variable not in PUBLIC}
    secrets = {value for value in given if len(value) >= SECRET_CHARS and value not in name}
    for secret in sorted(secrets | {quote(secret, safe="") for secret in secrets}, key=len, reverse=True):
        said = said.replace(secret, "***")
    return said


def failure(said: str) -> NotObtained:
    """What lego's output says of why there is no certificate."""
    # Its log tells what it did; the last line of that, and what follows, what ended it.
    logged = list(_LOGGED.finditer(said))
    wrong = said[logged[-1].end() :] if logged else said
    text = " ".join(wrong.split())[:ERROR_CHARS] or "lego ended without a word"
    for known, hint in HINTS.items():
        text += f" ({hint})" if known in text else ""
    kinds = _KIND.findall(wrong)
    found = _RETRY_AFTER.search(wrong)
    not_before = datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=UTC) if found else None
    return NotObtained(text, kinds[-1] if kinds else "", not_before)
