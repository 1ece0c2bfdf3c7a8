"""Parts of the sync wired together without Consul and HAProxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.store.memory import MemoryStore
from proxy.routes.map_file import MapFile


@pytest.fixture
def map_file(tmp_path: Path) -> MapFile:
    return MapFile(tmp_path / "routes.map", tmp_path / "map-request")


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    """Waiting watches are woken at the end, so that their threads end."""
    store = MemoryStore()
    yield store
    store.outage(True)
