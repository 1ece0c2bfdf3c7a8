"""The checker's own test: every broken build is found out, by the invariant it breaks, in runs that the real one
passes. Simulated, so that a seed decides everything."""

import logging
from collections.abc import Iterator

import pytest

from tests.faults.checker import RULES, check
from tests.faults.history import Outcome
from tests.faults.mutations import DOMAIN, MUTATIONS
from tests.faults.simulated_agent import hurry
from tests.faults.simulation import run

# Each of these once found something: a ticket's last message was dropped because an agent that had ended held it; a
# server without a mark was given away although the culler had closed a claim of it; of two servers at one path the one
# that its learner had left was kept, because its host was the first to write records that Consul had lost.
FOUND = (398, 537, 1657, 1129, 1667, 1923, 1961, 1688)
SEEDS = (*FOUND, *range(60))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    hurry(monkeypatch)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("user_domain", ["", DOMAIN], ids=["paths", "host names"])
def test_the_real_build_passes_every_run(user_domain: str) -> None:
    served, returned = 0, 0
    for seed in SEEDS:
        history = run(seed, user_domain=user_domain)
        assert check(history) == [], f"seed {seed}"
        there = [request for request in history.requests if request.outcome is Outcome.SERVED]
        served += len(there)
        returned += sum(bool(request.path_of) for request in there)
    assert served > 5 * len(SEEDS), "the runs prove nothing when nobody is served"
    assert returned > len(SEEDS) / 4, "nor when nobody comes back to their address"


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_build_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation = MUTATIONS[name]
    mutation.apply(monkeypatch)
    found = (violation for seed in SEEDS for violation in check(run(seed, user_domain=mutation.user_domain)))
    evidence = next((violation for violation in found if violation.invariant == mutation.breaks), None)
    assert evidence is not None, f"no run shows that {mutation.breaks} is broken"
    print(f"{name}: {evidence}")


def test_there_is_a_mutation_for_every_invariant() -> None:
    assert {mutation.breaks for mutation in MUTATIONS.values()} == set(RULES)
