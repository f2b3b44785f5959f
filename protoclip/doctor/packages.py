"""Python, the base packages, the extras and packages that exclude each other, all from metadata only."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence

from protoclip.contract.install import install_command

from .checks import Check, State
from .requirements import (
    Requirement,
    installed_version,
    our_requirements,
    release,
    requirements_of,
    satisfaction,
)

OLDEST_PYTHON = (3, 11)
EXTRAS = ("search", "train", "export", "quantize", "openvino", "report", "heic", "jxl")
_RIVALS = (("faiss-cpu", "faiss-gpu"), ("onnxruntime", "onnxruntime-gpu"))


def package_checks() -> Mapping[str, Callable[[], Sequence[Check]]]:
    """The checks of this module, by name."""
    return {
        "python": lambda: [check_python(sys.version_info[:2], platform.python_version())],
        "base packages": lambda: [check_base(our_requirements())],
        "extras": lambda: [check_extra(extra, our_requirements()) for extra in EXTRAS],
        "bundle": lambda: [check_bundle(our_requirements())],
        "conflicts": lambda: [check_conflicts()],
    }


def check_python(running: tuple[int, ...], shown: str) -> Check:
    """Whether Python is new enough."""
    if running >= OLDEST_PYTHON:
        return Check("python", State.OK, f"{shown} on {platform.system()} {platform.machine()}")
    return Check("python", State.PROBLEM, shown, "use Python 3.11 or 3.12")


def check_base(requirements: list[Requirement]) -> Check:
    """Whether the packages of the base are installed: nothing works without them."""
    found = satisfaction(requirements_of(None, requirements))
    broken = [f"{name} is missing" for name in found.absent] + found.unfit
    if broken:
        return Check("base packages", State.PROBLEM, ", ".join(broken), install_command())
    return Check("base packages", State.OK, ", ".join(found.present))


def check_extra(extra: str, requirements: list[Requirement]) -> Check:
    """Whether all packages of an extra are installed."""
    name, install = f"extra {extra}", install_command(extra)
    wanted = requirements_of(extra, requirements)
    if not wanted:
        return Check(name, State.MISSING, "the metadata of this installation is older than it", install)
    found = satisfaction(wanted)
    if found.unfit:
        return Check(name, State.PROBLEM, ", ".join(found.unfit), install)
    if found.absent:
        return Check(name, State.MISSING, f"without {', '.join(found.absent)}", install)
    return Check(name, State.OK, ", ".join(found.present))


def check_bundle(requirements: list[Requirement]) -> Check:
    """Which of the two bundles is installed completely."""
    found = {bundle: satisfaction(requirements_of(bundle, requirements)) for bundle in ("cpu", "gpu")}
    whole = [bundle for bundle, parts in found.items() if not parts.absent and not parts.unfit]
    if whole:
        return Check("bundle", State.OK, " and ".join(whole))
    nearest = min(found, key=lambda bundle: len(found[bundle].absent) + len(found[bundle].unfit))
    lacks = ", ".join(found[nearest].absent + found[nearest].unfit)
    return Check("bundle", State.MISSING, f"{nearest} lacks {lacks}", install_command(nearest))


def check_conflicts(version_of: Callable[[str], str | None] = installed_version) -> Check:
    """Packages that overwrite or break each other.

    Args:
        version_of: the installed version of a package, or None.
    """
    clashes, advice = [], []
    for one, other in _RIVALS:
        if version_of(one) and version_of(other):
            clashes.append(f"{one} and {other} share a module")
            advice.append(f"pip uninstall {one} {other}, then install one of them")
    arrow, numpy = version_of("pyarrow"), version_of("numpy")
    if arrow and numpy and release(arrow) >= (26,) and release(numpy) < (2,):
        clashes.append(f"pyarrow {arrow} does not work with numpy {numpy}")
        advice.append("pip install 'pyarrow<26'")
    if clashes:
        return Check("conflicts", State.PROBLEM, "; ".join(clashes), "; ".join(advice))
    return Check("conflicts", State.OK, "none")
