"""An agent whose Docker Engine is on another machine, over TCP with TLS, and what it says when that does not work."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.broker.rabbitmq import RabbitAddress
from tests.migrating.remote_engine import RemoteEngine, make_authority, make_certificate, remote_engine
from tests.support.agent_rig import TERM, AgentProcess, AgentRig
from tests.support.light import IMAGE, build_light_image
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteEngine]:
    build_light_image()
    with remote_engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture
def rig(consul_url: str, rabbitmq: RabbitAddress, tmp_path: Path) -> Iterator[AgentRig]:
    rig = AgentRig(consul_url, rabbitmq, IMAGE, tmp_path)
    rig.apply(rig.spec(pool_size=2, ready=1))
    yield rig
    rig.close()


def says(rig: AgentRig, agent: AgentProcess, *texts: str) -> None:
    """Wait until the host record tells the operator; the log does too, and the agent still runs."""

    def told() -> bool:
        record = rig.record()
        return record is not None and all(text in record.problem for text in texts)

    wait_until(told, f"the host record to say {texts}")
    line = next(line for line in agent.log.read_text().splitlines() if '"waiting"' in line)
    assert all(text in line for text in texts), line
    assert agent.running


@pytest.mark.tmpnb("assert_hostname")
def test_the_daemon_s_name_counts_when_it_is_asked_for(rig: AgentRig, engine: RemoteEngine) -> None:
    """Its certificate is for 127.0.0.1 and nothing else."""
    wrong = rig.start(**engine.environment(engine.address, TMPNB_ASSERT_HOSTNAME="true"))
    says(rig, wrong, f"Docker at tcp://{engine.address}:2376: its certificate is not accepted", "IP address mismatch")
    wrong.signal(TERM)
    by_default = rig.start(**engine.environment(engine.address))
    rig.ready(1)
    assert '"waiting"' not in by_default.log.read_text()


@pytest.mark.tmpnb("assert_hostname")
def test_a_server_on_another_machine_s_engine_is_started_claimed_and_opened(
    rig: AgentRig, engine: RemoteEngine
) -> None:
    rig.start(**engine.environment(TMPNB_ASSERT_HOSTNAME="true"))
    rig.ready(1)
    reply = rig.claim()
    assert rig.visit(reply.url) == 200
    assert {route.address for route in rig.routes().values()} == {engine.address}
    assert [name.endswith(".claimed") for name in engine.names()].count(True) == 1, "renamed over TLS too"
    wait_until(lambda: rig.counts() == (1, 1), "a replacement")


@pytest.mark.tmpnb("assert_hostname")
def test_a_daemon_of_another_authority_is_not_believed_until_it_is_mended(
    rig: AgentRig, engine: RemoteEngine, tmp_path: Path
) -> None:
    certificates = tmp_path / "client"
    shutil.copytree(engine.certificates, certificates)
    other = make_authority(tmp_path / "other")
    shutil.copy(other / "ca.pem", certificates / "ca.pem")
    agent = rig.start(**engine.environment(DOCKER_CERT_PATH=str(certificates)))
    says(rig, agent, "its certificate is not accepted", "(DOCKER_CERT_PATH/ca.pem, TMPNB_ASSERT_HOSTNAME)")
    shutil.copy(engine.certificates / "ca.pem", certificates / "ca.pem")
    rig.ready(1)
    record = rig.record()
    assert record is not None
    assert record.problem == ""


@pytest.mark.tmpnb("assert_hostname")
def test_a_daemon_that_does_not_accept_the_agent_is_said(rig: AgentRig, engine: RemoteEngine, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    make_certificate(other, other, "cert", "clientAuth")
    (other / "cert-key.pem").rename(other / "key.pem")
    shutil.copy(engine.certificates / "ca.pem", other / "ca.pem")
    agent = rig.start(**engine.environment(DOCKER_CERT_PATH=str(other)))
    says(rig, agent, "DOCKER_CERT_PATH/cert.pem")
