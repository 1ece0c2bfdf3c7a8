"""A run of the simulated cluster that a seed decides."""

import random

from tests.faults.history import History, Kind
from tests.faults.simulated_stage import Stage


def run(seed: int, steps: int = 40, user_domain: str = "") -> History:
    """Load and faults by chance, then calm. ``user_domain``: servers have host names below it, and the same seed makes
    another history."""
    chance = random.Random(seed)
    stage = Stage(user_domain=user_domain)

    def pick() -> int:
        return chance.randrange(1000)

    actions = {
        lambda: stage.ask(Kind.BROWSER): 20,
        lambda: stage.ask(Kind.PROGRAM): 6,
        lambda: stage.ask_again(pick()): 10,
        lambda: stage.ask_again(pick(), Kind.PROGRAM): 2,
        lambda: stage.cull(pick()): 10,
        lambda: stage.leave(pick()): 2,
        lambda: stage.server_ends(pick()): 2,
        lambda: stage.tick(): 20,
        lambda: stage.culler_looks(chance.choice([1.0, 70.0])): 3,
        lambda: stage.crash(pick(), chance.randrange(12)): 5,
        lambda: stage.zombie(pick(), chance.randrange(8)): 4,
        lambda: stage.freeze(pick()): 2,
        stage.restart_agents: 8,
        stage.restart_frontend: 2,
        lambda: stage.store_outage(chance.random() < 0.4): 4,
        stage.lose_records: 2,
        lambda: stage.engine_outage(pick(), chance.random() < 0.4): 3,
        lambda: stage.engine_loses_answers(pick()): 2,
        lambda: stage.deliver_again(pick()): 4,
        lambda: stage.reorder(chance.shuffle): 2,
        lambda: stage.cut(pick()): 1,
        lambda: stage.lose(pick()): 2,
        lambda: stage.mend(pick(), chance.random() < 0.5): 3,
    }
    for action in chance.choices(list(actions), list(actions.values()), k=steps):
        action()
    return stage.calm()
