"""A gateway over an artifact in its own process, with an index of a few pictures: shared by what only asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_shop import Shop, make_shop
from running_gateway import RunningGateway, running_gateway


@pytest.fixture(scope="session")
def shop(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Read only."""
    return make_shop(tmp_path_factory.mktemp("shop"), tiny_artifact)


@pytest.fixture(scope="session")
def gateway(tiny_artifact: Path, shop: Shop) -> Iterator[RunningGateway]:
    """Without keys."""
    with running_gateway(
        url=str(tiny_artifact), indexes={"shop": shop.index}, pictures={"shop": (shop.pictures,)}
    ) as running:
        yield running
