"""Pictures that people gave to search by: their vectors, and small copies, for as long as there is room."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from protoclip.client.transport import Vector
from serving.gateway.errors import Refused

_NUM_KEPT = 256


@dataclass(frozen=True)
class GivenPicture:
    """One of them.

    Attributes:
        name: of the file, as the browser said.
        vector: `[D]`, unit norm.
        fingerprint: of the model that made the vector.
        small: the picture as WebP.
    """

    name: str
    vector: Vector = field(repr=False)
    fingerprint: str
    small: bytes = field(repr=False)


class GivenPictures:
    """The last 256, each under a word that can't be guessed. The picture itself is not kept."""

    def __init__(self, most: int = _NUM_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[str, GivenPicture] = OrderedDict()

    def keep(self, picture: GivenPicture) -> str:
        """The word for it."""
        word = secrets.token_urlsafe(16)
        self._kept[word] = picture
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return word

    def get(self, word: str) -> GivenPicture:
        """The picture.

        Raises:
            Refused: 410, it is not kept any more, or was never given here.
        """
        found = self._kept.get(word)
        if found is None:
            raise Refused(410, "picture_gone", "the picture is not kept any more: give it again")
        self._kept.move_to_end(word)
        return found

    def find(self, word: str) -> GivenPicture | None:
        """The picture, or None."""
        return self._kept.get(word)
