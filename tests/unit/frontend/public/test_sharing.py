"""Whom the owner of a seat lets in: links that are opened once, guests, and their end."""

from collections.abc import Sequence

import pytest

from common.broker.events import Events
from common.broker.memory import MemoryBroker
from common.ids import digest, is_seat_key, new_seat_key, server_token_of
from common.records.servers import Claim
from common.store.cluster import Cluster
from common.store.memory import MemoryStore
from common.store.port import Write
from frontend.public.sharing.sharing import LinkOver, NoRoom, Sharing
from tests.unit.frontend.fakes import Clock, end_server, put_claim, records, settings, user_id

ANNA = user_id(1)


class RacingStore(MemoryStore):
    """Another frontend is faster, once, just before a transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.rival: Sharing | None = None
        self.code = ""

    def write_all(self, writes: Sequence[Write]) -> bool:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival.open_link(self.code, "rival")
        return super().write_all(writes)


class Seat:
    """Anna's seat, and a frontend."""

    def __init__(self, clock: Clock, **changes: object) -> None:
        self.store, self.clock, self.key, self.broker = RacingStore(), clock, new_seat_key(), MemoryBroker()
        self.settings = settings(**changes)
        self.sharing = self.replica()
        put_claim(self.store, ANNA, seat=digest(self.key), token_digest=digest(server_token_of(self.key)))

    def replica(self) -> Sharing:
        events = Events(self.broker.publisher(), now=self.clock.now)
        return Sharing(Cluster(self.store, "main"), self.settings, self.clock.now, events)

    @property
    def claim(self) -> Claim:
        claim = self.sharing.own_seat(ANNA, self.key)
        assert claim is not None
        return claim

    def link(self, note: str = "") -> str:
        return self.sharing.make_link(self.claim, self.key, "lab", note, "r" * 32)[0]

    def open(self, code: str) -> str:
        return self.sharing.open_link(code, "r" * 32).key

    def notes(self) -> list[str]:
        return [guest.note for guest in self.sharing.guests(self.claim)]


@pytest.fixture
def seat(clock: Clock) -> Seat:
    return Seat(clock)


def test_a_link_lets_one_in_by_a_key_of_their_own_whose_digest_was_known_before(seat: Seat) -> None:
    code = seat.link("Bert")
    (known,) = seat.sharing.guests(seat.claim)
    assert known.joined_at is None, "in without having opened the link"
    opened = seat.sharing.open_link(code, "r" * 32)
    assert (opened.user, opened.path, is_seat_key(opened.key)) == (ANNA, "lab", True)
    assert opened.key != seat.key
    assert opened.token == server_token_of(seat.key), "the application asks for it"
    (guest,) = seat.sharing.guests(seat.claim)
    assert digest(opened.key) == guest.digest == known.digest
    assert (guest.note, guest.joined_at) == ("Bert", seat.clock.now())


@pytest.mark.parametrize("token", ["", "from before there were keys"])
def test_a_server_without_a_token_or_with_another_one_is_shared_without_it(seat: Seat, token: str) -> None:
    put_claim(seat.store, ANNA, seat=digest(seat.key), token_digest=digest(token) if token else "")
    assert seat.sharing.open_link(seat.link(), "r" * 32).token == ""


def test_a_link_opens_once(seat: Seat) -> None:
    code = seat.link()
    seat.open(code)
    with pytest.raises(LinkOver):
        seat.open(code)
    assert not seat.store.list("tmpnb/main/links/").entries


def test_of_two_who_open_a_link_at_once_one_gets_in(seat: Seat) -> None:
    code = seat.store.code = seat.link()
    seat.store.rival = seat.replica()
    with pytest.raises(LinkOver):
        seat.open(code)
    assert [guest.joined_at for guest in seat.sharing.guests(seat.claim)] == [seat.clock.now()]


def test_links_opened_at_once_all_let_their_guests_in(seat: Seat) -> None:
    seat.store.code, other = seat.link("first"), seat.link("second")
    seat.store.rival = seat.replica()
    seat.open(other)
    assert all(guest.joined_at for guest in seat.sharing.guests(seat.claim))


@pytest.mark.parametrize("code", ["", "a" * 31, "a" * 32, "A" * 32, "ä" * 32, "../../routes/x", "a" * 5000])
def test_a_code_that_was_never_made_opens_nothing(seat: Seat, code: str) -> None:
    with pytest.raises(LinkOver) as caught:
        seat.open(code)
    assert not caught.value.has_expired


def test_what_does_not_look_like_a_code_is_not_looked_for(seat: Seat) -> None:
    seat.store.outage(True)
    with pytest.raises(LinkOver):
        seat.sharing.find_link("a" * 33)


def test_a_link_expires_and_says_so(seat: Seat) -> None:
    code = seat.link()
    seat.clock.advance(3599)
    assert seat.sharing.find_link(code).user == ANNA
    seat.clock.advance(1)
    with pytest.raises(LinkOver) as caught:
        seat.open(code)
    assert caught.value.has_expired
    assert seat.notes() == []


def test_a_guest_is_shut_out_and_a_link_taken_back(seat: Seat) -> None:
    seat.open(seat.link("in"))
    code = seat.link("not yet")
    assert seat.notes() == ["in", "not yet"]
    first, second = seat.sharing.guests(seat.claim)
    assert seat.sharing.revoke(seat.claim, first.id, "r" * 32) == 1
    assert seat.notes() == ["not yet"]
    assert seat.sharing.revoke(seat.claim, second.id, "r" * 32) == 1
    with pytest.raises(LinkOver):
        seat.open(code)
    assert seat.sharing.revoke(seat.claim, second.id, "r" * 32) == 0


def test_all_are_shut_out_at_once(seat: Seat) -> None:
    for number in range(3):
        seat.open(seat.link(f"guest {number}"))
    seat.link("link")
    assert seat.sharing.revoke(seat.claim, None, "r" * 32) == 4
    assert seat.notes() == []
    assert not seat.store.list("tmpnb/main/links/").entries


def test_a_seat_has_so_many_links_and_guests(clock: Clock) -> None:
    seat = Seat(clock, seat_links_max=2, seat_guests_max=1)
    first, second = seat.link("first"), seat.link("second")
    with pytest.raises(NoRoom) as caught:
        seat.link("third")
    assert caught.value.limit == 2
    seat.open(first)
    with pytest.raises(NoRoom):
        seat.open(second)
    seat.sharing.revoke(seat.claim, seat.sharing.guests(seat.claim)[0].id, "r" * 32)
    seat.open(second)
    assert seat.notes() == ["second"]


def test_expired_links_make_room(clock: Clock) -> None:
    seat = Seat(clock, seat_links_max=1)
    seat.link("first")
    clock.advance(3600)
    seat.link("second")
    assert seat.notes() == ["second"]


def test_only_the_owner_s_key_is_the_owner_s(seat: Seat) -> None:
    guest = seat.open(seat.link())
    for key in (guest, new_seat_key(), "", "x"):
        assert seat.sharing.own_seat(ANNA, key) is None
    put_claim(seat.store, ANNA)  # of a pool whose seats are open
    for key in (seat.key, ""):
        assert seat.sharing.own_seat(ANNA, key) is None


def test_a_share_ends_with_its_seat(seat: Seat) -> None:
    code = seat.link()
    seat.open(seat.link())
    end_server(seat.store, ANNA)
    with pytest.raises(LinkOver):
        seat.open(code)
    seat.key = new_seat_key()  # a server was made again at the same address
    put_claim(seat.store, ANNA, seat=digest(seat.key))
    assert seat.notes() == []
    with pytest.raises(LinkOver):
        seat.open(code)
    seat.link("anew")
    assert seat.notes() == ["anew"]


def test_a_share_that_consul_has_lost_opens_nothing(seat: Seat) -> None:
    code = seat.link()
    records(seat.store).shares.delete(ANNA)
    with pytest.raises(LinkOver):
        seat.open(code)


def test_a_link_made_with_another_secret_opens_nothing(seat: Seat) -> None:
    code = seat.link()
    seat.settings = settings(secret_key="another key only for tests")
    with pytest.raises(LinkOver):
        seat.replica().open_link(code, "r" * 32)


def test_neither_code_nor_key_is_stored_or_told(seat: Seat, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    code = seat.link("Bert")
    stored = [entry.value for entry in seat.store.list("").entries]
    key = seat.open(code)
    stored += [entry.value for entry in seat.store.list("").entries]
    seat.sharing.revoke(seat.claim, None, "r" * 32)
    told = repr([record.__dict__ for record in caplog.records])
    for event in ("link.made", "link.opened", "guest.revoked"):
        assert event in told
    assert "Bert" not in told
    for secret in (code, key, server_token_of(seat.key)):
        assert secret not in told
        assert secret.encode() not in b"".join(stored)
