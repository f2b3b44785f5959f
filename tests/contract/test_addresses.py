"""Which names are paths, which are refused, and how they are shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protoclip.contract.addresses import AddressError, local_path, shown, url_of
from protoclip.contract.errors import ProtoclipError
from protoclip.contract.files import write_text

PATHS = [
    "a.jpg",
    "a:b.jpg",
    "C:/a.jpg",
    "C:\\a.jpg",
    "//host/a.jpg",
    "dir/https://a",
    "data:a.jpg",
    "file:a.jpg",
    "-",
    " ",
]
URLS = [
    "https://a.example/b.jpg",
    "HTTP://a/b",
    "s3://b/k",
    "gs://b/k",
    "hf://datasets/a",
    "simplecache::s3://b/k",
]


@pytest.mark.parametrize("name", PATHS)
def test_paths_stay_as_they_are(name: str) -> None:
    assert local_path(name) == name
    assert url_of(name) is None


@pytest.mark.parametrize("name", URLS)
def test_urls_are_refused_also_as_a_path(name: str) -> None:
    message = f"{name}: URLs are not fetched: download it, or give its bytes"
    for written in (name, str(Path(name))):
        with pytest.raises(AddressError) as caught:
            local_path(written)
        assert str(caught.value) == message


def test_a_folder_with_a_colon_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:").mkdir()
    assert local_path("run:/a.jpg") == "run:/a.jpg"
    with pytest.raises(AddressError, match=r"^other://a\.jpg"):
        local_path("other:/a.jpg")


@pytest.mark.parametrize(
    "name", ["file:///a%20b/%C3%A9.jpg", "file://localhost/a%20b/%C3%A9.jpg", "FILE:///a b/é.jpg"]
)
def test_file_addresses_are_decoded(name: str) -> None:
    assert local_path(name) == "/a b/é.jpg"


def test_bytes_of_file_addresses_may_be_no_utf8() -> None:
    assert os.fsencode(local_path("file:///%ff.jpg")) == b"/\xff.jpg"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "the path is empty"),
        ("file://host/a.jpg", "is on another machine"),
        ("file://a.jpg", "is on another machine"),
        ("file:/a.jpg", "with a machine's name or without: write file:///"),
        ("file:///a.jpg?b", "%3F or %23"),
        ("file:///a.jpg#b", "%3F or %23"),
        ("data:,a", "data URIs are not decoded"),
        ("data:image/svg+xml;charset=utf-8;base64,PHN2Zz4=", "data URIs are not decoded"),
    ],
)
def test_what_is_not_clear_is_refused(name: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        local_path(name)


def test_messages_are_one_short_line() -> None:
    assert shown("a\nb\r\nc") == "a b c"
    assert len(shown("a" * 10_000_000)) == 120
    with pytest.raises(AddressError) as caught:
        local_path("https://a/" + "b\n" * 100_000)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_nothing_is_written_to_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would land in a folder called `s3:` here."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProtoclipError, match=r"^s3://bucket/a\.txt: nothing is written to a URL"):
        write_text(Path("s3://bucket/a.txt"), "a")
    assert list(tmp_path.iterdir()) == []
