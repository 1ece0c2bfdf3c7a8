"""Runs on a host: stands between an agent and its Docker Engine and fails now and then. Standard library only.

    python3 flaky_docker.py LISTEN_AT ENGINE_AT SEED

Of new connections and of answers some are cut off. An answer that is cut off was to a call that had been carried out:
the agent cannot know.
"""

import contextlib
import os
import random
import socket
import sys
import threading

REFUSED, CUT = 0.1, 0.1


def forward(source: socket.socket, target: socket.socket, fails: bool, chance: random.Random) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            if fails and chance.random() < CUT:
                break
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main(listen_at: str, engine_at: str, seed: str) -> None:
    chance = random.Random(seed)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(listen_at)  # noqa: PTH108 as small as it can be
    server = socket.socket(socket.AF_UNIX)
    server.bind(listen_at)
    os.chmod(listen_at, 0o666)  # noqa: PTH101
    server.listen(64)
    while True:
        agent, _ = server.accept()
        if chance.random() < REFUSED:
            agent.close()
            continue
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(engine_at)
        for source, target, fails in ((agent, engine, False), (engine, agent, True)):
            threading.Thread(target=forward, args=(source, target, fails, chance), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
