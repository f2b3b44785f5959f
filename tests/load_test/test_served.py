from __future__ import annotations

from typing import Any

import pytest

from protoclip.client.statistics import ModelStatistics, read_statistics
from protoclip.contract.errors import ServerError
from protoclip.load_test.served import served_times


def model(name: str, requests: int, executions: int, queue_ns: int, batches: dict[int, int]) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1",
        # As protobuf's JSON says 64-bit numbers.
        "inference_count": str(requests),
        "execution_count": str(executions),
        "inference_stats": {
            "success": {"count": str(requests), "ns": str(5 * queue_ns)},
            "fail": {},
            "queue": {"count": str(requests), "ns": str(queue_ns)},
        },
        "batch_stats": [
            {"batch_size": str(size), "compute_infer": {"count": str(n), "ns": "1"}} for size, n in batches.items()
        ],
    }


def read(*models: dict[str, Any]) -> list[ModelStatistics]:
    return read_statistics("grpc://x:1", models)


def test_times_are_means_of_what_was_in_between() -> None:
    before = read(model("a_123456_image", 10, 5, 10_000_000, {2: 5}))
    after = read(
        model("a_123456_image", 30, 10, 50_000_000, {2: 6, 4: 4}),
        model("a_123456_text", 3, 3, 9_000_000, {1: 3}),
        model("b_123456_image", 3, 3, 9_000_000, {1: 3}),
        model("a_123456_onnx_int8_image", 3, 3, 9_000_000, {1: 3}),
    )
    image, text = served_times(before, after, "a_123456") or []
    assert (image.requests, image.items, image.executions, image.items_per_execution) == (20, 20, 5, 4.0)
    assert (image.queue_ms, image.total_ms, image.infer_ms, image.failed) == (2.0, 10.0, None, 0)
    assert image.executions_by_batch == {2: 1, 4: 4}
    assert (text.name, text.queue_ms) == ("a_123456_text", 3.0)


def test_what_did_nothing_is_left_out() -> None:
    same = read(model("a_123456_image", 10, 5, 10_000_000, {2: 5}))
    assert served_times(same, same, "a_123456") == []


def test_a_server_that_was_started_again_has_no_times() -> None:
    before, after = (read(model("a_123456_image", n, n, n, {1: n})) for n in (10, 3))
    assert served_times(before, after, "a_123456") is None


@pytest.mark.parametrize("bad", [{"version": "1"}, {"name": "a", "inference_count": "many"}, None, [1]])
def test_what_is_no_statistics_is_an_error(bad: Any) -> None:
    with pytest.raises(ServerError, match="not those of Triton"):
        read_statistics("http://x:1", [bad])
