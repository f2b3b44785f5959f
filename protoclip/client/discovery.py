"""Finds a model on a server by the served models' names and parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

from protoclip.contract.errors import ServerError
from protoclip.contract.served_detector import DETECTOR, ServedDetector
from protoclip.contract.served_parameters import ALIAS, CANARY, CANARY_SHARE, CURRENT
from protoclip.contract.zero_shot import Probabilities, probabilities_of

from .deadline import Deadline, with_retries
from .errors import ModelNotFound, SeveralModels
from .transport import ModelConfig, Transport

_PUBLIC_NAME = re.compile(
    r"(?P<prefix>(?P<model>(?P<name>[a-z][a-z0-9_]*)_[0-9a-f]{6})(_[a-z][a-z0-9_]*)?)_(?P<role>image|text)"
)
"""An engine's name stands in it where it is not the artifact's default one."""


@dataclass(frozen=True)
class ServedModel:
    """A model that a server offers, as its parameters say.

    Attributes:
        name: the manifest's name, for example `emoji`.
        prefix: with the fingerprint's first six digits, for example `emoji_ab12cd`; an engine that is not the
            artifact's default has its name in it, too.
        fingerprint: identifies weights and preprocessing.
        embedding_dim: D.
        temperature: cosines are multiplied by this to give logits.
        logit_bias: of a sigmoid model: is added to them.
        probabilities: of the classes' logits: "softmax", together 1, or "sigmoid", each by itself.
        engine: its name in the artifact, such as onnx_int8; empty where an earlier version wrote the repository.
        verdict: "passed" or "failed", on the parity with the model that it was exported from.
        max_batch_size: the most items that one request may hold.
        bulk_batch_size: the most items that a client puts into one, so that requests of others need not wait for
            long.
        pixels: how its pixels are made, in JSON; empty where an earlier version wrote the repository, or where
            no server stands between.
        detector: what it judges pictures by; None where it has no detector.
    """

    name: str
    prefix: str
    fingerprint: str
    embedding_dim: int
    temperature: float
    logit_bias: float | None
    probabilities: Probabilities
    precision: str
    verdict: str
    engine: str
    max_batch_size: int
    bulk_batch_size: int
    pixels: str = ""
    detector: ServedDetector | None = None

    @property
    def sigmoid_bias(self) -> float | None:
        """The bias of a sigmoid model, None for softmax: as `class_probabilities` takes it."""
        return None if self.probabilities == "softmax" else self.logit_bias or 0.0

    @property
    def image_model(self) -> str:
        """Name of the image ensemble on the server."""
        return f"{self.prefix}_image"

    @property
    def text_model(self) -> str:
        """Name of the text ensemble on the server."""
        return f"{self.prefix}_text"


def find_model(transport: Transport, wanted: str | None, deadline: Deadline, *, draw: float = 1.0) -> ServedModel:
    """The only model of the server, or the one called `wanted` (`emoji`, `emoji_ab12cd` or its prefix).

    Where the server has an alias of that name, it is the model that the alias stands for.

    Args:
        draw: from 0 to 1; below a canary's share it is the canary.

    Raises:
        SeveralModels: several models fit, a ConfigError.
        ModelNotFound: none fits.
        ServerError: the server can't be reached, or its model has no valid parameters.
    """
    names = with_retries(transport.ready_models, deadline)
    aliases = _find_aliases(transport, names, deadline)
    prefixes = [prefix for prefix in complete_prefixes(names) if prefix not in aliases]
    prefix = choose_prefix(transport.url, prefixes, wanted, tuple(aliases))
    if prefix in aliases:
        prefix = _stands_for(transport.url, aliases[prefix], draw)
    return _read_model(transport, prefix, deadline)


def find_fingerprint(transport: Transport, fingerprint: str, deadline: Deadline) -> ServedModel | None:
    """A model of that fingerprint, whatever its engine; None where the server has none. Errors as `find_model`."""
    for prefix in complete_prefixes(with_retries(transport.ready_models, deadline)):
        match = _PUBLIC_NAME.fullmatch(f"{prefix}_image")
        if match is not None and match["model"].endswith(f"_{fingerprint[:6]}"):
            model = _read_model(transport, prefix, deadline)
            if model.fingerprint == fingerprint:
                return model
    return None


def _find_aliases(transport: Transport, names: Sequence[str], deadline: Deadline) -> dict[str, ModelConfig]:
    """The aliases among the names of served models, with the configuration that says what they stand for."""
    matches = [_PUBLIC_NAME.fullmatch(name) for name in names]
    of_models = {match["name"] for match in matches if match is not None}
    found = {}
    for name in sorted(of_models):
        if {f"{name}_image", f"{name}_text"} <= set(names):
            # One of the two, or a move between them would show two models. That it is one, only this says.
            config = _ask_config(transport, f"{name}_image", deadline)
            if config.parameters.get(ALIAS) == name:
                found[name] = config
    return found


def _stands_for(url: str, config: ModelConfig, draw: float) -> str:
    """The prefix that a client of this draw asks."""
    values = config.parameters
    try:
        is_canary = bool(values.get(CANARY)) and draw < float(values.get(CANARY_SHARE) or 0)
        return values[CANARY if is_canary else CURRENT]
    except (KeyError, ValueError) as error:
        raise ServerError(
            f"{url}: {config.name} does not say what it stands for ({error}): deploy again"
        ) from error


def _read_model(transport: Transport, prefix: str, deadline: Deadline) -> ServedModel:
    image, text = (_ask_config(transport, f"{prefix}_{role}", deadline) for role in ("image", "text"))
    if image.parameters.get("fingerprint") != text.parameters.get("fingerprint"):
        raise ServerError(
            f"{transport.url}: {image.name} and {text.name} are of two models: write the repository anew"
        )
    return _read_parameters(transport.url, prefix, image, min(image.max_batch_size, text.max_batch_size))


def _ask_config(transport: Transport, name: str, deadline: Deadline) -> ModelConfig:
    return with_retries(lambda left_s: transport.model_config(name, left_s), deadline, known=True)


def complete_prefixes(names: Sequence[str]) -> list[str]:
    """Prefixes under which both an image and a text model are served, sorted."""
    roles: dict[str, set[str]] = {}
    for name in names:
        if match := _PUBLIC_NAME.fullmatch(name):
            roles.setdefault(match["prefix"], set()).add(match["role"])
    return sorted(prefix for prefix, found in roles.items() if len(found) == 2)


def choose_prefix(url: str, prefixes: Sequence[str], wanted: str | None, aliases: Sequence[str] = ()) -> str:
    """The prefix or alias that is meant: `wanted`, or the only one of that model; errors as `find_model`."""
    if wanted is not None and (wanted in prefixes or wanted in aliases):
        return wanted
    fitting = [prefix for prefix in prefixes if wanted is None or wanted in _answers_to(prefix)]
    if wanted is None:
        others = [prefix for prefix in fitting if not set(_answers_to(prefix)) & set(aliases)]
        fitting = [*aliases, *others]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SeveralModels(f"{url} serves {', '.join(fitting)}: say which with model={fitting[0]!r} (--model)")
    if prefixes:
        raise ModelNotFound(f"{url} has no model {wanted!r} that is ready: it serves {', '.join(prefixes)}")
    raise ModelNotFound(f"{url} serves no ProtoCLIP model yet: write one with `protoclip repository`, and load it")


def _answers_to(prefix: str) -> tuple[str, ...]:
    match = _PUBLIC_NAME.fullmatch(f"{prefix}_image")
    return (match["model"], match["name"]) if match else ()


def _read_parameters(url: str, prefix: str, config: ModelConfig, max_batch_size: int) -> ServedModel:
    values = config.parameters
    try:
        bias = float(values["logit_bias"]) if values.get("logit_bias") else None
        return ServedModel(
            name=values["protoclip_name"],
            prefix=prefix,
            fingerprint=values["fingerprint"],
            embedding_dim=int(values["embedding_dim"]),
            temperature=float(values["temperature"]),
            logit_bias=bias,
            probabilities=_probabilities(values.get("probabilities"), bias),
            precision=values["precision"],
            verdict=values["verdict"],
            engine=values.get("engine", ""),
            max_batch_size=max(max_batch_size, 1),
            # Repositories of earlier versions don't say.
            bulk_batch_size=int(values.get("bulk_batch_size") or max(max_batch_size, 1)),
            pixels=values.get("pixels", ""),
            detector=ServedDetector.from_parameter(values[DETECTOR]) if values.get(DETECTOR) else None,
        )
    except KeyError as error:
        problem = f"has no parameter {error}"
    except ValueError as error:
        problem = f"has an unreadable parameter ({error})"
    raise ServerError(f"{url}: {config.name} {problem}: write the repository anew with `protoclip repository`")


def _probabilities(value: str | None, bias: float | None) -> Probabilities:
    """Repositories of earlier versions don't say."""
    if value is None:
        return probabilities_of(bias)
    if value not in get_args(Probabilities):
        raise ValueError(f"probabilities is {value!r}, which this version does not know")
    return cast("Probabilities", value)
