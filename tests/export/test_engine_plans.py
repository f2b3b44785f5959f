"""Plans beside the ONNX engines: built by TensorRT-RTX, compared like any engine, and never trusted unseen.

What a plan computes needs a GPU (`test_to_tensorrt_gpu.py`); the gate's way is walked with ONNX Runtime's sessions
where a GPU's would be.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.artifact import export_artifact
from export.engine_plans import NO_GPU, PlanOpener, Plans, check_can_build
from export.engines import open_engine
from export.graphs.runtime import Array, Encode, Encoders
from export.parity.samples import Samples
from export.plans.options import BuildOptions, Profile
from export.plans.package import Builder, find_gpu, load_builder
from export.verify_artifact import verify_artifact
from protoclip.contract.errors import ConfigError, ModelError, VerdictError
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import Manifest, load_manifest, manifest_files

pytestmark = pytest.mark.usefixtures("traced_once")

OPTIONS = BuildOptions(profiles=(Profile(1, 1, 1), Profile(2, 4, 8)), level=0, compute_capabilities=("8.9",))
PLAN = "tensorrt_rtx_fp32"


@pytest.fixture(scope="module")
def rtx() -> Builder:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("TensorRT-RTX comes for Linux on x86-64 only")
    return load_builder("tensorrt_rtx")


def beside(wrap: Callable[[Encode], Encode] = lambda encode: encode) -> PlanOpener:
    """Opens the float32 graphs beside the plans in their place; batches beyond 8 are refused, as a plan does."""

    def limited(encode: Encode) -> Encode:
        def run(batch: Any) -> Array:
            if len(batch) > 8:
                raise ConfigError(f"batch of {len(batch)} fits none of the profiles")
            return encode(batch)

        return run

    def opener(image: Path, text: Path, builder: Builder) -> Encoders:
        assert (image.name, text.name) == ("image.plan", "text.plan")
        assert image.read_bytes()[:4] == text.read_bytes()[:4] == b"vtrt"
        found = open_engine(image.parent.parent, "fp32")
        return Encoders(limited(wrap(found.image)), limited(wrap(found.text)), f"{builder}, in its place")

    return opener


def nowhere(image: Path, text: Path, builder: Builder) -> None:
    return None


def export(exported: Any, samples: Samples, out: Path, plans: Plans, **settings: Any) -> Manifest:
    return export_artifact(exported.clip, out, "tiny", samples, plans=plans, random_weights=True, **settings)


def report_of(folder: Path, name: str = PLAN) -> dict[str, Any]:
    engines = json.loads((folder / "verdict.json").read_text())["engines"]
    return next(engine for engine in engines if engine["name"] == name)


@pytest.fixture(scope="module")
def unseen(
    exported_vit: Any, samples: Samples, rtx: Builder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    """An artifact with a plan that nobody ran, kept all the same. Nobody may write into its folder."""
    out = tmp_path_factory.mktemp("unseen") / "artifact"
    return out, export(exported_vit, samples, out, Plans(rtx, OPTIONS, opener=nowhere), allow_inaccurate=True)


def test_a_plan_that_passes_is_an_engine_like_others(
    exported_vit: Any, samples: Samples, rtx: Builder, tmp_path: Path
) -> None:
    out, plans = tmp_path / "a", Plans(rtx, OPTIONS, opener=beside())
    manifest = export(exported_vit, samples, out, plans)
    engine = manifest.engine_named(PLAN)
    assert (engine.format, engine.precision, engine.verdict.passed) == ("tensorrt_rtx", "fp32", True)
    assert (engine.image_encoder.file, engine.text_encoder.file) == (f"{PLAN}/image.plan", f"{PLAN}/text.plan")
    assert (engine.image_encoder.input_name, engine.text_encoder.output_name) == ("pixels", "text_embedding")
    assert {file: sha256_file(out / file) for file in manifest_files(manifest)} == manifest_files(manifest)
    assert len(manifest_files(manifest)) == 5
    build, graph = engine.build, manifest.engine_named("onnx_fp32")
    assert build is not None
    assert (build.builder, build.builder_version) == ("tensorrt_rtx", rtx.version)
    assert [(one.min, one.opt, one.max) for one in build.profiles] == [(1, 1, 1), (2, 4, 8)]
    assert build.compute_capabilities == ("8.9",)
    assert build.onnx_sha256 == (graph.image_encoder.sha256, graph.text_encoder.sha256)
    # Of the gate's batch sizes, those that the profiles take.
    report = report_of(out)
    assert list(report["image"]["by_batch_size"]) == list(report["text"]["by_batch_size"]) == ["1", "4", "7", "8"]
    assert report["candidate"].endswith("in its place")
    # Triton does not load plans of TensorRT-RTX, however fast.
    assert engine.pictures_per_s is not None
    assert manifest.default_engine == "onnx_fp32"
    assert load_manifest(out) == manifest
    assert verify_artifact(out, exported_vit.clip, samples, opener=beside()).passed


def test_a_plan_that_nobody_ran_never_passes(
    exported_vit: Any, samples: Samples, rtx: Builder, tmp_path: Path
) -> None:
    plans = Plans(rtx, OPTIONS, opener=nowhere)
    out = tmp_path / "left_out"
    manifest = export(exported_vit, samples, out, plans)
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32"]
    assert not (out / PLAN).exists()
    assert report_of(out)["failures"] == [NO_GPU]
    assert (report_of(out)["ran"], report_of(out)["passed"]) == (False, False)
    assert "not run" in (out / "verdict.html").read_text()


def test_a_plan_that_nobody_ran_can_be_kept_and_is_never_the_default(
    unseen: tuple[Path, Manifest], tmp_path: Path
) -> None:
    manifest = unseen[1]
    engine = manifest.engine_named(PLAN)
    verdict = engine.verdict
    assert (verdict.passed, verdict.num_images, verdict.max_abs_difference) == (False, 0, None)
    assert engine.pictures_per_s is None
    assert manifest.default_engine == "onnx_fp32"
    manifest.model_copy(update={"default_engine": PLAN}).save(tmp_path)
    with pytest.raises(ModelError, match="is a plan without a verdict that it passed"):
        load_manifest(tmp_path)


def test_verify_says_what_it_could_not_run(
    exported_vit: Any, samples: Samples, unseen: tuple[Path, Manifest], tmp_path: Path
) -> None:
    report = verify_artifact(unseen[0], exported_vit.clip, samples, opener=nowhere)
    assert report.failures == (f"{PLAN}: {NO_GPU}",)
    against = verify_artifact(unseen[0], exported_vit.clip, samples, against=exported_vit.folder, opener=beside())
    assert [engine.name for engine in against.engines] == ["onnx_fp32", PLAN]
    assert against.passed
    shutil.copytree(unseen[0], tmp_path / "a")
    (tmp_path / "a" / PLAN / "text.plan").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"text\.plan: missing, or not the file that was exported"):
        verify_artifact(tmp_path / "a", exported_vit.clip, samples, opener=beside())


def test_a_plan_that_computes_otherwise_fails(
    exported_vit: Any, samples: Samples, unseen: tuple[Path, Manifest]
) -> None:
    def turned(encode: Encode) -> Encode:
        return lambda batch: np.ascontiguousarray(encode(batch)[:, ::-1])

    report = verify_artifact(unseen[0], exported_vit.clip, samples, opener=beside(turned))
    assert report.failures[0].startswith(f"{PLAN}: image, batch 1: off by")


def test_a_plan_that_breaks_while_it_runs_does_not_take_the_others_along(
    exported_vit: Any, samples: Samples, unseen: tuple[Path, Manifest]
) -> None:
    def broken(encode: Encode) -> Encode:
        def run(batch: Any) -> Array:
            raise RuntimeError("CUDA error: out of memory\nTry something else")

        return run

    report = verify_artifact(unseen[0], exported_vit.clip, samples, opener=beside(broken))
    assert report.failures == (f"{PLAN}: not run: CUDA error: out of memory Try something else",)


def test_a_full_disk_during_the_plan_leaves_the_onnx_engines(
    exported_vit: Any,
    samples: Samples,
    rtx: Builder,
    tmp_path: Path,
    full_disk: Callable[[int], AbstractContextManager[None]],
) -> None:
    with ExitStack() as stack:

        def fill(what: str, done: int, total: int) -> None:
            if what.startswith(f"{PLAN} text.plan") and not stack._exit_callbacks:  # type: ignore[attr-defined]
                stack.enter_context(full_disk(1_000_000))

        plans = Plans(rtx, OPTIONS, opener=beside())
        manifest = export(exported_vit, samples, tmp_path / "a", plans, allow_inaccurate=True, progress=fill)
    assert [engine.name for engine in manifest.engines] == ["onnx_fp32"]
    [failure] = report_of(tmp_path / "a")["failures"]
    assert failure.startswith("not built: ")
    assert "text.plan: can't be written: File too large" in failure
    assert not (tmp_path / "a" / PLAN).exists()
    assert verify_artifact(tmp_path / "a", exported_vit.clip, samples).passed


def test_no_plan_is_built_from_a_graph_that_failed(
    exported_vit: Any, samples: Samples, rtx: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import export.engines

    def other_graphs(_: object, __: object, path: Path, ___: object, **____: object) -> int:
        path.write_bytes((exported_vit.folder / "onnx_fp32" / path.name).read_bytes())
        return 10

    monkeypatch.setattr(export.engines, "write_onnx", other_graphs)
    other = replace(exported_vit.clip, std=(0.3, 0.3, 0.3))
    with pytest.raises(VerdictError, match="onnx_fp32: image, batch 1: off by"):
        export_artifact(other, tmp_path / "a", "tiny", samples, plans=Plans(rtx, OPTIONS, opener=beside()))
    assert report_of(tmp_path / "a.failed")["failures"] == [
        "not built: onnx_fp32, its graph, failed its own comparison"
    ]


@pytest.mark.parametrize(
    ("options", "precisions", "reason"),
    [
        (OPTIONS, ("int8",), "precision int8 .* use int8_static"),
        (BuildOptions(timing_cache=Path("timings")), ("fp32",), "keeps no timing cache"),
        (BuildOptions(profiles=(Profile(2, 8, 32),)), ("fp32",), "profiles 2:8:32: none takes a batch of 1"),
        (
            BuildOptions(profiles=(Profile(4, 8, 32), Profile(1, 1, 2))),
            ("fp32",),
            "profiles 4:8:32, 1:1:2: none takes a batch of 3",
        ),
    ],
)
def test_what_cannot_be_built_or_served_is_refused_first(
    rtx: Builder, options: BuildOptions, precisions: Any, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        Plans(rtx, options, precisions)


def test_tensorrt_without_a_gpu_is_refused_first(rtx: Builder) -> None:
    if find_gpu() is not None:
        pytest.skip("there is a GPU here, and with one this is no mistake")
    check_can_build(rtx)
    with pytest.raises(ConfigError, match=r"tensorrt 10\.16 builds on the GPU .* --builder tensorrt_rtx"):
        check_can_build(Builder("tensorrt", "10.16", None))
