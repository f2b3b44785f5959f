"""Names of files as people write them: paths, `file://` addresses, and URLs, which nothing here fetches."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes

# A scheme of one letter is a drive of Windows. fsspec's chains have several schemes: "simplecache::s3://…".
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*(?P<scheme>[a-z][a-z0-9+.-]+:)/(?P<second>/?)", re.IGNORECASE)
_DATA_URI = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)
_FILE = re.compile(r"file://(?:localhost)?/", re.IGNORECASE)
_SLASHES = re.compile(r":/+")
_SHOWN = 120


class AddressError(ValueError):
    """A name stands for no local file; the message is one line and begins with the name, shortened."""


def local_path(name: str) -> str:
    """The path that `name` stands for: itself, or the decoded path of `file:///…` or `file://localhost/…`.

    Whether a file is there is not asked.

    Raises:
        AddressError: empty, a URL, a data URI, or a `file:` address of another machine, with a query or fragment.
    """
    if not name:
        raise AddressError("the path is empty: name a file")
    if _DATA_URI.match(name):
        raise AddressError(f"{shown(name)}: data URIs are not decoded: give the bytes, as of base64.b64decode")
    url = url_of(name)
    if url is None:
        return name
    if url[:5].lower() != "file:":
        raise AddressError(f"{shown(url)}: URLs are not fetched: download it, or give its bytes")
    return _path_of_file_url(name)


def url_of(name: str) -> str | None:
    """The URL that `name` is, also where a Path has made one `/` of its two; None where it is none.

    A Path such as `https:/a` is one into a folder where the working folder has a folder of that name.
    """
    found = _URL.match(name)
    if found is None or (not found["second"] and os.path.isdir(found["scheme"])):  # noqa: PTH112
        return None
    return name if found["second"] else _SLASHES.sub("://", name, count=1)


def shown(name: str) -> str:
    """`name` for a message, in one line and shortened: a data URI may have millions of characters."""
    name = " ".join(name[: 2 * _SHOWN].splitlines())
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 1]}…"


def _path_of_file_url(url: str) -> str:
    start = _FILE.match(url)
    if not url[5:].startswith("//"):
        # A Path of file:///a and one of file://a are the same.
        raise AddressError(f"{shown(url)}: could be an address with a machine's name or without: write file:///…")
    if start is None:
        raise AddressError(f"{shown(url)}: is on another machine: an address of this one begins with file:///")
    if "?" in url or "#" in url:
        raise AddressError(f"{shown(url)}: a ? or # of the file's name is %3F or %23 in an address: write it so")
    return os.fsdecode(unquote_to_bytes("/" + url[start.end() :]))
