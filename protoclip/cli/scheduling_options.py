"""The options of `repository` and `serve` that say how requests wait, and what decodes pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serving.triton.scheduling import Scheduling

_PANEL = "How requests wait"

BulkBatchSize = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=_PANEL, help="Items of a request, and of a batch, where there are many; default: 8."
    ),
]
QueueDelay = Annotated[
    int | None,
    typer.Option(rich_help_panel=_PANEL, help="Microseconds that a model waits for further requests; default: 0."),
]
MaxQueued = Annotated[
    int | None,
    typer.Option(rich_help_panel=_PANEL, help="Waiting requests of one priority, more are refused; default: 256."),
]
QueueTimeout = Annotated[
    float | None,
    typer.Option(rich_help_panel=_PANEL, help="Seconds until a waiting request is refused; default: 10."),
]
PreprocessInstances = Annotated[
    int | None, typer.Option(rich_help_panel=_PANEL, help="Processes that decode pictures; default: 2.")
]
PreprocessThreads = Annotated[
    int | None,
    typer.Option(rich_help_panel=_PANEL, help="Decoding threads of each; default: as many as there are cores."),
]


def scheduling_of(
    bulk_batch_size: int | None,
    queue_delay_us: int | None,
    max_queued: int | None,
    queue_timeout: float | None,
    preprocess_instances: int | None,
    preprocess_threads: int | None,
) -> Scheduling | None:
    """The settings that were given, with the defaults of the others; None where none was.

    Raises:
        ConfigError: a number is out of range.
    """
    from serving.triton.scheduling import Scheduling

    values = {
        "bulk_batch_size": bulk_batch_size,
        "queue_delay_us": queue_delay_us,
        "max_queued": max_queued,
        "queue_timeout_s": queue_timeout,
        "preprocess_instances": preprocess_instances,
        "preprocess_threads": preprocess_threads,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return Scheduling(**given) if given else None  # type: ignore[arg-type]  # of the fields' types, by the options'
