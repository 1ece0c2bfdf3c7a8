"""Reading HAProxy's answers."""

from proxy.runtime_api.port import Counters
from proxy.runtime_api.unix_socket import PAYLOAD_BYTES, parse_counters, parse_kinds, payloads

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
