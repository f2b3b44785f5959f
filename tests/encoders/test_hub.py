"""Files of the hub, from one on the loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub

from protoclip.contract.errors import ModelError
from protoclip.encoders import hub as hub_module
from protoclip.encoders.hub import TOKENIZER_FILES, cached_file, hub_file, tokenizer_folder

CONFIG = "open_clip_config.json"


@pytest.fixture
def repository(hub: LoopbackHub) -> Path:
    folder = hub.repository("ours/tiny")
    (folder / CONFIG).write_text("{}")
    (folder / "w.safetensors").write_bytes(bytes(range(256)) * 400)
    return folder


def test_a_file_is_downloaded_once_and_then_asks_nobody(hub: LoopbackHub, repository: Path) -> None:
    assert cached_file("ours/tiny", CONFIG) is None
    for name in (CONFIG, "w.safetensors"):
        assert hub_file("ours/tiny", [name]).read_bytes() == (repository / name).read_bytes()
    asked = len(hub.requests)
    for name in (CONFIG, "w.safetensors"):
        assert hub_file("ours/tiny", [name]).read_bytes() == (repository / name).read_bytes()
    assert len(hub.requests) == asked > 0


def test_the_first_file_that_there_is_is_taken(hub: LoopbackHub, repository: Path) -> None:
    assert hub_file("ours/tiny", ["none.safetensors", "w.safetensors"]).name == "w.safetensors"
    (repository / "none.safetensors").write_bytes(b"later")
    # What is in the cache stands, so that the same command gives the same model.
    assert hub_file("ours/tiny", ["none.safetensors", "w.safetensors"]).name == "w.safetensors"


@pytest.mark.parametrize("name", [CONFIG, "w.safetensors"])
def test_a_file_that_is_damaged_in_the_cache_is_named(hub: LoopbackHub, repository: Path, name: str) -> None:
    blob = hub_file("ours/tiny", [name]).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + b"?")
    with pytest.raises(ModelError, match=rf"{name}: is damaged: .*remove {blob}"):
        hub_file("ours/tiny", [name])
    blob.unlink()
    assert hub_file("ours/tiny", [name]).read_bytes() == content


def test_what_the_hub_refuses_is_one_line(hub: LoopbackHub, repository: Path) -> None:
    hub.repository("ours/gated")
    hub.gated.add("ours/gated")
    for name, message in {
        "ours/none": "no such repository, or one that needs a login",
        "ours/gated": "asks for its terms to be accepted",
        "ours/tiny": r"has no a\.bin or b\.bin",
        "not a name": "is no repository of the hub: write it as org/name",
    }.items():
        with pytest.raises(ModelError, match=message) as caught:
            hub_file(name, ["a.bin", "b.bin"])
        assert "\n" not in str(caught.value)


def test_without_a_network_it_is_said(hub: LoopbackHub, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries again and again
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9/ours/tiny: open_clip_config\.json can't be downloaded"):
        hub_file("ours/tiny", [CONFIG])
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids"):
        hub_file("ours/tiny", [CONFIG])
    assert not hub.requests


def test_a_tokenizer_is_fetched_only_where_that_is_asked_for(hub: LoopbackHub, repository: Path) -> None:
    (repository / "tokenizer.json").write_text("{}")
    (repository / "tokenizer_config.json").write_text("{}")
    assert tokenizer_folder("ours/tiny", fetch=False) is None
    assert not hub.requests
    folder = tokenizer_folder("ours/tiny", fetch=True)
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    assert tokenizer_folder("ours/tiny", fetch=False) == folder
    hub.repository("ours/without")
    assert tokenizer_folder("ours/without", fetch=True) is None


def test_an_interrupted_download_of_a_tokenizer_is_made_whole(
    hub: LoopbackHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tokenizer.json alone pads, and ends a text, otherwise than the files beside it say."""
    for name in TOKENIZER_FILES:
        (repository / name).write_text("{}")
    whole = hub_module._download
    for number in range(len(TOKENIZER_FILES)):
        left = iter(range(number))

        def interrupted(*asked: str, left: Iterator[int] = left) -> Path | None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return whole(*asked)

        with monkeypatch.context() as patch:
            patch.setattr(hub_module, "_download", interrupted)
            with pytest.raises(KeyboardInterrupt):
                tokenizer_folder("ours/tiny", fetch=True)
        assert tokenizer_folder("ours/tiny", fetch=False) is None
    folder = tokenizer_folder("ours/tiny", fetch=True)
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == set(TOKENIZER_FILES)


def test_that_a_repository_has_no_tokenizer_is_asked_once(
    hub: LoopbackHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tokenizer_folder("ours/tiny", fetch=True) is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    assert tokenizer_folder("ours/tiny", fetch=True) is None
    assert len(hub.requests) == asked > 0


def test_a_full_disk_is_not_taken_for_a_missing_network(
    hub: LoopbackHub, repository: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with (
        full_disk(5_000),
        pytest.raises(
            ModelError, match=r"w\.safetensors can't be written to the hub's cache .*: make room .*HF_HOME"
        ),
    ):
        hub_file("ours/tiny", ["w.safetensors"])
    assert hub_file("ours/tiny", ["w.safetensors"]).read_bytes() == (repository / "w.safetensors").read_bytes()
