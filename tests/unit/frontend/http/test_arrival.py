"""When a request is here in whole. What gunicorn then makes of it is in tests/integration/test_frontend.py."""

import pytest

from frontend.http.arrival import HEAD_MAX_BYTES, Arrival, arrival_worker
from frontend.http.gunicorn import gunicorn_settings
from frontend.settings import PUBLIC_BODY_MAX_BYTES, AdminSettings

BODY_MAX_BYTES = 128 * 1024

HEAD = b"POST /login HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

WHOLE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    HEAD + b"Content-Length: 3\r\n\r\nabc",
    HEAD + b"content-length:\t003 \r\nX: y\r\n\r\nabc",
    HEAD + b"Content-Length: 0\r\n\r\n",
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    CHUNKED + b"5 ;a=b\r\n0\r\n\r\n\r\n0\r\nX: y\r\n\r\n",
    CHUNKED + b"A\r\n0123456789\r\n1\r\na\r\n00\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", WHOLE)
def test_a1_a_request_is_whole_with_its_last_byte_and_not_before(request_bytes: bytes) -> None:
    arrival = Arrival(BODY_MAX_BYTES)
    for number in range(len(request_bytes)):
        assert not arrival.is_whole, request_bytes[:number]
        arrival.add(request_bytes[number : number + 1])
        assert arrival.refusal is None
    assert arrival.is_whole
    at_once = Arrival(BODY_MAX_BYTES)
    at_once.add(request_bytes + b"GET /next HTTP/1.1\r\n")
    assert at_once.is_whole
    assert bytes(at_once.data).endswith(b"GET /next HTTP/1.1\r\n"), "what follows is the next request's"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nCookie: " + b"a" * HEAD_MAX_BYTES, 431),
        (b"GET / HTTP/1.1\r\nCookie: " + b"a" * HEAD_MAX_BYTES + b"\r\n\r\n", 431),
        (HEAD + f"Content-Length: {BODY_MAX_BYTES + 1}\r\n\r\n".encode(), 413),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (CHUNKED + b"80000\r\n" + b"a" * 2 * BODY_MAX_BYTES, 413),
        (CHUNKED + b"1\r\na\r\n" * BODY_MAX_BYTES, 413),
        (CHUNKED + b"x\r\n", 400),
        (CHUNKED + b"-1\r\n", 400),
        (CHUNKED + b"fffffffff\r\n", 400),
        (CHUNKED + b"1" * 301, 400),
        (CHUNKED + b"0\r\n" + b"X: " + b"y" * 2 * BODY_MAX_BYTES, 413),
    ],
)
def test_a1_what_grows_beyond_its_bound_is_refused(request_bytes: bytes, status: int) -> None:
    arrival = Arrival(BODY_MAX_BYTES)
    for at in range(0, len(request_bytes), 65536):
        arrival.add(request_bytes[at : at + 65536])
    assert arrival.refusal is not None
    assert arrival.refusal[0] == status


def test_a1_an_end_inside_a_chunk_is_none() -> None:
    arrival = Arrival(BODY_MAX_BYTES)
    arrival.add(CHUNKED + b"ff\r\n0\r\n\r\n")
    assert not arrival.is_whole
    assert arrival.refusal is None


def test_a1_a_worker_has_the_bounds_of_the_settings() -> None:
    settings = AdminSettings(request_s=3, body_max_bytes=200_000, arriving_max_bytes=2_000_000)
    worker = gunicorn_settings(settings)["worker_class"]
    assert worker.settings is settings
    assert arrival_worker(AdminSettings()).settings is not worker.settings


def test_a1_the_bounds_are_those_of_haproxy() -> None:
    import re
    from pathlib import Path

    config = (Path(__file__).parents[4] / "proxy" / "haproxy" / "haproxy.cfg").read_text()
    assert re.findall(r"tune\.bufsize +(\d+)", config) == [str(HEAD_MAX_BYTES)]
    assert set(re.findall(r"req\.body_size gt ([1-9]\d*)", config)) == {str(PUBLIC_BODY_MAX_BYTES)}
    assert re.findall(r"at-least (\d+)", config) == [str(PUBLIC_BODY_MAX_BYTES + 1)]
