"""Models compared item by item: figures by hand, intervals through the one rule, and the command on real runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import balanced_accuracy_score
from tiny_training import with_changes
from typer.testing import CliRunner

from protoclip.cli import app
from protoclip.contract.errors import ConfigError
from protoclip.encoders.loading import load_clip, open_clip_folder_config
from protoclip.encoders.model import WEIGHTS_FILE, ClipModel, create_module
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE
from protoclip.evaluation.compared_arms import Arm
from protoclip.evaluation.comparing import compare_arms, compare_figures, most_different
from protoclip.evaluation.features import TorchModel
from protoclip.evaluation.item_scores import ItemScores, per_class_weights
from protoclip.evaluation.paired import Verdict, picture_difference, verdict_of
from protoclip.evaluation.run import run_subsets
from protoclip.evaluation.runner import evaluate
from protoclip.runs.files import CONFIG_FILE, load_run_config
from protoclip.sources import Pairs


def arm(name: str, *models: Any) -> Arm:
    return Arm(name, tuple(f"{name}{place}" for place in range(len(models))), tuple(lambda m=m: m for m in models))


def figures(*hits: float) -> dict[str, ItemScores]:
    return {"R@1": ItemScores(np.array(hits), np.arange(len(hits)))}


def test_the_figures_are_those_of_the_evaluation(
    painted_pairs: Pairs, painted_clip: Callable[..., ClipModel]
) -> None:
    """`red` and `blue` change places in the second model's words: their pictures, and no others, are worse."""
    part = painted_pairs.select(np.array([value == "train" for value in painted_pairs.column("split")]))
    right, wrong = TorchModel(painted_clip()), TorchModel(painted_clip(red="blue", blue="red"))
    found = compare_arms(
        [arm("right", right), arm("wrong", wrong)],
        part,
        "the painted",
        group_column="concept",
        class_columns=["kind"],
    )
    first, second = found.comparison.arms
    change = second.values["picture → text R@1"][0] - first.values["picture → text R@1"][0]
    assert change == pytest.approx(second.differences["picture → text R@1"].mean)
    assert change < 0
    better, worse = most_different(
        found.measured[0].ranks, found.measured[1].ranks, found.asked.labels.groups, len(part)
    )
    assert {part.texts[row][0] for row in worse} >= {"red", "blue"}
    assert all(found.measured[1].ranks[row] < found.measured[0].ranks[row] for row in better)
    assert (found.comparison.num_images, found.comparison.num_groups) == (20, 10)
    assert list(first.values)[-2:] == ["zero-shot by kind", "zero-shot by kind, mean per class"]


def test_an_interval_over_pictures_is_that_of_the_difference() -> None:
    """60 of 100 against 40, never the other way round: the share of 20 in 100 draws is binomial, s = 0.04."""
    first = np.repeat([1.0, 0.0], [40, 60])
    second = np.repeat([1.0, 0.0], [60, 40])
    found = picture_difference(second, first, None)
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.2 - 1.96 * 0.04, abs=0.011), pytest.approx(0.28, abs=0.011))
    wider = picture_difference(second, first, None, num_comparisons=20)
    assert wider.low < found.low
    assert wider.high > found.high
    # Ten groups that succeed and fail together leave much more to chance.
    grouped = picture_difference(second, first, np.arange(100) // 10)
    assert grouped.low <= 0.0 < found.low
    with pytest.raises(ValueError, match="same items"):
        picture_difference(first, first[:3], None)


def test_words_follow_from_the_interval() -> None:
    assert [verdict_of(*ends) for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.2), (0.0, 0.2))] == [
        Verdict.BETTER,
        Verdict.WORSE,
        Verdict.UNCLEAR,
        Verdict.UNCLEAR,
    ]


def test_several_runs_are_paired_by_seed() -> None:
    """Differences 0.5, 0.25 and 0.75: mean 0.5, s = 0.25, and half of it 4.30265 · 0.25 / √3 = 0.62104."""
    plain = [figures(0, 0, 0, 1), figures(0, 0, 1, 1), figures(0, 0, 0, 0)]
    ours = [figures(0, 1, 1, 1), figures(0, 1, 1, 1), figures(1, 1, 1, 0)]
    arms = [arm("plain", 1, 2, 3), arm("ours", 1, 2, 3)]
    first, second = compare_figures(arms, [plain, ours])
    found = second.differences["R@1"]
    assert first.differences == {}
    assert found.seeds is not None
    assert (found.seeds.mean, found.seeds.half_width) == (0.5, pytest.approx(0.62104, abs=1e-5))
    assert found.verdict is Verdict.UNCLEAR
    assert found.interval[0] == pytest.approx(-0.12104, abs=1e-5)
    # Item by item, the mean over seeds: 1/3, 1, 2/3, 0.
    assert found.pictures.mean == pytest.approx(0.5)
    # Of two differences in a table each is wider: 6.20535 · 0.25 / √3.
    _, again, _ = compare_figures([*arms, arm("other", 1, 2, 3)], [plain, ours, plain])
    of_two = again.differences["R@1"]
    assert of_two.seeds is not None
    assert of_two.seeds.half_width == pytest.approx(0.89567, abs=1e-5)
    assert of_two.pictures.high >= found.pictures.high


def test_weights_make_the_mean_over_classes() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.choice(5, 200, p=[0.6, 0.2, 0.1, 0.06, 0.04]), rng.integers(5, size=200)
    found = float(((truth == predicted) * per_class_weights(truth)).mean())
    assert found == pytest.approx(balanced_accuracy_score(truth, predicted), abs=1e-12)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([arm("a", 1)], "two models or more"),
        ([arm("a", 1), arm("a", 1)], "two arms are called 'a'"),
        ([arm("a", 1, 2), arm("b", 1)], "a 2, b 1: give as many"),
    ],
)
def test_arms_that_do_not_pair_are_refused(arms: list[Arm], message: str, painted_pairs: Pairs) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_arms(arms, painted_pairs, "x", group_column=None)


@pytest.fixture(scope="module")
def runs(tiny_model: str, shapes_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs of other weights on the same data, as training leaves them, untrained."""
    values = {
        "data": {"path": [str(shapes_file)], "text_columns": ["texts"], "group_column": "kind"},
        "model": {"name": tiny_model},
        "train": {"steps": 1},
        "evaluation": {"class_columns": ["colour"]},
        "validation": {"fraction": 0.25},
    }
    folders = []
    for seed in range(3):
        folder = tmp_path_factory.mktemp("run") / f"seed{seed}"
        folder.mkdir()
        torch.manual_seed(seed)
        module = create_module(tiny_model)
        save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / WEIGHTS_FILE)
        (folder / OPEN_CLIP_CONFIG_FILE).write_text(json.dumps(open_clip_folder_config(tiny_model, module)))
        (folder / CONFIG_FILE).write_text(with_changes(values).model_dump_json())
        folders.append(folder)
    return folders


def compared(*words: object) -> Any:
    result = CliRunner().invoke(app, ["compare", *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_command_compares_runs_and_writes_a_page(runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "difference.html"
    found = compared(f"first={runs[0]}", runs[1], "--report", page)
    first, second = found["arms"]
    assert (first["name"], second["name"]) == ("first", "seed1")
    assert found["data"] == f"part validation of {runs[0]}"
    assert (found["num_images"], found["num_groups"]) == (18, 3)
    # Retrieval is that of `evaluate`, on the same part.
    train, subsets = run_subsets(load_run_config(runs[0]))
    model = TorchModel(load_clip(runs[1]))
    measured = evaluate(model, train, {"part": subsets["validation"]}, group_column="kind", class_columns=())
    recalls = measured.subsets["part"].retrieval
    assert second["values"]["picture → text R@1"] == [recalls.image_to_text[1].value]
    assert second["values"]["text → picture R@5"] == [recalls.text_to_image[5].value]
    assert second["differences"]["picture → text R@1"]["seeds"] is None
    text = page.read_text(encoding="utf-8")
    assert "by most</h2>" in text
    assert "nothing of models trained with another seed" in text
    assert "http" not in re.sub(r'src="data:[^"]*"', "", text)


def test_probes_are_those_of_the_evaluation_and_pictures_are_embedded_once(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted on the first run's training pairs for both; the second call reads what the first one kept."""
    first = compared(runs[0], runs[1], "--probes")
    config = load_run_config(runs[1])
    train, subsets = run_subsets(config)
    model = TorchModel(load_clip(runs[1]))
    columns = config.evaluation.class_columns
    measured = evaluate(model, train, {"part": subsets["validation"]}, group_column="kind", class_columns=columns)
    by_colour = measured.subsets["part"].classification["colour"]
    assert by_colour.linear_probe is not None
    assert by_colour.neighbours is not None
    values = first["arms"][1]["values"]
    assert values["linear probe by colour"] == [by_colour.linear_probe.value]
    assert values["k-NN by colour"] == [by_colour.neighbours.value]
    assert first["num_comparisons"] == 8

    def refuse(*_: object) -> None:
        raise AssertionError("a picture was embedded")

    monkeypatch.setattr(TorchModel, "embed_pixels", refuse)
    assert compared(runs[0], runs[1], "--probes") == first


def test_runs_of_several_seeds_and_an_artifact(runs: list[Path], shapes_file: Path, tiny_artifact: Path) -> None:
    data = ("--data", shapes_file, "--group-column", "kind")
    found = compared(f"a={runs[0]},{runs[1]}", f"b={runs[0]},{runs[2]}", *data)
    assert found["num_images"] == 72
    a, b = found["arms"]
    assert a["values"]["picture → text R@5"][0] == b["values"]["picture → text R@5"][0]
    assert b["differences"]["picture → text R@1"]["seeds"]["half_width"] >= 0
    shown = CliRunner().invoke(app, ["compare", str(runs[0]), str(tiny_artifact), *map(str, data)])
    assert "no clear difference" in shown.stdout
    assert "seed0" in shown.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN", "tiny-trainable"], "name the weights too: tiny-trainable:TAG"),
        (["RUN", "RUN2", "--part", "nowhere"], "--part nowhere: .* has train, validation"),
        (["RUN", "RUN2", "--class-column", "size"], "size"),
        (["RUN", "RUN2", "--probes", "--part", "train"], "part train of .* is what they are fitted on"),
        (["hf-hub:a/b", "hf-hub:c/d", "--probes", "--data", "x.csv"], "none of the models is a run"),
    ],
)
def test_what_can_not_be_compared_is_named(runs: list[Path], words: list[str], message: str) -> None:
    places = {"RUN": str(runs[0]), "RUN2": str(runs[1])}
    result = CliRunner().invoke(app, ["compare", *(places.get(word, word) for word in words)])
    assert re.search(message, str(result.exception)), result.exception
