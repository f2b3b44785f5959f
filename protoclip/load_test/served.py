"""The server's own times during a run: its statistics afterwards less those before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protoclip.client.statistics import Duration, ModelStatistics


@dataclass(frozen=True)
class ServedTimes:
    """One model of the server during the run, by requests of all its clients. Means are in milliseconds.

    Attributes:
        name: a public model, which is an ensemble, or a part of one. An ensemble's computing times are those of
            its parts together, and it has no queue.
        requests: that were answered; failed: that were not, of which Triton 2.51 counts an ensemble's twice.
        items: in all requests; executions: batches that they were computed in.
        items_per_execution: the mean batch; None without executions.
        total_ms: of an answered request, None where there was none; so the others.
        queue_ms: waiting for an instance.
        input_ms, infer_ms, output_ms: computing: gathering the input, the model, giving the output.
        executions_by_batch: number of batches by their size.
    """

    name: str
    requests: int
    failed: int
    items: int
    executions: int
    items_per_execution: float | None
    total_ms: float | None
    queue_ms: float | None
    input_ms: float | None
    infer_ms: float | None
    output_ms: float | None
    executions_by_batch: Mapping[int, int]


def served_times(
    before: Iterable[ModelStatistics], after: Iterable[ModelStatistics], prefix: str
) -> list[ServedTimes] | None:
    """What the public models of `prefix` and their parts did in between, by name; without those that did nothing.

    None where a count went down: the server was started again.
    """
    earlier = {(model.name, model.version): model for model in before}
    times = []
    for model in sorted(after, key=lambda model: (model.name, model.version)):
        # Further engines of the artifact have names that go on otherwise: emoji_ab12cd_onnx_int8_image.
        if not f"{model.name}_".startswith((f"{prefix}_image_", f"{prefix}_text_")):
            continue
        first = earlier.get((model.name, model.version))
        if first is not None and (model.inferences < first.inferences or model.executions < first.executions):
            return None
        found = _difference(first, model)
        if found.requests or found.failed or found.executions:
            times.append(found)
    return times


def _difference(before: ModelStatistics | None, after: ModelStatistics) -> ServedTimes:
    spent = {name: _less(value, before, name) for name, value in after.durations.items()}
    nothing = Duration(0, 0)
    items = after.inferences - (before.inferences if before else 0)
    executions = after.executions - (before.executions if before else 0)
    earlier = before.executions_by_batch if before else {}
    by_batch = {size: count - earlier.get(size, 0) for size, count in after.executions_by_batch.items()}
    return ServedTimes(
        name=after.name,
        requests=spent.get("success", nothing).count,
        failed=spent.get("fail", nothing).count,
        items=items,
        executions=executions,
        items_per_execution=items / executions if executions else None,
        total_ms=_mean_ms(spent.get("success")),
        queue_ms=_mean_ms(spent.get("queue")),
        input_ms=_mean_ms(spent.get("compute_input")),
        infer_ms=_mean_ms(spent.get("compute_infer")),
        output_ms=_mean_ms(spent.get("compute_output")),
        executions_by_batch={size: count for size, count in sorted(by_batch.items()) if count},
    )


def _less(value: Duration, before: ModelStatistics | None, name: str) -> Duration:
    earlier = before.durations.get(name) if before else None
    return value if earlier is None else Duration(value.count - earlier.count, value.ns - earlier.ns)


def _mean_ms(value: Duration | None) -> float | None:
    return value.ns / value.count / 1e6 if value is not None and value.count else None
