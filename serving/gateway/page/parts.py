"""What the page is made of: the gateway, what is kept of its indexes, and the frame around every view."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from protoclip.client import ServedModel
from protoclip.search import Store
from serving.gateway.errors import Refused, refused
from serving.gateway.state import Gateway

from .asked import Asked, View
from .clusters import Clusters, find_clusters
from .given import GivenPictures
from .kept import KeptByChange
from .projected import Projected, project_index
from .rendering import Rendering
from .surveys import Survey, survey_of
from .vectors import model_of

_VIEWS: tuple[tuple[View, str], ...] = (("search", "Search"), ("map", "Map"), ("clusters", "Clusters"))


@dataclass(frozen=True)
class PageFrame:
    """What stands around every view.

    Attributes:
        views: name, what it is called, and address of each.
        index: the one that is looked at; "" where there is none.
        entries: in it; None: not known.
        shows_pictures: whether its entries have pictures to show.
        model: that answers; None where none does, and `no_model` says why.
        refusal: for the log, where asking for the model failed.
    """

    view: str
    views: tuple[tuple[str, str, str], ...]
    indexes: tuple[str, ...]
    index: str
    entries: int | None = None
    shows_pictures: bool = False
    model: ServedModel | None = None
    no_model: str = ""
    refusal: Refused | None = None


class Parts:
    """One for each gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.rendering = Rendering()
        self.given = GivenPictures()
        self.surveys: KeptByChange[Survey] = KeptByChange(survey_of)
        self.clusters: KeptByChange[Clusters] = KeptByChange(find_clusters)
        self.maps: KeptByChange[Projected | None] = KeptByChange(project_index)

    def with_index(self, asked: Asked) -> Asked:
        """The same with the index that is meant: the one that is named, or the first one."""
        names = self.gateway.indexes.names()
        return asked if asked.index or not names else replace(asked, index=names[0])

    async def open(self, name: str) -> Store:
        """The index of that name.

        Raises:
            Refused: 404, there is none. IndexFileError: it can't be opened.
        """
        return await asyncio.to_thread(self.gateway.indexes.open, name)

    async def frame(self, asked: Asked, index: Store | None) -> PageFrame:
        """The frame of a view of `index`; None where it can't be opened."""
        frame = PageFrame(asked.view, _views(asked), tuple(self.gateway.indexes.names()), asked.index)
        if index is None:
            return replace(frame, no_model="the index can't be opened")
        survey = await self.surveys.of(asked.index, index)
        frame = replace(frame, entries=survey.total, shows_pictures=self.shows_pictures(asked.index, survey))
        try:
            model = await model_of(self.gateway.client, index)
        except Exception as error:  # noqa: BLE001 - the page is there all the same, and it is logged
            refusal = refused(error)
            return replace(frame, no_model=f"No model answers: {refusal.message}", refusal=refusal)
        if model is None:
            return replace(frame, no_model="The index's model is not served: only examples can be looked for.")
        return replace(frame, model=model)

    def shows_pictures(self, name: str, survey: Survey) -> bool:
        """Whether entries have pictures to show: in the operator's folders, or where the index was built from."""
        settings = self.gateway.settings
        return name in settings.pictures or (settings.pictures_as_built and survey.tells_pictures)


def _views(asked: Asked) -> tuple[tuple[str, str, str], ...]:
    plain = Asked(index=asked.index)
    return tuple(
        (view, name, (asked.of_search() if view == "search" else replace(plain, view=view)).address())
        for view, name in _VIEWS
    )
