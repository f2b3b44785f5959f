"""Checks that depend on the device: ranges of 16-bit tensors, and what only a GPU can show."""

from __future__ import annotations

from export.graphs.plain_run import fails_plainly
from export.graphs.rounded import open_rounded
from export.graphs.rounding import sixteen_bits
from export.graphs.runtime import Encoders
from export.graphs.sessions import nodes_off_the_gpu
from export.parity.checks import Check, bounded, not_checked
from export.parity.ranges import range_checks
from export.parity.reference import Reference
from protoclip.contract.manifest import Precision
from protoclip.contract.progress import Progress, silent

GPU_ARITHMETIC = "GPU arithmetic"
PLAIN = "plain ONNX Runtime"
PLACEMENT = "all arithmetic on the GPU"


def device_checks(
    reference: Reference, encoders: Encoders, precision: Precision, progress: Progress = silent
) -> list[Check]:
    """What concerns the device of an opened ONNX engine.

    Of fp16, bf16 and fp8 the ranges of all tensors, emulated on the CPU; of fp16 that ONNX Runtime runs it by its
    own settings. On a GPU, that it computes everything itself; on a CPU, that no GPU was asked, except for 8-bit
    integers: on GPUs they are TensorRT's, with its own verdict.

    Raises:
        ModelError: the engine can't be run.
    """
    checks = _range_checks(reference, encoders, precision, progress)
    if precision == "fp16":
        checks.append(_plain_check(encoders))
    if encoders.device == "cuda":
        return [*checks, *_gpu_checks(reference, encoders, precision)]
    if not precision.startswith("int8"):
        why = "fused kernels and the order of sums show on a GPU: `protoclip verify` with one and onnxruntime-gpu"
        checks.append(not_checked(GPU_ARITHMETIC, why))
    return checks


def _range_checks(
    reference: Reference, encoders: Encoders, precision: Precision, progress: Progress
) -> list[Check]:
    rounded = sixteen_bits(precision)
    if rounded is None:
        return []
    progress(f"{precision} ranges", 0, 1)
    measures = encoders.ranges or [open_rounded(each.path, each.signature, rounded)[1] for each in encoders.files]
    return range_checks(reference, measures, [each.path for each in encoders.files], rounded)


def _plain_check(encoders: Encoders) -> Check:
    # fp8 is TensorRT's; bf16 no CPU has: ONNX Runtime says so and lives.
    found = {file.path.name: fails_plainly(file.path) for file in encoders.files}
    wrong = [f"{name} {how}" for name, how in found.items() if how is not None]
    why = f"whoever opens it at ONNX Runtime's default level: {'; '.join(wrong)}: export fp32 or bf16"
    return bounded(PLAIN, not wrong, why, "; ".join(wrong) or "runs at the default level", "runs")


def _gpu_checks(reference: Reference, encoders: Encoders, precision: Precision) -> list[Check]:
    examples = (reference.images.real[:2], reference.texts.real[:2])
    strays: list[str] = []
    for file, example in zip(encoders.files, examples, strict=True):
        strays += (
            f"{kind} of {file.path.name}"
            for kind in nodes_off_the_gpu(file.path, precision, example, file.signature)
        )
    few = ", ".join(strays[:3]) + (f" (and {len(strays) - 3} more)" if len(strays) > 3 else "")
    why = f"CUDA has no kernel for {few}, and the CPU computes it: export another precision"
    return [
        Check(GPU_ARITHMETIC, "passed", "compared on this GPU", encoders.backend),
        bounded(PLACEMENT, not strays, why, f"{len(strays)} kinds of operators on the CPU", "none"),
    ]
