"""What a server has done since it started, by its own count: every model's requests, batches and times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from protoclip.contract.errors import ServerError


@runtime_checkable
class HasStatistics(Protocol):
    """A transport to a server that counts."""

    def model_statistics(self, timeout_s: float | None) -> list[ModelStatistics]:
        """Of every model of the server; errors as of all methods of a Transport."""


@dataclass(frozen=True)
class Duration:
    """How often something was done, and the nanoseconds that it took together."""

    count: int
    ns: int


@dataclass(frozen=True)
class ModelStatistics:
    """One version of a model: a public one, which is an ensemble, or one of its parts.

    Attributes:
        inferences: items; executions: batches of them.
        durations: of requests, by Triton's names: success, fail, queue, compute_input, compute_infer,
            compute_output; cancel where the server knows it.
        executions_by_batch: batches by their number of items.
    """

    name: str
    version: str
    inferences: int
    executions: int
    durations: Mapping[str, Duration]
    executions_by_batch: Mapping[int, int]


def read_statistics(url: str, models: Iterable[Mapping[str, Any]]) -> list[ModelStatistics]:
    """The server's `model_stats`, from JSON or protobuf's, where large numbers are text and zeros are missing.

    Raises:
        ServerError: it is something else.
    """
    try:
        return [_read(model) for model in models]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerError(f"{url}: the statistics are not those of Triton: {error}") from error


def _read(model: Mapping[str, Any]) -> ModelStatistics:
    return ModelStatistics(
        name=str(model["name"]),
        version=str(model.get("version", "")),
        inferences=int(model.get("inference_count", 0)),
        executions=int(model.get("execution_count", 0)),
        durations={
            name: Duration(int(value.get("count", 0)), int(value.get("ns", 0)))
            for name, value in model.get("inference_stats", {}).items()
        },
        executions_by_batch={
            int(batch["batch_size"]): int(batch.get("compute_infer", {}).get("count", 0))
            for batch in model.get("batch_stats", ())
        },
    )
