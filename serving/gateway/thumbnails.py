"""`GET /thumbnails/{index}/{id}`: small pictures of an index's entries, from the operator's folders alone.

With `pictures_as_built`, an index without folders has them from where it says that it was built from.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protoclip.contract.pixels import PictureError, PixelSpec, decode_reduced
from protoclip.search import Index

from .built_pictures import BuiltPictures
from .errors import Refused, answering, not_found
from .openapi import Paths, operation
from .state import Gateway

_SHOWN = PixelSpec(height=1, width=1, color_management="srgb")
_STORED = PixelSpec(height=1, width=1)
_FACTORS = (8, 4, 2)
_AT_ONCE = 2
Key: TypeAlias = tuple[str, int, int]


class Thumbnails:
    """Makes small pictures, and keeps what it has made, up to a number of bytes."""

    def __init__(self, edge: int, cache_bytes: int) -> None:
        self._edge = edge
        self._most = cache_bytes
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def make(self, roots: tuple[Path, ...], name: str) -> bytes:
        """JPEG of the picture `name` below one of `roots`, longest side at most the edge, on white, in sRGB.

        Raises:
            Refused: 404 where there is none, where it lies elsewhere, can't be read as a picture, or where several
                roots have one of this name, of which nobody can say whose entry it is.
        """
        with ExitStack() as files:
            found = {}
            for root in roots:
                opened = _open_below(root, name)
                if opened is not None:
                    found[opened[0]] = files.enter_context(opened[1])
            if len(found) != 1:
                raise _nothing()
            return self._of(*found.popitem())

    def made_of(self, key: Key, read: Callable[[], bytes]) -> bytes:
        """The same of the picture file that `read` gives; `key` is another one where that has changed.

        Raises:
            Refused: 404, it can't be read as a picture; and what `read` raises.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _thumbnail(read(), self._edge)
        self._keep(key, made)
        return made

    def _of(self, place: str, file: io.FileIO) -> bytes:
        facts = os.fstat(file.fileno())
        if facts.st_size > _SHOWN.max_bytes:
            raise _nothing()
        key = (place, facts.st_mtime_ns, facts.st_size)
        return self.made_of(key, lambda: file.read(_SHOWN.max_bytes + 1))

    def _keep(self, key: Key, made: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made)
            while self._bytes > self._most and self._kept:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest)


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this module."""
    settings = gateway.settings
    thumbnails = Thumbnails(settings.thumbnail_edge, settings.thumbnail_cache_bytes)
    # Of their own: slow pictures hold up nothing but other thumbnails.
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="thumbnails")
    built = BuiltPictures()

    def as_built(name: str, entry: str) -> bytes:
        index = gateway.indexes.open(name)
        # Where pictures are only an index of this machine says.
        if not isinstance(index, Index) or not index.has_known_picture(entry):
            raise _nothing()
        key = (f"{name}\0{entry}\0{index.change}", -1, -1)
        return thumbnails.made_of(key, lambda: built.bytes_of(name, index, entry))

    async def thumbnail(request: Request) -> Response:
        index, entry = _names(request)
        roots = settings.pictures.get(index)
        # Of an index without folders, and of an id that it does not hold, nothing is looked up on the disk.
        if roots is None and not settings.pictures_as_built:
            raise _nothing()
        if await gateway.indexes.get(index, entry) is None:
            raise _nothing()
        loop = asyncio.get_running_loop()
        if roots is None:
            picture = await loop.run_in_executor(pool, as_built, index, entry)
        else:
            picture = await loop.run_in_executor(pool, thumbnails.make, roots, entry)
        tag = f'"{hashlib.blake2b(picture, digest_size=12).hexdigest()}"'
        # Kept by the browser, and asked for each time: of an entry that was removed it shows no picture any more.
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(picture, media_type="image/jpeg", headers=headers)

    return [Route("/thumbnails/{index}/{entry:path}", answering(thumbnail), methods=["GET"])]


def _names(request: Request) -> tuple[str, str]:
    """Index and id of the path as it was sent: an id may hold what stands for bytes that are no UTF-8."""
    _, _, rest = request.scope["raw_path"].partition(b"/thumbnails/")
    index, _, entry = rest.partition(b"/")
    try:
        return unquote_to_bytes(index).decode(), unquote_to_bytes(entry).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise _nothing() from None


def _open_below(root: Path, name: str) -> tuple[str, io.FileIO] | None:
    """The file `name` below `root`, open; None where there is none, or it lies elsewhere, links followed."""
    try:
        top = root.resolve(strict=True)
        place = (top / name).resolve(strict=True)
        if not place.is_relative_to(top) or place == top:
            return None
        # What was put in its place since is not followed, and a pipe does not hold up anybody.
        number = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError, RuntimeError):
        return None
    file = io.FileIO(number, "rb")
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        return None
    return str(place), file


def _thumbnail(data: bytes, edge: int) -> bytes:
    def factor(width: int, height: int) -> int:
        return next((one for one in _FACTORS if max(width, height) >= 2 * edge * one), 1)

    try:
        try:
            image = decode_reduced(data, _SHOWN, factor).image
        except PictureError:  # its profile may be all that is broken
            image = decode_reduced(data, _STORED, factor).image
    except PictureError as error:
        raise _nothing() from error
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _nothing() -> Refused:
    return not_found("picture_not_found", "there is no picture to show for this entry")


def describe(gateway: Gateway) -> Paths:
    """For /openapi.json."""
    summary = "A small picture of an entry"
    return {
        "/thumbnails/{index}/{id}": {
            "get": operation(summary, "a JPEG", path=("index", "id"), answer_type="image/jpeg")
        }
    }
