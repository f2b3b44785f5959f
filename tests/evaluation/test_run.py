"""`evaluate_run` and `protoclip evaluate` on a run folder with a real open_clip model and pictures on disk."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_shards import write_shards
from run_ranks import run_on_ranks
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from second_device import second_device
from typer.testing import CliRunner

from export.artifact import export_artifact
from export.measured_engine import measured_engine
from protoclip.cli import app
from protoclip.cli.pairs import PairsOptions
from protoclip.config.load import build_config
from protoclip.contract.errors import ConfigError, DataError, ModelError, ProtoclipError
from protoclip.contract.manifest import BatchProfile, EngineBuild, load_manifest
from protoclip.encoders.loading import load_clip, open_clip_folder_config
from protoclip.encoders.model import WEIGHTS_FILE, create_module
from protoclip.encoders.weights import OPEN_CLIP_CONFIG_FILE
from protoclip.evaluation.features import TorchModel
from protoclip.evaluation.kept_features import FEATURES_FOLDER
from protoclip.evaluation.run import evaluate_run, prototype_agreement, result_path
from protoclip.evaluation.scores import load_evaluation
from protoclip.runs.files import CONFIG_FILE, PROTOTYPES_FILE
from protoclip.sources import Pairs, ReadOptions

MODEL = "tiny-trainable"


def write_table(path: Path, pairs: Pairs) -> None:
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "text", *pairs.columns])
        for row in range(len(pairs)):
            picture = path.parent / f"{path.stem}{row}.png"
            picture.write_bytes(pairs.read_image(row))
            writer.writerow(
                [picture.name, pairs.texts[row][0], *(column[row] for column in pairs.columns.values())]
            )


@pytest.fixture(scope="module")
def weights(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model's files, made once."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    assert tiny_model == MODEL
    module = create_module(MODEL)
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / WEIGHTS_FILE)
    (folder / OPEN_CLIP_CONFIG_FILE).write_text(json.dumps(open_clip_folder_config(MODEL, module)))
    return folder


@pytest.fixture
def run(tmp_path: Path, weights: Path, painted_pairs: Pairs) -> Path:
    folder = tmp_path / "painted"
    folder.mkdir()
    for file in weights.iterdir():
        (folder / file.name).symlink_to(file)
    write_table(tmp_path / "pairs.csv", painted_pairs)
    columns = {"group_column": "concept", "split_column": "split"}
    values = {
        "data": {"path": [str(tmp_path / "pairs.csv")], **columns},
        "model": {"name": MODEL},
        "train": {"steps": 1},
        "evaluation": {"class_columns": ["kind"], "cells": {"train": ["train"], "new": ["unseen_style"]}},
    }
    (folder / CONFIG_FILE).write_text(build_config(values, "test").model_dump_json())
    return folder


def save_prototypes(run: Path, labels: np.ndarray) -> None:
    tensors = {f"labels_{side}": labels.astype(np.int64) for side in ("image", "text")}
    tensors |= {f"centroids_{side}": np.zeros((3, 4), dtype=np.float32) for side in ("image", "text")}
    save_arrays(tensors, run / PROTOTYPES_FILE)


def test_a_run_is_measured_and_the_result_written(run: Path, painted_pairs: Pairs) -> None:
    train = painted_pairs.select(painted_pairs.columns["split"] == "train")
    warm = (train.columns["kind"] == "warm").astype(np.int64)
    warm[0] = -1
    save_prototypes(run, warm)
    found = evaluate_run(run)
    assert load_evaluation(run / "evaluation.json") == found
    assert {name: subset.num_images for name, subset in found.subsets.items()} == {"train": 20, "new": 10}
    assert (found.source, found.model_name) == ("painted", MODEL)
    by_kind, by_concept = (
        next(c for c in found.clusters if c.side == "image" and c.column == name) for name in ("kind", "concept")
    )
    assert (by_kind.normalized_mutual_information, by_kind.purity, by_kind.num_items) == (1.0, 1.0, 19)
    assert by_concept.purity == pytest.approx(4 / 19)
    # 10 and 9 items in two of three clusters.
    shares = np.array([10, 9]) / 19
    assert by_kind.size_entropy == pytest.approx(float(-(shares * np.log(shares)).sum() / np.log(3)))


def test_a_folder_of_clip_benchmarks_is_measured(run: Path, painted_pairs: Pairs, tmp_path: Path) -> None:
    folder = tmp_path / "colours"
    write_shards(folder, painted_pairs.select(np.arange(5)), [("cls", str(row % 2)) for row in range(5)])
    (folder / "classnames.txt").write_text("warm\ncold\n")
    (folder / "zeroshot_classification_templates.txt").write_text("{c}\n")
    shown = CliRunner().invoke(app, ["evaluate", str(run), "--data", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "its templates" in shown.stdout
    found = load_evaluation(run / "evaluation-colours-test.json")
    assert found.subsets["colours test"].classification["class"].num_classes == 2


@pytest.mark.parametrize(
    "words",
    [["--captions", "all"], ["--shots", "1"], ["--image-column", "kind"], ["--class-column", "kind"]],
    ids=lambda words: words[0],
)
def test_what_a_folder_of_clip_benchmarks_does_not_take_is_refused(
    artifact: Path, run: Path, painted_pairs: Pairs, tmp_path: Path, words: list[str]
) -> None:
    folder = tmp_path / "colours"
    write_shards(folder, painted_pairs.select(np.arange(2)), [("cls", str(row % 2)) for row in range(2)])
    source = artifact if words[0] == "--class-column" else run
    with pytest.raises(
        ConfigError, match=f"colours: a folder of clip_benchmark's has .* leave .*{words[0]}.* out"
    ):
        CliRunner().invoke(app, ["evaluate", str(source), "--data", str(folder), *words], catch_exceptions=False)
    assert not list(run.glob("evaluation-colours*"))


def test_a_model_without_a_run_is_measured_on_named_data(
    artifact: Path, run: Path, painted_pairs: Pairs, tmp_path: Path
) -> None:
    """The artifact is the run's model: its scores are the run's, on a benchmark's folder and on a table."""
    folder, table = tmp_path / "colours", tmp_path / "some.csv"
    write_shards(folder, painted_pairs.select(np.arange(6)), [("cls", str(row % 2)) for row in range(6)])
    (folder / "classnames.txt").write_text("warm\ncold\n")
    (folder / "zeroshot_classification_templates.txt").write_text("{c}\n")
    write_table(table, painted_pairs.select(np.arange(12)))

    def measured(source: Path, *words: str) -> dict[str, Any]:
        answer = CliRunner().invoke(app, ["evaluate", str(source), *words, "--json"])
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)["cells"]

    for data in (folder, table):
        alone, columns = (
            tmp_path / "alone.json",
            [] if data == folder else ["--class-column", "kind", "--group-column", "concept"],
        )
        ours = measured(artifact, "--data", str(data), "--out", str(alone), *columns)
        theirs = measured(run, "--data", str(data))
        assert ours.keys() == theirs.keys()
        (name,) = ours
        assert ours[name]["retrieval"] == theirs[name]["retrieval"]
        (column,) = ours[name]["classification"]
        shots = [cells[name]["classification"][column]["zero_shot"] for cells in (ours, theirs)]
        assert shots[0] == {way: shots[1][way] for way in shots[0]}
        assert load_evaluation(alone).num_train == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ARTIFACT"], "an artifact has no data of its own: name what to measure it on with --data"),
        (["ARTIFACT", "--data", "x", "--shots", "1"], "--shots are fitted on a run's training pairs"),
        (["ARTIFACT", "--data", "x", "--artifact", "y"], "is for a run: name the artifact in the run's place"),
        (["RUN", "--class-column", "kind"], "RUN has those of its training: leave them out"),
        (["nothing", "--data", "x.csv"], "nothing: no such folder; of a published model name the weights too"),
    ],
)
def test_what_a_model_without_a_run_can_not_be_asked(
    artifact: Path, run: Path, words: list[str], message: str
) -> None:
    places = {"ARTIFACT": str(artifact), "RUN": str(run)}
    with pytest.raises(ProtoclipError, match=message.replace("RUN", ".*painted")):
        CliRunner().invoke(app, ["evaluate", *(places.get(word, word) for word in words)], catch_exceptions=False)


def test_other_data_is_one_subset_in_a_file_of_its_own(run: Path, painted_pairs: Pairs, tmp_path: Path) -> None:
    other = painted_pairs.select(np.arange(6))
    write_table(
        tmp_path / "shop.csv", Pairs(other.images, other.texts, {k: other.columns[k] for k in ("concept", "kind")})
    )
    found = evaluate_run(run, data=ReadOptions((str(tmp_path / "shop.csv"),)))
    assert {name: (subset.num_images, subset.num_texts) for name, subset in found.subsets.items()} == {
        "shop": (6, 6)
    }
    assert found.num_train == 20
    assert found.clusters == ()
    assert result_path(run, ReadOptions(("x/shop.csv",))) == run / "evaluation-shop.json"
    assert load_evaluation(run / "evaluation-shop.json") == found
    assert not (run / "evaluation.json").exists()


def test_prototypes_of_other_data_are_refused(run: Path, painted_pairs: Pairs) -> None:
    save_prototypes(run, np.zeros(5))
    with pytest.raises(DataError, match="made from 5 training pairs, but the data now holds 36"):
        prototype_agreement(run, painted_pairs, ["kind"])
    (run / PROTOTYPES_FILE).write_bytes(b"torn")
    with pytest.raises(ModelError, match=PROTOTYPES_FILE):
        prototype_agreement(run, painted_pairs, ["kind"])


def test_errors_name_the_field_or_file(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / CONFIG_FILE).read_text())
    config["evaluation"]["cells"] = {"new": ["nowhere"]}
    (run / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"evaluation\.cells\.new"):
        evaluate_run(run)
    with pytest.raises(ModelError, match=CONFIG_FILE):
        evaluate_run(tmp_path / "nothing")
    with pytest.raises(ModelError, match="protoclip evaluate"):
        load_evaluation(run / "evaluation.json")
    (run / "evaluation.json").write_text('{"schema_version": 9}')
    with pytest.raises(ModelError, match="schema_version"):
        load_evaluation(run / "evaluation.json")


def test_the_command_prints_json_or_tables(run: Path) -> None:
    answer = CliRunner().invoke(app, ["evaluate", str(run), "--json", "--batch-size", "8"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout) == json.loads((run / "evaluation.json").read_text())
    table = CliRunner().invoke(app, ["evaluate", str(run)])
    assert "Classification by kind (2 classes)" in table.stdout
    assert "evaluation.json" in table.stderr


@pytest.fixture(scope="module")
def artifact(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model in float32 and int8; nobody may write into the folder."""
    samples, folder = PairsOptions().samples(), tmp_path_factory.mktemp("exported") / "artifact"
    export_artifact(load_clip(weights), folder, "painted", samples, precisions=("int8",), allow_inaccurate=True)
    return folder


def test_an_engine_is_measured_in_the_models_place(run: Path, artifact: Path, tmp_path: Path) -> None:
    command = ["evaluate", str(run), "--json", "--artifact", str(artifact)]
    expected = evaluate_run(run).subsets["new"]
    differences = {}
    for engine in ("onnx_fp32", "onnx_int8"):
        answer = CliRunner().invoke(app, [*command, "--engine", engine])
        assert answer.exit_code == 0, answer.output
        found = load_evaluation(run / f"evaluation-{engine}.json")
        assert (found.source, found.model_name) == (engine, MODEL)
        assert found.model_dump(mode="json", by_alias=True) == json.loads(answer.stdout)
        differences[engine] = abs(found.subsets["new"].geometry.gap - expected.geometry.gap)
    assert differences["onnx_fp32"] < 1e-6 < differences["onnx_int8"]
    assert load_evaluation(run / "evaluation.json").source == "painted"


def test_an_engine_that_cannot_be_measured_is_refused(run: Path, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--engine onnx_int8: of which artifact"):
        CliRunner().invoke(app, ["evaluate", str(run), "--engine", "onnx_int8"], catch_exceptions=False)
    clip = load_clip(run)
    with pytest.raises(ModelError, match="no engine 'onnx_fp16' in this artifact: it has onnx_fp32, onnx_int8"):
        measured_engine(artifact, "onnx_fp16", clip)
    with pytest.raises(ModelError, match="with other weights or settings than painted"):
        measured_engine(artifact, None, replace(clip, mean=(0.1, 0.2, 0.3)))
    manifest = load_manifest(artifact)
    build = EngineBuild(
        builder="tensorrt",
        builder_version="10.13",
        profiles=(BatchProfile(min=1, opt=8, max=32),),
        onnx_sha256=("0" * 64, "0" * 64),
    )
    other = tmp_path / "with_a_plan"
    shutil.copytree(artifact, other)
    plan = manifest.engine.model_copy(update={"name": "tensorrt_fp32", "format": "tensorrt", "build": build})
    manifest.model_copy(update={"engines": (*manifest.engines, plan)}).save(other)
    with pytest.raises(ModelError, match="tensorrt_fp32 is a plan: `protoclip verify` compares it on its GPU"):
        measured_engine(other, "tensorrt_fp32", clip)


def test_a_gpu_that_is_not_there_is_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device cuda: torch sees no GPU here: use cpu or auto"):
        CliRunner().invoke(app, ["evaluate", str(run), "--device", "cuda"], catch_exceptions=False)


def test_an_engine_has_a_device_of_its_own(run: Path, tmp_path: Path) -> None:
    command = ["evaluate", str(run), "--artifact", str(tmp_path), "--device", "cpu"]
    with pytest.raises(ConfigError, match="--device cpu: an engine has a device of its own"):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_a_model_on_another_device_gives_the_same_vectors(run: Path) -> None:
    on_cpu = TorchModel(load_clip(run))
    size = on_cpu.pixels.height, on_cpu.pixels.width
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    tokens = on_cpu.tokenizer.encode(["red", "a blue bar"])
    with second_device() as device:
        elsewhere = TorchModel(load_clip(run), device)
        images, texts = elsewhere.embed_pixels(pixels), elsewhere.embed_tokens(tokens)
    np.testing.assert_allclose(images, on_cpu.embed_pixels(pixels), atol=1e-6)
    np.testing.assert_allclose(texts, on_cpu.embed_tokens(tokens), atol=1e-6)


def test_two_ranks_find_what_one_does(run: Path, tmp_path: Path) -> None:
    """To the last digit, on all ranks, with a picture that can't be read; the second time nothing is embedded."""
    from protoclip.encoders.registry import model_config

    (tmp_path / "pairs3.png").write_bytes(b"no picture")
    architecture = tmp_path / f"{MODEL}.json"
    architecture.write_text(json.dumps(model_config(MODEL)))

    def found(num_ranks: int, rank: int = 0) -> dict[str, object]:
        text = (tmp_path / f"found{num_ranks}.{rank}").read_text()
        return {k: v for k, v in json.loads(text).items() if k not in ("seconds", "created_at")}

    for num_ranks in (2, 1):
        run_on_ranks(
            "evaluate_run.py", num_ranks, str(architecture), str(run), str(tmp_path / f"found{num_ranks}")
        )
        if num_ranks == 2:
            assert len(list((run / FEATURES_FOLDER).glob("*.safetensors"))) == 2
            shutil.rmtree(run / FEATURES_FOLDER)
    assert found(2, 0) == found(2, 1) == found(1)
    assert found(1)["cells"]["train"]["num_skipped"] == 1  # type: ignore[index]
    told = [(tmp_path / f"found{ranks}.compared.{rank}").read_text() for ranks, rank in ((2, 0), (2, 1), (1, 0))]
    assert told[0] == told[1] == told[2]
    recall, probe = (
        json.loads(told[0])["arms"][1]["values"][name] for name in ("picture → text R@1", "linear probe by kind")
    )
    new = found(1)["cells"]["new"]  # type: ignore[index]
    assert recall == [new["retrieval"]["image_to_text"]["1"]["value"]]
    assert probe == [new["classification"]["kind"]["linear_probe"]["value"]]


def test_features_are_kept_only_where_it_is_wanted(run: Path) -> None:
    first = evaluate_run(run, keep_features=False)
    assert not (run / FEATURES_FOLDER).exists()
    for _ in range(2):
        assert evaluate_run(run).subsets == first.subsets
    assert len(list((run / FEATURES_FOLDER).glob("*.safetensors"))) == 2
