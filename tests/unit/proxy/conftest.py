"""Parts of the sync wired together without Consul and HAProxy."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.store.memory import MemoryStore
from proxy.routes.map_file import MapFile


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def map_file(tmp_path: Path) -> MapFile:
    return MapFile(tmp_path / "routes.map", tmp_path / "want")


@pytest.fixture
def stop(store: MemoryStore) -> Iterator[threading.Event]:
    """The stop event; set at the end, and waiting watches are woken so that their threads end."""
    stop = threading.Event()
    yield stop
    stop.set()
    store.outage(True)
