"""`protoclip models`, with a hub on the loopback."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run, runner
from loopback_hub import LoopbackHub, publish_model

from protoclip.encoders import registry
from protoclip.encoders.published_list import list_published, parameters_of
from protoclip.encoders.registry import register_architectures
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def painted(hub: LoopbackHub, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two tags of the tiny model, of which one is on the hub."""
    publish_model(hub, "ours/tiny", tiny_model)
    entries = {tag: open_clip.pretrained._pcfg(hf_hub=f"ours/{tag}/") for tag in ("tiny", "gone")}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, tiny_model, entries)
    return tiny_model


def test_names_tags_and_sizes_are_listed_without_a_network(hub: LoopbackHub, run: Run) -> None:
    said = run("models", "laion2b_s34b_b79k")
    assert said.code == 0
    assert "ViT-B-32" in said.out
    assert "151" in said.out  # million parameters
    assert "unknown" in said.out
    assert "protoclip export ViT-B-32 --weights laion2b_s34b_b79k" in said.err
    every = run("models", "--json").json
    assert len({(row["name"], row["tag"]) for row in every}) == len(every)
    assert {"ViT-B-16-SigLIP", "RN50-quickgelu", "protoclip-mini-48", "ViT-S-32"} <= {row["name"] for row in every}
    assert not hub.requests


def test_quickgelu_weights_are_listed_where_they_compute_right(hub: LoopbackHub, run: Run) -> None:
    found = run("models", "openai", "--json").json
    assert {row["name"] for row in found} >= {"ViT-B-32-quickgelu", "RN50-quickgelu", "ViT-L-14-336-quickgelu"}
    assert all(row["name"].endswith("-quickgelu") for row in found)


def test_what_is_here_is_marked_with_size_and_licence(hub: LoopbackHub, painted: str, run: Run) -> None:
    from protoclip.encoders.loading import load_clip

    assert [row["path"] for row in run("models", painted, "--json").json] == [None, None]
    load_clip(painted, weights="tiny")
    here, gone = run("models", painted, "--json").json
    size = (hub.root / "ours/tiny/open_clip_model.safetensors").stat().st_size
    assert (here["tag"], here["num_bytes"], here["licence"]) == ("tiny", size, "cc-by-4.0")
    assert Path(here["path"]).is_file()
    assert (gone["num_bytes"], gone["licence"], gone["path"]) == (None, None, None)
    assert "✓" in run("models", painted).out


def test_the_hub_is_asked_on_request(hub: LoopbackHub, painted: str, run: Run) -> None:
    here, gone = run("models", painted, "--online", "--json").json
    assert (here["licence"], here["path"]) == ("cc-by-4.0", None)
    assert here["num_bytes"] == (hub.root / "ours/tiny/open_clip_model.safetensors").stat().st_size
    assert gone["licence"] is None
    assert any(request.startswith("GET /api/models/ours/tiny") for request in hub.requests)


def test_a_pattern_that_matches_nothing_is_said(hub: LoopbackHub, run: Run) -> None:
    said = run("models", "no-such-model")
    assert (said.code, said.out) == (2, "")
    assert "'no-such-model' is in the name of no model and in no tag" in said.err
    assert {weights.name for weights in list_published("vit-?-32")} == {"ViT-B-32", "ViT-M-32", "ViT-S-32"}


def test_the_table_fits_a_narrow_terminal(hub: LoopbackHub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("models", "ViT-S")  # the runner sets a width of its own when it is made
    monkeypatch.setenv("COLUMNS", "80")
    said = run("models")
    assert max(len(line) for line in said.out.splitlines()) <= 80
    assert "commonpool_m_laion_s128m_b4k" in said.out


@pytest.mark.parametrize("name", ["RN50", "ViT-S-32", "protoclip-mini-48"])
def test_the_counted_parameters_are_those_of_the_models(name: str) -> None:
    from protoclip.encoders.model import create_module

    assert parameters_of(name) == sum(parameter.numel() for parameter in create_module(name).parameters())


def test_every_architecture_is_counted_but_those_with_a_text_tower_of_the_hub() -> None:
    # Of the packages alone: other tests of this process may have added models of their own.
    folders = (Path(open_clip.__file__).parent / "model_configs", Path(registry.__file__).parent / "architectures")
    files = {path.stem for folder in folders for path in folder.glob("*.json")}
    register_architectures()
    shipped = [name for name in open_clip.list_models() if name in files]
    assert len(shipped) > 100
    for name in shipped:
        if "hf_model_name" not in open_clip.get_model_config(name)["text_cfg"]:
            assert parameters_of(name) is not None, f"{name}: run scripts/count_parameters.py"
