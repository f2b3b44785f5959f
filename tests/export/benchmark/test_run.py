"""`protoclip benchmark` with real sessions on a small artifact: numbers that agree, what is saved, errors."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, runner

from export.artifact import export_artifact
from export.benchmark.candidates import Candidate, Model, discover
from export.benchmark.results import Accuracy
from export.benchmark.run import Settings, run_benchmark
from export.benchmark.worker import Worker
from export.parity.samples import Samples
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.manifest import BatchProfile, EngineBuild, load_manifest
from protoclip.contract.openvino_encoder import load_openvino
from protoclip.encoders.loading import open_clip_folder_config
from protoclip.encoders.model import ClipModel

pytestmark = pytest.mark.usefixtures("traced_once")

QUICK = ("--batch", 2, "--batch", 4, "--seconds", 0.2, "--rounds", 2, "--threads", 1)


@pytest.fixture(scope="session")
def artifact(tiny_clip: ClipModel, samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 and int8; shared by the tests: nobody may write into the folder."""
    folder = tmp_path_factory.mktemp("benchmark") / "artifact"
    export_artifact(tiny_clip, folder, "tiny", samples, precisions=("int8",), random_weights=True)
    return folder


@pytest.fixture(scope="session")
def source(tiny_clip: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a folder, which other processes can load."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("source")
    module = tiny_clip.module
    (folder / "open_clip_config.json").write_text(json.dumps(open_clip_folder_config("tiny-vit", module)))
    save_file(
        {name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / "model.safetensors"
    )
    return folder


@pytest.fixture
def protoclip_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], samples: Samples
) -> Run:
    """The command, on 20 drawings in place of the bundled pictures."""
    monkeypatch.setattr(PairsOptions, "samples", lambda self: samples)
    return runner(monkeypatch, capsys)


@pytest.fixture
def forked_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their processes are forked from one that has imported torch, where a user's import it each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["export.benchmark.worker", "protoclip.encoders.model"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: context)


forked = pytest.mark.usefixtures("forked_candidates")


@pytest.fixture
def own(artifact: Path, tmp_path: Path) -> Path:
    """A copy of the artifact that a test may change."""
    return Path(shutil.copytree(artifact, tmp_path / "artifact"))


def test_torch_and_engines_side_by_side(artifact: Path, source: Path, samples: Samples) -> None:
    told: list[str] = []
    found = run_benchmark(
        artifact,
        samples,
        Settings((4, 1), ("image", "text"), seconds=0.2, rounds=2, threads=1),
        Model(str(source)),
        only=("torch_fp32", "torch_bf16", "onnx_int8"),
        progress=lambda what, done, total: told.append(what),
    )
    assert not found.missing
    assert [candidate.name for candidate in found.candidates] == ["torch_fp32", "torch_bf16", "onnx_int8"]
    assert len(found.cells) == 3 * 2 * 2
    for cell in found.cells:
        numbers = (cell.items_per_s, cell.p50_ms, cell.p99_ms)
        assert all(math.isfinite(number) and number > 0 for number in numbers)
        assert cell.p50_ms <= cell.p99_ms
        # A mean beside a median: on a busy machine the slowest calls weigh on the first alone.
        assert 0.1 < cell.items_per_s / (1e3 * cell.batch / cell.p50_ms) < 2.5
        assert cell.memory_bytes is None or 0 < cell.memory_bytes < 2**30
    accuracies = {candidate.name: candidate.accuracy for candidate in found.candidates}
    manifest = load_manifest(artifact)
    assert accuracies["torch_fp32"] == Accuracy(True, "reference")
    bf16, int8 = accuracies["torch_bf16"], accuracies["onnx_int8"]
    assert bf16 is not None
    assert int8 is not None
    assert bf16.origin == "measured"
    assert bf16.max_abs_difference is not None
    assert 1e-5 < bf16.max_abs_difference < 0.1
    assert int8.origin == "manifest"
    assert int8.min_centred_cosine == manifest.engine_named("onnx_int8").verdict.min_centred_cosine
    assert found.choice is not None
    assert found.choice.engine == "onnx_int8"
    sizes = {candidate.name: candidate.num_bytes for candidate in found.candidates}
    assert sizes["onnx_int8"] == sum(path.stat().st_size for path in (artifact / "onnx_int8").iterdir())
    assert sizes["torch_bf16"] < 0.6 * sizes["torch_fp32"]
    assert any("round 2 of 2" in what for what in told)


@forked
def test_without_source_table_page_and_next_command(
    protoclip_command: Run, artifact: Path, tmp_path: Path
) -> None:
    before = (artifact / "manifest.json").read_bytes()
    done = protoclip_command("benchmark", artifact, *QUICK, "--html", tmp_path / "page.html")
    assert done.code == 0, done.err
    assert "1 thread for every candidate" in done.out
    assert "onnx_int8" in done.out
    assert "not run: torch: no SOURCE" in done.out
    assert f"protoclip repository {artifact} --engine onnx_" in done.err
    assert (artifact / "manifest.json").read_bytes() == before
    assert "<svg" in (tmp_path / "page.html").read_text()


@forked
def test_json_and_save(protoclip_command: Run, own: Path) -> None:
    before = load_manifest(own)
    done = protoclip_command("benchmark", own, *QUICK, "--json", "--save", "--arm", "onnx_int8")
    assert done.code == 0, done.err
    (cells, after) = (done.json["cells"], load_manifest(own))
    speed = next(cell["items_per_s"] for cell in cells if cell["batch"] == done.json["choice"]["batch"])
    assert after.engine_named("onnx_int8").pictures_per_s == pytest.approx(speed)
    assert after.default_engine == "onnx_int8"
    assert after.engine_named("onnx_fp32") == before.engine_named("onnx_fp32")
    assert after.model_dump(exclude={"engines", "default_engine"}) == before.model_dump(
        exclude={"engines", "default_engine"}
    )


@forked
def test_a_limit_that_nothing_meets(protoclip_command: Run, own: Path) -> None:
    before = (own / "manifest.json").read_bytes()
    arguments = (*QUICK, "--arm", "onnx_fp32", "--max-latency-ms", 0.0001, "--save")
    done = protoclip_command("benchmark", own, *arguments)
    assert done.code == 1
    assert "no engine stays within --max-latency-ms 0.0001: the nearest is onnx_fp32 at batch" in done.err
    assert "items/s" in done.out
    assert (own / "manifest.json").read_bytes() == before


@forked
def test_openvino_runs_an_engine_of_its_own_or_is_a_comparison(
    artifact: Path, tiny_clip: ClipModel, samples: Samples, tmp_path: Path
) -> None:
    made = tmp_path / "artifact"
    export_artifact(tiny_clip, made, "tiny", samples, openvino=("fp32",), random_weights=True)
    quick, only = Settings((2,), seconds=0.1, rounds=1, threads=1), ("onnx_fp32", "openvino_fp32")
    engine, comparison = (run_benchmark(folder, samples, quick, only=only) for folder in (made, artifact))
    assert [found.candidates[1].engine for found in (engine, comparison)] == ["openvino_fp32", None]
    origins = [candidate.accuracy.origin for candidate in (engine.candidates[1], comparison.candidates[1])]  # type: ignore[union-attr]
    assert origins == ["manifest", "measured"]
    assert all(found.candidates[1].passed for found in (engine, comparison))
    assert engine.candidates[1].backend.endswith("computing in f32")
    assert comparison.choice is not None
    assert comparison.choice.engine == "onnx_fp32"
    names = {candidate.name for candidate in discover(artifact, load_manifest(artifact), None)[0]}
    assert {"openvino_fp32", "onnx_int8"} < names
    assert "openvino_int8" not in names


def test_without_bf16_it_is_named_as_missing(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.graphs.openvino_runtime.computes_bf16", lambda: False)
    found, missing = discover(artifact, load_manifest(artifact), None)
    assert "openvino_fp32" in {candidate.name for candidate in found}
    assert "no bf16" in {line.name: line.reason for line in missing}["openvino_bf16"]


def _no_openvino(own: Path) -> None:
    sys.modules["openvino"] = None  # type: ignore[assignment]


def _no_manifest(own: Path) -> None:
    (own / "manifest.json").unlink()


def _torn_manifest(own: Path) -> None:
    path = own / "manifest.json"
    path.write_bytes(path.read_bytes()[:200])


def _other_file(own: Path) -> None:
    path = own / "onnx_int8" / "text.onnx"
    path.write_bytes(path.read_bytes() + b" ")


def _nothing(own: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "arguments", "reason"),
    [
        (_no_manifest, (), "no manifest.json here"),
        (_torn_manifest, (), "manifest.json: the whole of it: "),
        (_other_file, (), "text.onnx: missing, or not the file that was exported"),
        (_nothing, ("--batch", 0), "--batch 0: use 1 to"),
        (_nothing, ("--candidate", "onnx_fp9"), "can't run here; there are onnx_fp32, onnx_int8"),
        (_nothing, ("--arm", "torch"), "--candidate torch: no SOURCE"),
        (_nothing, ("--arm", "torch_bf16"), "--candidate torch_bf16: no SOURCE"),
        (_nothing, ("--arm", "tensorrt_fp16"), "--candidate tensorrt_fp16: the artifact holds no plan"),
        (_no_openvino, ("--arm", "openvino_fp32"), "--candidate openvino_fp32: not installed: pip install"),
    ],
)
def test_mistakes_end_in_one_line(
    protoclip_command: Run,
    own: Path,
    spoil: Callable[[Path], None],
    arguments: tuple[Any, ...],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", sys.modules.get("openvino") or load_openvino())
    spoil(own)
    done = protoclip_command("benchmark", own, *arguments)
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert reason in lines[0]


@forked
def test_another_model_is_refused(artifact: Path, source: Path, samples: Samples, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = Path(shutil.copytree(source, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, other / "model.safetensors")
    with pytest.raises(ModelError, match="other weights or settings than the artifact"):
        run_benchmark(artifact, samples, Settings((1,)), Model(str(other)))


def test_a_batch_beyond_every_plan_is_refused(
    artifact: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = BatchProfile(min=1, opt=8, max=32)
    graphs = ("0" * 64, "1" * 64)
    build = EngineBuild(builder="tensorrt", builder_version="10.16", profiles=(profile,), onnx_sha256=graphs)
    assert build.profile == profile
    plan = Candidate("tensorrt_fp16", "tensorrt", "cuda", "fp16", "tensorrt_fp16", verified=True, profile=profile)
    monkeypatch.setattr("export.benchmark.run.discover", lambda *_: ([plan], []))
    with pytest.raises(ConfigError, match="--batch 64: tensorrt_fp16: batch 64 is beyond its profile, 1 to 32"):
        run_benchmark(artifact, samples, Settings((8, 64)))


@forked
def test_an_arm_that_dies_is_named_and_the_others_go_on(
    artifact: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Worker.turn

    def turn(self: Worker, encoder: Any, batch: int, seconds: float) -> list[float]:
        if self._process.name == "onnx_int8":
            self._process.kill()
            self._process.join()
        return original(self, encoder, batch, seconds)

    monkeypatch.setattr(Worker, "turn", turn)
    only = ("onnx_fp32", "onnx_int8")
    found = run_benchmark(artifact, samples, Settings((1,), seconds=0.1, rounds=2), only=only)
    assert [candidate.name for candidate in found.candidates] == ["onnx_fp32"]
    assert {line.name: line.reason for line in found.missing}["onnx_int8"] == "its process ended with exit code -9"
    assert found.choice is not None
