"""Fixtures of the frontend's unit tests: the application on fakes."""

import pytest
from flask.testing import FlaskClient

from tests.unit.frontend.fakes import Clock, FakeCluster, settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(clock: Clock) -> FakeCluster:
    """One frontend, one pool, one agent that serves at once."""
    return FakeCluster(settings(), clock)


@pytest.fixture
def browser(cluster: FakeCluster) -> FlaskClient:
    return cluster.client
