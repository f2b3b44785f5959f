"""Waits until a server has taken what its folder holds now: models that came or went, an alias that was moved."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from protoclip.contract.errors import ServerError

from .catalog import PublicModel
from .readiness import ModelState, is_ready, model_parameters, model_states

LOOK_S = 0.1
REQUEST_S = 30.0
_GONE = "unloaded"
"""The server's reason for a model that was taken away."""
Check = Callable[[], None]
"""Raises where it makes no sense to wait any longer."""


def wait_until_loaded(
    port: int, models: Sequence[PublicModel], timeout_s: float, check: Check, *, attempts: int = 1
) -> None:
    """Returns once these models, which were just added, and their parts are ready.

    Args:
        port: the server's own for HTTP.
        attempts: how often a model may fail to load; the server tries again by itself. More than one where models
            of these names were there before: an attempt to load those may still be under way.

    Raises:
        ServerError: one can't be loaded, or it takes longer than `timeout_s`.
    """
    names = _names(models)
    deadline = time.monotonic() + timeout_s
    failures = _Failures()
    while True:
        check()
        states = _states(port, names)
        if all(name in states and states[name].state == "READY" for name in names):
            return
        failures.look(states)
        if failures.most >= attempts:
            raise ServerError(f"the server can't load {failures.last}")
        if time.monotonic() > deadline:
            last = f" (the last failure: {failures.last})" if failures.last else ""
            raise ServerError(
                f"{models[0].prefix} was not loaded in {timeout_s:g} s{last}: start the server with a longer "
                "--timeout"
            )
        time.sleep(LOOK_S)


class _Failures:
    """Counts how often models were seen to begin loading and then to have failed.

    What the server says of a model at first may be of an earlier one of that name.
    """

    def __init__(self) -> None:
        self.last = ""
        self._loading: set[str] = set()
        self._counts: Counter[str] = Counter()

    @property
    def most(self) -> int:
        """Of the model that failed most often."""
        return max(self._counts.values(), default=0)

    def look(self, states: Mapping[str, ModelState]) -> None:
        for name, state in states.items():
            if state.state == "LOADING":
                self._loading.add(name)
            elif state.state == "UNAVAILABLE" and state.reason != _GONE and name in self._loading:
                self._loading.discard(name)
                self._counts[name] += 1
                self.last = f"{name}: {_one_line(state.reason)}"


def wait_until_gone(port: int, models: Sequence[PublicModel], timeout_s: float, check: Check) -> None:
    """Returns once these models, which were taken away, and their parts are unloaded, or after `timeout_s`."""
    names = _names(models)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        check()
        # The list of models leaves them out as soon as their folders are gone.
        with contextlib.suppress(ServerError):
            if not any(is_ready(port, name, REQUEST_S) for name in names):
                return
        time.sleep(LOOK_S)


def _names(models: Sequence[PublicModel]) -> list[str]:
    return sorted({name for model in models for name in (*model.parts, model.name)})


def _states(port: int, names: Sequence[str]) -> dict[str, ModelState]:
    """None while the server does not answer: whoever waits, waits on."""
    with contextlib.suppress(ServerError):
        found = model_states(port, REQUEST_S)
        return {name: found[name] for name in names if name in found}
    return {}


def wait_for_parameters(
    port: int, names: Sequence[str], expected: Mapping[str, str | None], timeout_s: float, check: Check
) -> bool:
    """Whether, within `timeout_s`, all of these models are loaded with those parameters; None: without it."""
    deadline = time.monotonic() + timeout_s
    for name in names:
        while True:
            check()
            found: dict[str, str] = {}
            with contextlib.suppress(ServerError):
                found = model_parameters(port, name, REQUEST_S)
            if found and all(found.get(key) == value for key, value in expected.items()):
                break
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
    return True


def _one_line(reason: str) -> str:
    """Without the traceback, which follows the reason of a Python model."""
    return " ".join(reason.partition("\n\nAt:")[0].split())[:500]
