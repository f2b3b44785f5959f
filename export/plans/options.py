"""Options of TensorRT's builder: profiles of batch sizes, and settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from protoclip.contract.errors import ConfigError

HardwareCompatibility = Literal["none", "ampere_plus", "same_compute_capability"]
LEVELS = range(6)
_CAPABILITY = re.compile(r"\d{1,2}\.\d")


@dataclass(frozen=True)
class Profile:
    """Batch sizes of one optimisation profile: `min` to `max` can run, kernels are chosen for `opt`.

    Raises:
        ConfigError: not 1 ≤ min ≤ opt ≤ max.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ConfigError(f"profile {self}: needs 1 ≤ min ≤ opt ≤ max, for example 1:8:32")

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"


@dataclass(frozen=True)
class BuildOptions:
    """Settings of one build.

    Attributes:
        profiles: at least one; an engine runs no batch size outside of all of them.
        workspace_bytes: most temporary device memory that a kernel may use; None: all there is.
        level: the builder's optimisation level, 0 (quick build) to 5 (every kernel tried).
        timing_cache: folder for kernel timings, one file per GPU and builder version; None: none is kept.
        hardware_compatibility: GPUs that the plan runs on beside the one it is built on.
        compute_capabilities: GPUs that the plan is built for, such as "8.9"; empty: the builder's own choice.
        tf32: TF32 is allowed for float32 products (10 bits of mantissa), which fails the fp32 parity gate.

    Raises:
        ConfigError: a value is out of range.
    """

    profiles: tuple[Profile, ...] = (Profile(1, 8, 32),)
    workspace_bytes: int | None = None
    level: int = 3
    timing_cache: Path | None = None
    hardware_compatibility: HardwareCompatibility = "none"
    compute_capabilities: tuple[str, ...] = ()
    tf32: bool = False

    def __post_init__(self) -> None:
        if not self.profiles:
            raise ConfigError("no optimisation profile: give at least one, for example 1:8:32")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise ConfigError(f"workspace of {self.workspace_bytes} bytes: give at least 1, or leave it out")
        if self.level not in LEVELS:
            raise ConfigError(f"builder level {self.level}: use {LEVELS[0]} to {LEVELS[-1]}")
        if self.hardware_compatibility not in get_args(HardwareCompatibility):
            choices = ", ".join(get_args(HardwareCompatibility))
            raise ConfigError(f"hardware compatibility {self.hardware_compatibility!r}: use one of {choices}")
        for capability in self.compute_capabilities:
            if not _CAPABILITY.fullmatch(capability):
                raise ConfigError(f"compute capability {capability!r}: write it like 8.9")


def parse_profile(text: str) -> Profile:
    """`1:8:32` → Profile(1, 8, 32).

    Raises:
        ConfigError: not three integers in ascending order.
    """
    try:
        smallest, optimum, largest = (int(part) for part in text.split(":"))
    except ValueError as error:
        raise ConfigError(f"profile {text!r}: write min:opt:max, for example 1:8:32") from error
    return Profile(smallest, optimum, largest)


def profile_for(profiles: Sequence[Profile], batch_size: int) -> int:
    """Index of the profile that takes `batch_size` and whose optimum is nearest to it; the first among equals.

    Raises:
        ConfigError: no profile takes it.
    """
    fitting = [place for place, profile in enumerate(profiles) if profile.min <= batch_size <= profile.max]
    if not fitting:
        shown = ", ".join(map(str, profiles))
        raise ConfigError(f"batch of {batch_size} fits none of the profiles {shown}: build with one that takes it")
    return min(fitting, key=lambda place: abs(profiles[place].opt - batch_size))
