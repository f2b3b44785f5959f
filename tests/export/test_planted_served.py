"""`make planted-errors` plants these mistakes into the demo's model; here they are in a tiny one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export.artifact import export_artifact
from export.parity.samples import Samples
from scripts import load_script

planted = load_script("benchmarks/planted_served.py")


@pytest.fixture(scope="module")
def artifact(tiny_clip: Any, samples: Samples, tmp_path_factory: pytest.TempPathFactory, traces: Any) -> Path:
    """tiny-vit in float32 and int8."""
    folder = tmp_path_factory.mktemp("planted") / "artifact"
    with traces():
        export_artifact(tiny_clip, folder, "tiny", samples, precisions=["int8"], random_weights=True)
    return folder


@pytest.mark.parametrize("plant", planted.IN_THE_ARTIFACT, ids=lambda plant: plant.name)
def test_in_the_artifact(artifact: Path, tiny_clip: Any, samples: Samples, plant: Any) -> None:
    found = planted.judge_artifact(artifact, tiny_clip, samples, plant)
    assert planted.expected_of(plant, False) <= found
    assert bool(found) == bool(plant.found_by)


@pytest.mark.parametrize("plant", planted.IN_THE_SERVER, ids=lambda plant: plant.name)
def test_in_the_server(artifact: Path, tiny_clip: Any, samples: Samples, plant: Any) -> None:
    found = planted.judge_server(artifact, tiny_clip, samples, plant)
    assert planted.judged(plant, True, found).word == ("found" if plant.found_by else "passed")
