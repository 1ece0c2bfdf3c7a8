"""Reading HAProxy's answers."""

from proxy.runtime_api.port import Counters
from proxy.runtime_api.unix_socket import PAYLOAD_BYTES, parse_counters, parse_guests, parse_kinds, payloads

LINES = """\
# table: activity, type: string, size:102400, used:2
0x7f4c4dbaa3a0: key=abcdefghijkm use=1 exp=3592000 shard=0 conn_cur=1 bytes_in_cnt=350 bytes_out_cnt=1523 gpc0=3 gpc1=2
0x7f4c4dbaa3a1: key=22cdefghijkm use=0 exp=3600000 shard=0 conn_cur=0 bytes_in_cnt=0 bytes_out_cnt=0 gpc0=0 gpc1=0

"""


def test_the_lines_of_a_stick_table_become_counters() -> None:
    assert dict(parse_counters(LINES.splitlines())) == {
        "abcdefghijkm": Counters(requests=3, opened=2, open=1, bytes_in=350, bytes_out=1523, idle_s=8.0),
        "22cdefghijkm": Counters(),
    }


def test_the_kinds_of_requests_are_read_from_their_own_table() -> None:
    line = "0x1: key=abc use=0 exp=3600000 shard=0 conn_cur=0 bytes_in_cnt=9 bytes_out_cnt=8 gpc0=3 gpc1=0 gpc15=3"
    assert dict(parse_kinds([line])) == {"abc": Counters(bytes_in=9, bytes_out=8, kinds=(3, *[0] * 14, 3))}


def test_entries_go_out_in_pieces_that_haproxy_takes() -> None:
    lines = [f"{number:0600d}\n" for number in range(100)]
    pieces = list(payloads(lines))
    assert "".join(pieces) == "".join(lines)
    assert max(map(len, pieces)) <= PAYLOAD_BYTES
    assert list(payloads([])) == []


def test_lines_that_are_no_entries_are_left_out() -> None:
    assert dict(parse_counters(["Unknown table", "", "0x1: key="])) == {}


def test_the_sessions_of_guests_are_found_by_their_server() -> None:
    lines = [
        "0x7f61ab6a8000: [27/Nov/2026:19:24:43.522861] id=27 proto=tcpv4 source=172.23.0.1:59984\n",
        "  backend=users-json (id=4 mode=http) addr=172.23.0.2:39916\n",
        "  server=guest (id=3) addr=172.23.0.1:53251\n",
        "0x7f61ab6a8001: [27/Nov/2026:19:24:43.522861] id=28 proto=tcpv4 source=172.23.0.1:59984\n",
        "  server=user (id=1) addr=172.23.0.1:53251\n",
        "0x7f61ab6a8002: [27/Nov/2026:19:24:43.522861] id=29 proto=tcpv6 source=fd00::9:59984\n",
        "  server=guest (id=3) addr=fd00::1:53251\n",
        "0x7f61ab6a8003: [27/Nov/2026:19:24:43.522861] id=30 proto=tcpv4 source=172.23.0.1:59984\n",
        "  server=guest (id=3) addr=172.23.0.1:53252\n",
        "  server=<NONE> (id=-1)\n",
    ]
    assert list(parse_guests(lines, {"53251@172.23.0.1", "53251@fd00::1"})) == ["0x7f61ab6a8000", "0x7f61ab6a8002"]
    assert list(parse_guests(lines, ())) == []
