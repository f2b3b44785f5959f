"""What a run decided when it began is kept when it is resumed, also by a later version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_training import TrainOnce, same_weights, with_changes

from protoclip.contract.errors import ModelError
from protoclip.data import episodes
from protoclip.data.rows_before import RowsAtFirst, RowsBefore
from protoclip.data.sections import Section
from protoclip.training.begun import Begun, as_begun, begun
from protoclip.training.train import train


def resumable(whole: Path, run: Path) -> Path:
    """A copy of a finished run that stands at its first checkpoint."""
    shutil.copytree(whole, run)
    for checkpoint in sorted((run / "checkpoints").iterdir())[1:]:
        shutil.rmtree(checkpoint)
    (run / "model.safetensors").unlink()
    return run


@pytest.fixture
def config(shapes_config: dict[str, Any]) -> Any:
    return with_changes(shapes_config, train={"checkpoint_every_steps": 9, "keep_checkpoints": 9})


def test_the_order_is_stored(config: Any, trained_once: TrainOnce) -> None:
    run = trained_once(config)
    assert json.loads((run / "plan.json").read_text()) == {"order": "shuffled"}
    rows = RowsBefore(RowsAtFirst(72, None), 72, (), (Section(0, 72),), next_episode=4)
    assert begun(run, with_teacher=False) == Begun("shuffled", None, rows)


def test_a_run_of_an_earlier_version_keeps_its_order(
    config: Any, trained_once: TrainOnce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stored none, and shuffled the pairs, however many there were."""
    whole = trained_once(config)
    run = resumable(whole, tmp_path / "run")
    (run / "plan.json").unlink()
    (run / "rows.json").unlink()
    monkeypatch.setattr(episodes, "SMALLEST_KEYED", 10)
    train(config, run, resume=True, quiet=True)
    assert same_weights(run, whole)
    assert json.loads((run / "plan.json").read_text()) == {"order": "shuffled"}


def test_a_keyed_run_stays_keyed(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "SMALLEST_KEYED", 10)
    whole = train(config, tmp_path / "whole", quiet=True)
    assert json.loads((whole / "plan.json").read_text()) == {"order": "keyed"}
    monkeypatch.undo()
    run = resumable(whole, tmp_path / "run")
    train(config, run, resume=True, quiet=True)
    assert same_weights(run, whole)


def test_a_run_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    assert begun(tmp_path, with_teacher=True) == Begun(None, None)


def test_an_unknown_order_is_refused(tmp_path: Path) -> None:
    for content, message in (('{"order": "sorted"}', "order 'sorted' is unknown"), ("{", "can't be read")):
        (tmp_path / "plan.json").write_text(content)
        with pytest.raises(ModelError, match=rf"plan\.json: {message}"):
            begun(tmp_path, with_teacher=False)


def test_a_resumed_run_of_an_earlier_version_is_warned_of_its_teacher(
    shapes_config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It did not store the teacher's clusters: they are made again, and stored from then on."""
    np.save(tmp_path / "teacher.npy", np.random.default_rng(0).normal(size=(72, 3)))
    config = with_changes(
        shapes_config,
        teacher={"path": str(tmp_path / "teacher.npy"), "num_prototypes": 5},
        train={"checkpoint_every_steps": 9, "keep_checkpoints": 9},
    )
    whole = train(config, tmp_path / "whole", quiet=True)
    run = resumable(whole, tmp_path / "run")
    train(config, run, resume=True, quiet=True)
    assert "did not store" not in caplog.text
    run = resumable(whole, tmp_path / "earlier")
    (run / "teacher_labels.safetensors").unlink()
    train(config, run, resume=True, quiet=True)
    assert f"{run}: an earlier version did not store its teacher's clusters" in caplog.text
    assert "watch loss_ext" in caplog.text
    assert same_weights(run, whole)
    found, expected = (load_file(folder / "teacher_labels.safetensors")["labels"] for folder in (run, whole))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_teacher_labels_of_the_version_before_are_read(tmp_path: Path) -> None:
    """They were stored as int64."""
    from safetensors.numpy import save_file

    save_file({"labels": np.array([3, 1, 2])}, tmp_path / "teacher_labels.safetensors")
    labels = begun(tmp_path, with_teacher=True).teacher_labels
    assert labels is not None
    assert labels.dtype == np.int32
    assert labels.tolist() == [3, 1, 2]


def test_a_run_keeps_the_number_of_its_teachers_clusters(shapes_config: dict[str, Any], tmp_path: Path) -> None:
    """That of a run that began when none stood for 300; one that is asked for is kept, so that it is refused."""
    (tmp_path / "config.json").write_text(
        with_changes(shapes_config, teacher={"num_prototypes": 9}).model_dump_json()
    )
    assert as_begun(with_changes(shapes_config), tmp_path).teacher.num_prototypes == 9
    assert (
        as_begun(with_changes(shapes_config, teacher={"num_prototypes": 5}), tmp_path).teacher.num_prototypes == 5
    )
    assert as_begun(with_changes(shapes_config), tmp_path / "other").teacher.num_prototypes is None
