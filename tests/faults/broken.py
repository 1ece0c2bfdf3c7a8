"""Safeguards against strangers, taken out one at a time, and for each the test that must notice.

As a pytest plugin (``-p tests.faults.broken``, a name in ``TMPNB_BROKEN``) it breaks the real code before any test is
imported; ``test_broken.py`` runs it so. A safeguard that is not where it is looked for ends that run with an error.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

VARIABLE = "TMPNB_BROKEN"
_patch = pytest.MonkeyPatch()
_copies: list[Path] = []


@dataclass(frozen=True, slots=True)
class Broken:
    """``test``: a node id; ``shows``: a part of what the failure says."""

    test: str
    shows: str
    apply: Callable[[pytest.MonkeyPatch], None]


def _each_read_of_a_probe_has_its_own_time(patch: pytest.MonkeyPatch) -> None:
    def wait(self: Any) -> None:
        if time.monotonic() > self._deadline + 5:
            raise TimeoutError  # the test has seen enough
        self._socket.settimeout(2)

    patch.setattr("agent.servers.bounded_http._Reader.wait_no_longer", wait)


def _every_answer_is_ready(patch: pytest.MonkeyPatch) -> None:
    from agent.servers.probe import Readiness

    patch.setattr("agent.servers.probe._judged", lambda answer, *_: Readiness(answer.status > 0))


def _every_cull_waits_for_its_server(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("agent.commands.handler.AVERTED_BY_USE", {"idle", "unvisited", "age"})


def _other_sites_may(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("frontend.public.cross_site.is_foreign", lambda _allowed: False)


def _a_thread_ends_with_its_work(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("common.runtime.threads.Worker._run", lambda self: self._once())


def _consuls_answers_are_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("common.store.consul.ConsulStore._try", lambda self, request, _operation: request(self._client()))


def _numbers_without_bounds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("common.bounds.LONG_S", 10**18)


def _the_first_of_two_cookies_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("frontend.public.session_cookie._Cookie._is_shadowed", lambda _self, _app, _request: False)


def _queries_are_parsed_and_written_anew(patch: pytest.MonkeyPatch) -> None:
    from frontend.public import targets

    split = targets._split_query

    def anew(query: str, *, short: bool = False) -> tuple[str, dict[str, str]]:
        rest, ours = split(query, short=short)
        return urlencode(parse_qsl(rest)), ours

    patch.setattr(targets, "_split_query", anew)


def _a_line_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "frontend.public.spawning.waiting_room.WaitingRoom._check_bounds", lambda _self, _pool, _visitor: None
    )


def _as_many_keys_as_you_like(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("frontend.http.api.key_quota.Quota.take", lambda _self, _visitor: True)


def _haproxy(old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Our HAProxy with ``new`` in the place of ``old`` in its configuration."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        from tests.support.proxy_rig import CONFIG, Rig

        text = (CONFIG / "haproxy.cfg").read_text()
        if text.count(old) != 1:
            raise AttributeError(f"{text.count(old)} times in haproxy.cfg: {old}")
        _copies.append(Path(tempfile.mkdtemp(prefix="tmpnb-broken-")))
        _copies[-1].chmod(0o755)  # HAProxy is nobody in particular
        copy = shutil.copytree(CONFIG, _copies[-1] / "haproxy")
        (copy / "haproxy.cfg").write_text(text.replace(old, new))
        patch.setattr(Rig.__init__, "__defaults__", (None, copy))

    return apply


AGENT, FRONTEND = "tests/unit/agent/", "tests/unit/frontend/"
EDGE = "tests/integration/test_proxy_passing.py::"
BROKEN = {
    "a2 a line without end": Broken(
        FRONTEND + "public/test_queue_bounds.py::test_a2_a_pools_line_is_bounded_and_the_refusal_says_so",
        "[202, 202, ",
        _a_line_without_end,
    ),
    "a3 each read of a probe has its own time": Broken(
        AGENT + "servers/test_probe.py::test_a3_no_answer_holds_a_probe_beyond_its_deadline[a body, a byte at a time]",
        "two deadlines, and a slow machine",
        _each_read_of_a_probe_has_its_own_time,
    ),
    "a3 every cull waits for its server": Broken(
        AGENT + "commands/test_commands.py::test_a3_a_cull_that_is_not_doubted_waits_for_no_server_s_answer[age]",
        "assert False",
        _every_cull_waits_for_its_server,
    ),
    "a4 as many keys as you like": Broken(
        FRONTEND + "public/test_guessed_names.py::test_a4_keys_are_bounded_in_all", "429", _as_many_keys_as_you_like
    ),
    "a6 other sites may": Broken(
        FRONTEND
        + "public/test_cross_site.py::test_a6_a_page_elsewhere_starts_no_server_in_the_background[an image-/spawn]",
        "== 403",
        _other_sites_may,
    ),
    "a8 a thread ends with its work": Broken(
        "tests/unit/common/runtime/test_threads.py::test_a8_a_thread_that_fails_at_once_every_time_is_no_busy_loop",
        "[0.1, 0.2, 0.4]",
        _a_thread_ends_with_its_work,
    ),
    "a8 consul's answers are believed": Broken(
        "tests/unit/common/store/test_store_answers.py::test_a8_a_read_says_store_unavailable_whatever_the_answer_is[[null]]",
        "AttributeError: 'NoneType' object",
        _consuls_answers_are_believed,
    ),
    "a9 numbers without bounds": Broken(
        "tests/unit/test_bounds.py::"
        "test_a9_a_value_that_cannot_work_is_refused_with_the_fields_name['cull_max'-1000000000000.0]",
        "DID NOT RAISE",
        _numbers_without_bounds,
    ),
    "a12 the first of two cookies is believed": Broken(
        FRONTEND + "public/test_session_cookie.py::test_a12_of_two_cookies_with_our_name_none_is_believed",
        "assert 'Return to your server' not in",
        _the_first_of_two_cookies_is_believed,
    ),
    "a12 a server's cookies pass as they are": Broken(
        EDGE + "test_a12_a_cookie_is_narrowed_to_its_server[a=1; Path=/-a=1; Path={own}]",
        "['a=1; Path=/'] == ",
        _haproxy('strcmp(txn.user),bool" -m bool }', 'strcmp(txn.user),bool" -m str no }'),
    ),
    "a13 the first header is not looked at": Broken(
        EDGE + "test_a13_it_does_not_matter_where_a_header_stands[0]",
        "secret",
        _haproxy('"(?n)(^|,)(${TMPNB_CLAIMS}|', '"(?n)(,)(${TMPNB_CLAIMS}|'),
    ),
    "b1 queries are parsed and written anew": Broken(
        FRONTEND + "public/test_links.py::test_b1_a_link_below_spawn_keeps_its_query_and_loses_what_is_ours",
        "My+File.ipynb",
        _queries_are_parsed_and_written_anew,
    ),
    "c1 every answer is ready": Broken(
        AGENT + "servers/test_probe.py::test_c1_ready_is_success_or_the_question_for_a_password[404-False]",
        "assert True is False",
        _every_answer_is_ready,
    ),
}
# Safeguards that nobody has.
GONE: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a function": lambda patch: patch.setattr("frontend.public.cross_site.was_here", None),
    "a module": lambda patch: patch.setattr("frontend.public.was_here.check", None),
    "a rule": _haproxy("http-request was-here", ""),
}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before anything imports what it breaks."""
    name = os.environ.get(VARIABLE)
    if name is None:
        return
    try:
        (GONE[name] if name in GONE else BROKEN[name].apply)(_patch)
    except (KeyError, AttributeError, ImportError) as exc:
        raise pytest.UsageError(f"cannot break {name!r}: {exc}") from exc


def pytest_unconfigure() -> None:
    for copy in _copies:
        shutil.rmtree(copy)
