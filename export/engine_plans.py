"""Plans beside an artifact's ONNX engines: built from their graphs, compared where there is a GPU, and described.

A plan that was built but could not be run gets a report that says so, and never passes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.graphs.precision import engine_name
from export.graphs.runtime import Encoders
from export.graphs.to_onnx import Signature
from export.parity.reference import Reference
from export.parity.report import EngineReport, unseen_report
from export.parity.verify import batch_sizes_to, verify_engine
from export.plans.builder import PlanFacts, build_plan
from export.plans.options import BuildOptions, Profile
from export.plans.package import Builder, PackageName, check_options, find_gpu
from protoclip.contract.errors import ConfigError, ProtoclipError
from protoclip.contract.manifest import (
    BatchProfile,
    EncoderFile,
    Engine,
    EngineBuild,
    Precision,
    Verdict,
    missing_batch,
)
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.progress import Progress

from .engines import SIGNATURES

NO_GPU = "not run: a plan needs an NVIDIA GPU"
# CUDA's errors, out of memory among them, are raised as RuntimeError.
_REFUSED = (ProtoclipError, RuntimeError)

PlanOpener = Callable[[Path, Path, Builder], Encoders | None]
"""Both plans of an engine as functions of one batch; None where there is no GPU for them."""


def open_on_gpu(image: Path, text: Path, builder: Builder) -> Encoders | None:
    """The PlanOpener for real engines; raises as `open_tensorrt_engine`."""
    from export.plans.runtime import open_tensorrt_engine

    return None if find_gpu() is None else open_tensorrt_engine(image, text, builder)


@dataclass(frozen=True)
class Plans:
    """Which plans an export builds beside its ONNX engines.

    Attributes:
        precisions: one engine each.
        opener: opens the built plans, so that they can be compared.

    Raises:
        ConfigError: a precision that TensorRT does not build, options that the builder does not support, or
            profiles that leave a batch size out.
    """

    builder: Builder
    options: BuildOptions
    precisions: tuple[Precision, ...] = ("fp32",)
    opener: PlanOpener = open_on_gpu

    def __post_init__(self) -> None:
        if "int8" in self.precisions:
            raise ConfigError("precision int8 quantizes as it runs, which TensorRT does not: use int8_static")
        check_options(self.options, self.builder)
        if (batch := missing_batch(_profiles(self.options.profiles))) is not None:
            shown = ", ".join(map(str, self.options.profiles))
            raise ConfigError(
                f"profiles {shown}: none takes a batch of {batch}, and a server puts together all sizes: "
                "begin at 1 and leave no gap, for example 1:1:1 and 2:8:32"
            )


@dataclass(frozen=True)
class Plan:
    """An engine of two plans: its report, the plans' facts (None: not built), and its encoders, if it can run."""

    report: EngineReport
    built: tuple[PlanFacts, PlanFacts] | None = None
    encoders: Encoders | None = None


def plan_name(package: PackageName, precision: Precision) -> str:
    """Name of an engine of plans and of its folder: `tensorrt_fp16`."""
    return f"{package}_{precision}"


def check_can_build(builder: Builder) -> None:
    """Raises ConfigError where `builder` needs a GPU and there is none."""
    if builder.name == "tensorrt" and find_gpu() is None:
        raise ConfigError(
            f"{builder} builds on the GPU that the plan is for, and torch sees none: export there, "
            "or build with --builder tensorrt_rtx"
        )


def make_plans(
    reference: Reference, folder: Path, plans: Plans, kept: Sequence[str], progress: Progress
) -> Iterator[Plan]:
    """Builds and compares one engine after the other. One that fails leaves no file, but a report that says why.

    Args:
        folder: artifact with the ONNX engines that the plans are built from.
        kept: names of the ONNX engines that passed.
    """
    for precision in plans.precisions:
        name = plan_name(plans.builder.name, precision)
        if engine_name(precision) not in kept:
            failure = f"not built: {engine_name(precision)}, its graph, failed its own comparison"
            yield Plan(unseen_report(name, precision, str(plans.builder), failure))
            continue
        place = folder / name
        try:
            built = _build(folder / engine_name(precision), place, plans, progress)
        except _REFUSED as error:
            shutil.rmtree(place, ignore_errors=True)
            yield Plan(unseen_report(name, precision, str(plans.builder), f"not built: {_one_line(error)}"))
            continue
        yield _judge(reference, place, precision, plans, built, progress)


def judge_plans(
    reference: Reference,
    place: Path,
    precision: Precision,
    profiles: Sequence[BatchProfile],
    builder: Builder,
    *,
    files: tuple[Path, Path] | None = None,
    pixels: PixelSpec | None = None,
    opener: PlanOpener = open_on_gpu,
    progress: Progress,
) -> tuple[EngineReport, Encoders | None]:
    """Opens the two plans in `place` and compares them; the report says so where they can't be run.

    Args:
        profiles: the batch sizes that the plans take; the fastest and the largest of each are compared.
        files: of both plans, as a manifest names them; None: those in `place`.
        pixels: preprocessing by the manifest; None: the model's own.
    """
    name = place.name
    image, text = files or tuple(place / plan_file(signature) for signature in SIGNATURES)
    largest = max(profile.max for profile in profiles)
    sizes = batch_sizes_to(largest, [size for profile in profiles for size in (profile.opt, profile.max)])
    try:
        encoders = opener(image, text, builder)
        if encoders is None:
            return unseen_report(name, precision, str(builder), NO_GPU), None
        report = verify_engine(
            reference, encoders, name, precision, pixels=pixels, batch_sizes=sizes, progress=progress
        )
    except _REFUSED as error:
        return unseen_report(name, precision, str(builder), f"not run: {_one_line(error)}"), None
    return report, replace(encoders, largest_batch=largest)


def describe_plan(plan: Plan, verdict: Verdict, speed: float | None) -> Engine:
    """The manifest's entry for a plan that was built."""
    assert plan.built is not None
    image, text = plan.built
    gpu = image.gpu
    return Engine(
        name=plan.report.name,
        format="tensorrt" if image.builder == "tensorrt" else "tensorrt_rtx",
        precision=plan.report.precision,
        image_encoder=_encoder_file(plan.report.name, SIGNATURES[0], image),
        text_encoder=_encoder_file(plan.report.name, SIGNATURES[1], text),
        verdict=verdict,
        build=EngineBuild(
            builder=image.builder,
            builder_version=image.builder_version,
            gpu=None if gpu is None else f"{gpu.name}, compute capability {gpu.compute_capability}",
            driver=image.driver,
            profiles=_profiles(image.profiles),
            compute_capabilities=image.compute_capabilities,
            onnx_sha256=(image.onnx_sha256, text.onnx_sha256),
        ),
        pictures_per_s=speed,
    )


def plan_file(signature: Signature) -> str:
    """File name of an encoder's plan in its engine's folder: `image.plan`."""
    return Path(signature.file).with_suffix(".plan").name


def _build(graphs: Path, place: Path, plans: Plans, progress: Progress) -> tuple[PlanFacts, PlanFacts]:
    place.mkdir()

    def tell(what: str, done: int, total: int) -> None:
        progress(f"{place.name} {what}", done, total)

    image, text = (
        build_plan(graphs / signature.file, place / plan_file(signature), plans.options, plans.builder, tell)
        for signature in SIGNATURES
    )
    return image, text


def _judge(
    reference: Reference,
    place: Path,
    precision: Precision,
    plans: Plans,
    built: tuple[PlanFacts, PlanFacts],
    progress: Progress,
) -> Plan:
    profiles = _profiles(plans.options.profiles)
    report, encoders = judge_plans(
        reference, place, precision, profiles, plans.builder, opener=plans.opener, progress=progress
    )
    return Plan(report, built, encoders)


def _encoder_file(engine: str, signature: Signature, facts: PlanFacts) -> EncoderFile:
    return EncoderFile(
        file=f"{engine}/{plan_file(signature)}",
        sha256=facts.sha256,
        input_name=facts.network.inputs[0].name,
        output_name=facts.network.outputs[0].name,
    )


def _profiles(profiles: Sequence[Profile]) -> tuple[BatchProfile, ...]:
    return tuple(BatchProfile(min=one.min, opt=one.opt, max=one.max) for one in profiles)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
