"""The views beside the search: clusters, and the map."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from protoclip.search import Store
from serving.gateway.errors import not_found

from .asked import PER_PAGE, Asked
from .cards import Card, make_card, shortened, thumbnail, title_of, visible
from .clusters import Cluster, Clusters
from .parts import Parts
from .projected import points_of

_SHOWN_MEMBERS = 12
_NAMED_AFTER = 3


@dataclass(frozen=True)
class ShownCluster:
    """A cluster on the page: what it is called, its size, some of its members, and where all of them are."""

    said: str
    size: int
    cards: tuple[Card, ...]
    address: str
    first: int = 1
    page: int = 1
    before: str = ""
    after: str = ""


async def clusters_context(parts: Parts, asked: Asked, index: Store) -> dict[str, Any]:
    """What the template of clusters shows: one of them, or all.

    Raises:
        Refused: 404, there is no cluster or page of that number.
    """
    found = await parts.clusters.of(asked.index, index)
    everything = replace(Asked(index=asked.index), view="clusters")
    context: dict[str, Any] = {"all": everything.address(), "total": found.total, "sampled": len(found.of_id)}
    if asked.cluster is None:
        shown = await asyncio.to_thread(_all_clusters, found, index, everything)
        return {**context, "cluster": None, "clusters": shown}
    if asked.cluster >= len(found.clusters):
        raise not_found(
            "cluster_not_found", f"there is no cluster {asked.cluster + 1}: the index may have changed"
        )
    shown_one = await asyncio.to_thread(_one_cluster, found.clusters[asked.cluster], index, asked)
    return {**context, "cluster": shown_one, "clusters": ()}


async def map_context(parts: Parts, asked: Asked, index: Store) -> dict[str, Any]:
    """What the template of the map shows.

    Raises:
        Refused: 404, the index has too few entries.
    """
    found = await parts.maps.of(asked.index, index)
    if found is None:
        raise not_found("no_map", "a map needs three entries or more")
    fields = {"index": asked.index, "colour": asked.colour}
    shows = parts.shows_pictures(asked.index, await parts.surveys.of(asked.index, index))
    return {
        "total": found.total,
        "sampled": len(found.entries),
        "shares": found.shares,
        "colours": [column.name for column in found.columns],
        "points": f"page/points?{urlencode(fields, errors='surrogatepass')}",
        "search": f"./?{urlencode({'index': asked.index})}&like=",
        "pictures": thumbnail(asked.index, "") if shows else "",
        "clusters": replace(Asked(index=asked.index), view="clusters").address(),
    }


async def map_points(parts: Parts, asked: Asked, index: Store) -> dict[str, Any]:
    """The map's points, ready for JSON; errors as `map_context`."""
    found = await parts.maps.of(asked.index, index)
    if found is None:
        raise not_found("no_map", "a map needs three entries or more")
    by_column = any(column.name == asked.colour for column in found.columns)
    clusters = None if by_column else await parts.clusters.of(asked.index, index)
    return await asyncio.to_thread(points_of, found, asked.colour, clusters)


def _all_clusters(found: Clusters, index: Store, asked: Asked) -> list[ShownCluster]:
    return [
        ShownCluster(
            said=_said(cluster, cards := _cards(index, cluster.ids[:_SHOWN_MEMBERS], None, asked)),
            size=len(cluster.ids),
            cards=tuple(cards),
            address=replace(asked, cluster=cluster.number).address(),
        )
        for cluster in found.clusters
    ]


def _one_cluster(cluster: Cluster, index: Store, asked: Asked) -> ShownCluster:
    start = PER_PAGE * (asked.page - 1)
    ids = cluster.ids[start : start + PER_PAGE]
    if not ids:
        raise not_found("page_not_found", f"the cluster has no page {asked.page}")
    named_after = _cards(index, cluster.ids[:_NAMED_AFTER], None, asked)
    return ShownCluster(
        said=_said(cluster, named_after),
        size=len(cluster.ids),
        cards=tuple(_cards(index, ids, cluster.cosines[start : start + PER_PAGE].tolist(), asked)),
        address=asked.address(),
        first=start + 1,
        page=asked.page,
        before=replace(asked, page=asked.page - 1).address() if asked.page > 1 else "",
        after=replace(asked, page=asked.page + 1).address() if start + PER_PAGE < len(cluster.ids) else "",
    )


def _cards(index: Store, ids: Sequence[str], scores: Sequence[float] | None, asked: Asked) -> list[Card]:
    """Cards of the entries that are still there."""
    plain = Asked(index=asked.index)
    found = []
    for place, name in enumerate(ids):
        entry = index.get(name)
        if entry is not None:
            score = None if scores is None else scores[place]
            found.append(make_card(name, entry.metadata, score, plain, asked.index))
    return found


def _said(cluster: Cluster, cards: Sequence[Card]) -> str:
    titles = list(dict.fromkeys(shortened(card.title, 40) for card in cards))[:_NAMED_AFTER]
    return ", ".join(titles) or shortened(visible(title_of(cluster.ids[0], {})), 40)
