"""When a lower precision, or one more package, is worth serving: only where it is clearly faster."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .manifest import Engine

MIN_SPEEDUP = 1.3
"""Below it a lower precision costs accuracy for a gain that another machine, or a busy one, does not have."""

BITS: Mapping[str, int] = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int8_static": 8, "fp8": 8}
"""Of weights and activations, by precision."""

Key = TypeVar("Key")


def worth_serving(speeds: Mapping[Key, tuple[str, float]], in_extras: Collection[Key] = ()) -> Key | None:
    """Of things with a precision and a speed the fastest of the most exact, or another one that is worth it.

    A lower precision is taken where it is `MIN_SPEEDUP` times as fast as what was chosen of higher ones, and so
    is one of `in_extras`, which need a package that the others don't, beside others of its precision. Among equals
    the first; None for none.
    """
    chosen: Key | None = None
    ranks = {key: (-BITS[precision], key in in_extras) for key, (precision, _) in speeds.items()}
    for rank in sorted(set(ranks.values())):
        fastest = max((key for key in speeds if ranks[key] == rank), key=lambda key: speeds[key][1])
        if chosen is None or speeds[fastest][1] >= MIN_SPEEDUP * speeds[chosen][1]:
            chosen = fastest
    return chosen


def fastest_engine(engines: Sequence[Engine]) -> str:
    """Name of the engine to serve: the fastest that passed, a lower precision only where it is worth it.

    Worth it is `MIN_SPEEDUP` times the speed of a more exact one, with nothing left unchecked; OpenVINO,
    a package more, has to be as much faster at the same precision. Where none was measured it is the fp32 graph,
    or the first engine where there is none. Plans of TensorRT-RTX are skipped, since Triton does not load them.
    Raises ValueError for no engines.
    """
    if not engines:
        raise ValueError("there are no engines to choose from")
    speeds = {
        engine.name: (engine.precision, engine.pictures_per_s)
        for engine in engines
        if engine.verdict.passed
        and engine.format != "tensorrt_rtx"
        and engine.pictures_per_s is not None
        and (engine.precision == "fp32" or not engine.verdict.not_checked)
    }
    in_openvino = {engine.name for engine in engines if engine.format == "openvino"}
    if (chosen := worth_serving(speeds, in_openvino)) is not None:
        return chosen
    plain = [engine for engine in engines if (engine.format, engine.precision) == ("onnx", "fp32")]
    return (plain or list(engines))[0].name
