"""Which TensorRT package is installed, which options it supports, and on which GPU it would build.

`tensorrt` and `tensorrt_rtx` share one API. Neither loads the other's plans: every plan records its builder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from protoclip.contract.errors import ConfigError
from protoclip.contract.install import install_command

from .options import BuildOptions

PackageName = Literal["tensorrt", "tensorrt_rtx"]
_DRIVER_FACTS = Path("/proc/driver/nvidia/version")
_DRIVER = re.compile(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)")


@dataclass(frozen=True)
class _Traits:
    requirement: str
    """What pip installs; an extra of ours in brackets."""
    oldest: tuple[int, int]
    timing_cache: bool
    hardware_compatibility: bool
    compute_capabilities: bool

    @property
    def install(self) -> str:
        """The command that installs it."""
        extra = self.requirement.strip("[]")
        return install_command(extra) if extra != self.requirement else f"pip install '{self.requirement}'"


# TensorRT-RTX has all three attributes, but its timing cache and its compatibility levels do nothing.
_TRAITS: Mapping[PackageName, _Traits] = {
    "tensorrt": _Traits("tensorrt>=10.13", (10, 13), True, True, False),
    "tensorrt_rtx": _Traits("[rtx]", (1, 7), False, False, True),
}


@dataclass(frozen=True)
class Builder:
    """An installed package that builds plans.

    Attributes:
        version: such as "10.16.0.72".
        api: the package itself.
    """

    name: PackageName
    version: str
    api: Any

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Gpu:
    """The GPU that torch calls the current one; `compute_capability` is such as "9.0"."""

    name: str
    compute_capability: str


def load_builder(which: Literal["auto"] | PackageName = "auto") -> Builder:
    """Imports a builder. "auto" takes `tensorrt`, and `tensorrt_rtx` only where that is not installed.

    Raises:
        ConfigError: it is not installed, can't be loaded, or is too old.
    """
    names: tuple[PackageName, ...] = get_args(PackageName) if which == "auto" else (which,)
    for name in names:
        if name not in _TRAITS:
            raise ConfigError(f"builder {name!r}: use auto, {' or '.join(_TRAITS)}")
        if (api := _import(name)) is not None:
            return as_builder(name, api)
    installs = " or ".join(_TRAITS[name].install for name in names)
    raise ConfigError(f"{' and '.join(names)} not installed: {installs}")


def as_builder(name: PackageName, api: Any) -> Builder:
    """The Builder of the imported package `api`.

    Raises:
        ConfigError: it is too old.
    """
    version, oldest = str(api.__version__), _TRAITS[name].oldest
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < oldest:
        needed = ".".join(map(str, oldest))
        raise ConfigError(f"{name} {version} is too old, {needed} is needed: {_TRAITS[name].install}")
    return Builder(name, version, api)


def check_options(options: BuildOptions, builder: Builder) -> None:
    """Raises ConfigError where `builder` does not support one of `options`."""
    traits = _TRAITS[builder.name]
    if options.timing_cache is not None and not traits.timing_cache:
        raise ConfigError(f"{builder.name} keeps no timing cache: leave it out")
    if options.hardware_compatibility != "none" and not traits.hardware_compatibility:
        raise ConfigError(
            f"{builder.name} has no hardware compatibility: leave it out, or name compute capabilities"
        )
    if not options.compute_capabilities:
        return
    if not traits.compute_capabilities:
        raise ConfigError(
            f"{builder.name} builds for the GPU it runs on: leave compute capabilities out, "
            "or ask for hardware compatibility"
        )
    known = _known_capabilities(builder.api)
    for capability in options.compute_capabilities:
        if capability not in known:
            raise ConfigError(f"{builder} can't build for {capability}: it knows {', '.join(known)}")


def find_gpu() -> Gpu | None:
    """The current GPU, None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Gpu(facts.name, f"{facts.major}.{facts.minor}")


def driver_version(facts: Path = _DRIVER_FACTS) -> str | None:
    """Version of the NVIDIA kernel driver, None where the system doesn't report it."""
    if not facts.is_file():
        return None
    found = _DRIVER.search(facts.read_text())
    return found[1] if found else None


def _import(name: PackageName) -> Any | None:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return None
        raise _broken(name, error) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise _broken(name, error) from error


def _broken(name: PackageName, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(f"{name} is installed but can't be loaded: {reason}: {_TRAITS[name].install}")


def _known_capabilities(api: Any) -> list[str]:
    names = [name for name in dir(api.ComputeCapability) if re.fullmatch(r"SM\d+", name)]
    return [f"{number // 10}.{number % 10}" for number in sorted(int(name[2:]) for name in names)]
