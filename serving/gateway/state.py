"""What all routes of a gateway share."""

from __future__ import annotations

from dataclasses import dataclass, field

from protoclip.client import AsyncClient

from .class_banks import ClassBanks
from .indexes import Indexes
from .metrics import Metrics
from .settings import GatewaySettings
from .upstream import Upstream


@dataclass(frozen=True)
class Gateway:
    """A gateway's parts; `request.app.state.gateway` in every route.

    Attributes:
        client: asks the models; one for all requests.
        settings: what it was started with.
        indexes: the search indexes by name.
        class_banks: saved classes by name.
        metrics: what /metrics shows.
        upstream: passes requests on over HTTP, to the server's /v2 and to services of `settings.forward`.
    """

    client: AsyncClient
    settings: GatewaySettings
    indexes: Indexes
    class_banks: ClassBanks
    metrics: Metrics = field(default_factory=Metrics)
    upstream: Upstream = field(default_factory=Upstream)


def make_gateway(settings: GatewaySettings) -> Gateway:
    """The parts that `settings` name. Nothing is sent or opened yet, but an artifact's folder is loaded.

    Raises:
        ConfigError: an address that is none.
        ModelError: a folder that is no artifact, or does not run here.
    """
    client = AsyncClient(
        settings.url,
        model=settings.model,
        timeout_s=settings.timeout_s,
        concurrency=settings.concurrency,
        # All of its clients compare vectors with one another: they have to get the same model.
        canary=False,
    )
    return Gateway(client, settings, Indexes(settings.indexes), ClassBanks(settings.class_banks))
