"""One site for all tests of this folder, and gone before those of the next."""

from collections.abc import Iterator

import pytest

from common.broker.rabbitmq import RabbitAddress
from tests.migrating.site import Site
from tests.support.light import build_light_image


@pytest.fixture(scope="package")
def site(consul_url: str, rabbitmq: RabbitAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    build_light_image()
    site = Site(consul_url, rabbitmq, tmp_path_factory.mktemp("site"))
    try:
        site.start()
        yield site
    finally:
        site.close()
