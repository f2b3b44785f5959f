"""How requests wait at a model, and what runs those of the preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelQueuePolicy

from protoclip.contract.errors import ConfigError
from protoclip.contract.priorities import PRIORITY_LEVELS, UNMARKED


@dataclass(frozen=True)
class Scheduling:
    """Settings of `write_repository`.

    Attributes:
        bulk_batch_size: items of a client's request, where it has many, and those of a batch where more wait. An
            interactive request waits for about as many at each model.
        queue_delay_us: how long a model waits for further requests to put into a batch. Without it, a batch is
            what came while the one before was computed.
        max_queued: requests that wait at a model, of one priority; more are answered "try again".
        queue_timeout_s: how long one waits at a model until it is answered so.
        preprocess_instances: processes that decode pictures.
        preprocess_threads: threads that decode in each of them; 0 takes as many as the server may use cores.

    Raises:
        ConfigError: a number is out of range.
    """

    bulk_batch_size: int = 8
    queue_delay_us: int = 0
    max_queued: int = 256
    queue_timeout_s: float = 10.0
    preprocess_instances: int = 2
    preprocess_threads: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = _RANGES[field.name]
            if not low <= getattr(self, field.name) <= high:
                value = getattr(self, field.name)
                raise ConfigError(f"{field.name}={value} is out of range: use {low:g} to {high:g}")


_RANGES: Mapping[str, tuple[float, float]] = {
    "bulk_batch_size": (1, 4096),
    "queue_delay_us": (0, 1_000_000),
    "max_queued": (1, 100_000),
    "queue_timeout_s": (0.001, 3600),
    "preprocess_instances": (1, 256),
    "preprocess_threads": (0, 1024),
}


def add_queue(config: ModelConfig, scheduling: Scheduling, preferred_batches: tuple[int, ...]) -> None:
    """Dynamic batching with a queue for each priority.

    Args:
        preferred_batches: sizes that batches have where enough requests wait; none: as many as there are.
    """
    batching: Any = config.dynamic_batching
    batching.max_queue_delay_microseconds = scheduling.queue_delay_us
    batching.preferred_batch_size.extend(preferred_batches)
    batching.priority_levels = PRIORITY_LEVELS
    batching.default_priority_level = UNMARKED
    policy = batching.default_queue_policy
    policy.timeout_action = ModelQueuePolicy.REJECT
    policy.default_timeout_microseconds = round(scheduling.queue_timeout_s * 1e6)
    policy.max_queue_size = scheduling.max_queued
