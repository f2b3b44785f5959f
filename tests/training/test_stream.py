"""Streaming prototypes: what training projects in one episode is clustered for the next."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny_training import same_weights, with_changes

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.contract.errors import ConfigError
from protoclip.data.episodes import Plan
from protoclip.prototypes.bank import Bank
from protoclip.prototypes.episode_clustering import EpisodeClustering
from protoclip.prototypes.feature_source import Streamed
from protoclip.prototypes.features import Shard
from protoclip.runs.metrics import read_metrics
from protoclip.training.session import build_session
from protoclip.training.train import train


def streamed(values: dict[str, Any], **train_settings: Any) -> RunConfig:
    changed = {**values, "prototypes": {"source": "stream"}, "train": {**values["train"], **train_settings}}
    return build_config(changed, "test")


def test_a_streamed_run_learns(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    run = train(streamed(shapes_config, steps=96), tmp_path / "run", quiet=True)
    lines = read_metrics(run)
    main = [line for line in lines if line["kind"] == "step" and line["stage"] == "main"]
    assert main[-1]["loss_proto"] < 0.8 * main[0]["loss_proto"]
    episodes = [line for line in lines if line["kind"] == "episode"]
    assert [line["episode"] for line in episodes] == list(range(1, 15))
    assert max(line["seconds_extract"] for line in episodes) < 0.5 * max(line["seconds"] for line in main)


def test_no_picture_is_read_a_second_time(
    shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second forward pass is what extraction costs: there must be none."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("extracted")

    monkeypatch.setattr("protoclip.training.extraction.extract", refuse)
    train(streamed(shapes_config), tmp_path / "streamed", quiet=True)
    with pytest.raises(AssertionError, match="extracted"):
        train(build_config(shapes_config, "test"), tmp_path / "extracted", quiet=True)


def test_prototypes_are_of_the_episode_before(
    shapes_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every position of the bank is filled by the last repeat, with unit rows."""
    shards = []
    shard_of = Streamed.shard

    def spy(self: Streamed, episode: Any) -> Any:
        shards.append((episode.number, shard_of(self, episode)))
        return shards[-1][1]

    monkeypatch.setattr(Streamed, "shard", spy)
    shapes_config["episode"] |= {"repeats": 2, "lit_episodes": 0}
    run = train(streamed(shapes_config, steps=36), tmp_path / "run", quiet=True)
    assert [number for number, _ in shards] == [1, 2]
    for _, shard in shards:
        assert shard.positions.tolist() == list(range(72))
        for features in (shard.image, shard.text):
            torch.testing.assert_close(features.norm(dim=1), torch.ones(72))
    centroids = load_file(run / "prototypes.safetensors")["centroids_image"]
    nearest = torch.cdist(shards[-1][1].image, centroids).min(dim=1).values
    assert nearest.mean() < 0.5 * torch.cdist(shards[-1][1].image, shards[-1][1].image).mean()


def test_a_half_filled_bank_is_not_clustered() -> None:
    bank = Bank(4, 3, torch.device("cpu"))
    bank.keep(F.normalize(torch.ones(2, 3)), F.normalize(torch.ones(2, 3)), torch.tensor([3, 1]))
    with pytest.raises(AssertionError, match="2 of 4"):
        bank.shard()


def test_a_bank_survives_a_checkpoint() -> None:
    bank, other = (Bank(4, 3, torch.device("cpu")) for _ in "ab")
    rows = F.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    bank.keep(rows[:2], -rows[:2], torch.tensor([3, 1]))
    other.restore(bank.tensors())
    other.keep(rows[2:], -rows[2:], torch.tensor([0, 2]))
    assert torch.equal(other.shard().image, rows[[2, 1, 3, 0]])
    assert torch.equal(other.shard().text, -rows[[2, 1, 3, 0]])
    other.clear()
    assert other.tensors() == {}


@pytest.mark.parametrize("warm", [True, False])
def test_a_warm_start_moves_fewer_labels(shapes_config: dict[str, Any], tmp_path: Path, warm: bool) -> None:
    """With a learning rate of all but nothing the features stay, and so do clusters that begin where they were."""
    shapes_config["optim"]["learning_rate"] = 1e-9
    shapes_config["model"]["head"]["num_layers"] = 1
    shapes_config["clustering"] |= {
        "num_prototypes": 24,
        "warm_start": warm,
        "backend": "lloyd",
        "num_restarts": 1,
    }
    shapes_config["episode"]["lit_episodes"] = 0
    shapes_config["augmentation"] = {"crop_scale": (1, 1), "crop_ratio": (1, 1), "flip": 0, "jitter": 0, "grey": 0}
    shapes_config["augmentation"] |= {"blur": 0}
    shapes_config["data"]["text_columns"] = ["kind"]
    run = train(build_config(shapes_config, "test"), tmp_path / "run", quiet=True)
    lines = [line for line in read_metrics(run) if line["kind"] == "episode"]
    assert lines[0]["stability_image"] is None
    stabilities = [line["stability_image"] for line in lines[1:]]
    assert (min(stabilities) > 0.98) == warm


@pytest.fixture
def renewed(shapes_config: dict[str, Any]) -> dict[str, Any]:
    """A run of 24 steps, six in an episode, whose prototypes are made anew every four."""
    shapes_config["prototypes"] = {"source": "stream", "refresh_steps": 4}
    shapes_config["episode"]["lit_episodes"] = 0
    return shapes_config


def test_prototypes_are_made_anew_every_few_steps(renewed: dict[str, Any], tmp_path: Path) -> None:
    run = train(build_config(renewed, "test"), tmp_path / "run", quiet=True)
    lines = [line for line in read_metrics(run) if line["kind"] == "episode"]
    assert [line["step"] for line in lines] == [6, 8, 12, 16, 20]
    assert all(0 < line["stability_image"] <= 1 for line in lines[1:])
    labels = load_file(run / "prototypes.safetensors")["labels_image"]
    # Between two refreshes a pair can stand at two positions, of the episode under way and of the one before.
    assert sorted(labels.unique().tolist()) in ([-1, *range(6)], list(range(6)))


def test_trained_rows_alone_change_their_cluster(shapes_config: dict[str, Any]) -> None:
    """A window that is filled in part, in which every third row is new: the others keep what they had there."""
    shapes_config["prototypes"] = {"source": "stream", "refresh_steps": 4, "refresh_rows": "trained"}
    clustering = EpisodeClustering(
        build_config(shapes_config, "test"), Plan(64, 48, 8, seed=0), torch.device("cpu"), 5, None
    )
    positions = torch.arange(10, 40)
    drawn = F.normalize(torch.randn(4, 30, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    first, _ = clustering.targets(1, Shard(drawn[0], drawn[1], positions), None)
    is_new = torch.arange(30) % 3 == 0
    second, _ = clustering.targets(1, Shard(drawn[2], drawn[3], positions, is_new=is_new), first)
    for before, now in (
        (first.image_clusters.labels, second.image_clusters.labels),
        (first.text_clusters.labels, second.text_clusters.labels),
    ):
        assert torch.equal(now[positions[~is_new]], before[positions[~is_new]])
        assert not torch.equal(now[positions[is_new]], before[positions[is_new]])
        assert (now < 0).sum() == 18


@pytest.mark.parametrize(("stop", "changes"), [(7, {"momentum": 0.5}), (8, {"refresh_rows": "trained"})])
def test_a_renewed_run_resumes_bit_for_bit(
    renewed: dict[str, Any], tmp_path: Path, stop: int, changes: dict[str, Any]
) -> None:
    """Between two refreshes, and just before one, whose line in the metrics is not written twice."""
    renewed["train"] |= {"checkpoint_every_steps": stop, "keep_checkpoints": 9, "steps": 15}
    renewed["prototypes"] |= changes
    config = build_config(renewed, "test")
    whole = train(config, tmp_path / "whole", quiet=True)
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "model.safetensors").unlink()
    for checkpoint in sorted((run / "checkpoints").iterdir())[1:]:
        shutil.rmtree(checkpoint)
    train(config, run, resume=True, quiet=True)
    assert same_weights(whole, run)
    made = [[line["step"] for line in read_metrics(each) if line["kind"] == "episode"] for each in (whole, run)]
    assert made == [[6, 8, 12]] * 2


@pytest.mark.parametrize(
    ("prototypes", "clustering", "message"),
    [
        ({"source": "extract", "refresh_steps": 4}, {}, "refresh_steps=4 is for prototypes.source='stream'"),
        ({"source": "extract", "momentum": 0.5}, {}, "momentum=0.5 needs clusters in the order of the last"),
        ({"source": "stream", "momentum": 0.5}, {"warm_start": False}, "set clustering.warm_start=true"),
        ({"source": "stream", "refresh_rows": "trained"}, {}, "'trained' is for prototypes.refresh_steps"),
        (
            {"source": "stream", "refresh_rows": "trained", "refresh_steps": 4, "momentum": 0.5},
            {},
            "without prototypes.momentum",
        ),
        (
            {"source": "stream", "refresh_rows": "trained", "refresh_steps": 4},
            {"warm_start": False},
            "follows the last clusters: set clustering.warm_start=true",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    shapes_config: dict[str, Any], prototypes: dict[str, Any], clustering: dict[str, Any], message: str
) -> None:
    config = with_changes(shapes_config, prototypes=prototypes, clustering=clustering)
    with pytest.raises(ConfigError, match=message):
        build_session(config, lambda items, _: items, only_planned=True)
