"""The requirements in our own metadata: base packages, extras, and whether the installed packages satisfy them.

Only the forms used in our metadata are parsed: `name[extras] >=1.2,<3; extra == "x" and sys_platform == "y"`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

DISTRIBUTION = "protoclip"
_REQUIREMENT = re.compile(
    r"^(?P<name>[\w.-]+)\s*(?:\[(?P<extras>[^\]]*)\])?\s*(?P<bounds>[^;]*)(?:;(?P<marker>.*))?$"
)
_BOUND = re.compile(r"(>=|<|==)\s*([\d.]+)")


@dataclass(frozen=True)
class Requirement:
    """A required package. `extra` is None for the base."""

    name: str
    bounds: str
    extra: str | None
    includes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Satisfaction:
    """Which of a set of requirements are satisfied here: each a list of one-word or two-word texts."""

    present: list[str]
    absent: list[str]
    unfit: list[str]


def our_requirements() -> list[Requirement]:
    """All requirements of this installation that apply to this platform."""
    parsed = [_parse(line) for line in requires(DISTRIBUTION) or []]
    return [requirement for requirement in parsed if requirement is not None]


def requirements_of(extra: str | None, all_of_them: list[Requirement]) -> list[Requirement]:
    """Those of the base, or those of an extra and of the extras that it includes."""
    own = [requirement for requirement in all_of_them if requirement.extra == extra]
    included = [name for requirement in own for name in requirement.includes]
    nested = [found for name in included for found in requirements_of(name, all_of_them)]
    return [requirement for requirement in own if not requirement.includes] + nested


def satisfaction(requirements: list[Requirement]) -> Satisfaction:
    """Sorts requirements by whether they are installed, and in a version within their bounds."""
    found = Satisfaction([], [], [])
    for requirement in {wanted.name: wanted for wanted in requirements}.values():
        installed = installed_version(requirement.name)
        if installed is None:
            found.absent.append(requirement.name)
        elif all(fits(installed, other.bounds) for other in requirements if other.name == requirement.name):
            found.present.append(f"{requirement.name} {installed}")
        else:
            bounds = ",".join(other.bounds for other in requirements if other.name == requirement.name)
            found.unfit.append(f"{requirement.name} {installed} (needs {bounds})")
    return found


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, None where it isn't."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def fits(installed: str, bounds: str) -> bool:
    """Whether a version lies within bounds like `>=1.2,<3`; pre-release and local parts are ignored."""
    for operator, wanted in _BOUND.findall(bounds):
        have, want = release(installed), release(wanted)
        width = max(len(have), len(want))
        left, right = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
        if not {">=": left >= right, "<": left < right, "==": left == right}[operator]:
            return False
    return True


def release(text: str) -> tuple[int, ...]:
    """`2.13.0+cpu` → (2, 13, 0)."""
    leading = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in leading.group().split(".")) if leading else ()


def _parse(line: str) -> Requirement | None:
    match = _REQUIREMENT.match(line.strip())
    if match is None:
        return None
    marker = match["marker"] or ""
    platform = re.search(r'sys_platform\s*==\s*"(\w+)"', marker)
    if platform is not None and platform[1] != sys.platform:
        return None
    extra = re.search(r'extra\s*==\s*"([\w-]+)"', marker)
    includes = tuple((match["extras"] or "").split(",")) if match["name"] == DISTRIBUTION else ()
    return Requirement(match["name"], match["bounds"].strip(), extra[1] if extra else None, includes)
