from __future__ import annotations

import json

import numpy as np
import pytest

from protoclip.client.discovery import ServedModel
from protoclip.load_test.answers import Judged
from protoclip.load_test.histogram import Histogram
from protoclip.load_test.inputs import Inputs
from protoclip.load_test.page import load_test_page
from protoclip.load_test.result import Result, make_result
from protoclip.load_test.run import Measured
from protoclip.load_test.settings import Load
from protoclip.load_test.tally import Tally

MODEL = ServedModel("t", "t_000000", "000000", 2, 1.0, None, "softmax", "fp32", "passed", "onnx_fp32", 8, 8)
LOAD = Load(clients=2, rate=100, duration_s=60)


def result(load: Load = LOAD, num: int = 6000, url: str = "grpc://x:1", **fields: object) -> Result:
    """`num` answers to pictures of 1 to 20 ms, evenly over the time, every 100th text failed."""
    tally = Tally(load.duration_s)
    for number, due_s in enumerate(np.linspace(0, load.duration_s, num, endpoint=False)):
        tally.answered("image", due_s, due_s + (number % 20 + 1) / 1e3, 10, Judged(2, 0))
        if number % 100 == 0:
            tally.failed("text", due_s, 3, "timeout", f"<late> {number}")
    measured = Measured(tally, elapsed_s=load.duration_s, no_statistics="none here")
    for name, value in fields.items():
        setattr(measured, name, value)
    return make_result(url, MODEL, Inputs((b"",), (b"",), "1 picture", "1 text"), load, measured)


def test_numbers() -> None:
    found = json.loads(result().to_json())
    image, text = found["kinds"]["image"], found["kinds"]["text"]
    assert image["answered"] == 6000
    # The last answer came after the end.
    assert (image["requests_per_s"], image["items_per_s"]) == (pytest.approx(5999 / 60), pytest.approx(5999 / 30))
    assert image["latency_ms"]["p50"] == pytest.approx(10, rel=0.003)
    assert image["latency_ms"]["max"] == pytest.approx(20)
    assert image["latency_ms"]["mean"] == pytest.approx(10.5)
    assert (image["bytes_sent"], text["bytes_sent"]) == (60_000, 180)
    assert text["failures"] == {"timeout": 60}
    assert text["examples"] == {"timeout": ["<late> 0", "<late> 100", "<late> 200"]}
    assert (text["answered"], text["latency_ms"]["p50"]) == (0, None)
    assert (found["served"], found["no_statistics"]) == (None, "none here")


@pytest.mark.parametrize(("num", "num_moments"), [(120_00, 120), (6000, 60), (10, 12)])
def test_the_timeline_has_parts_with_enough_answers(num: int, num_moments: int) -> None:
    timeline = result(num=num).timeline
    assert {role: len(moments) for role, moments in timeline.items()} == {
        "image": num_moments,
        "text": num_moments,
    }
    assert sum(moment.answered for moment in timeline["image"]) == num
    assert sum(moment.failed for moment in timeline["text"]) == -(-num // 100)
    ends = [moment.at_s for moment in timeline["image"]]
    assert ends == pytest.approx((np.arange(num_moments) + 0.5) * 60 / num_moments)


def test_what_comes_after_the_end_is_not_counted() -> None:
    tally = Tally(1)
    tally.close()
    tally.answered("image", 0.5, 0.6, 1, Judged(1, 0))
    tally.failed("text", 0.5, 1, "timeout", "late")
    assert tally.kinds["image"].requests == tally.kinds["text"].requests == 0


def late(seconds: float) -> Histogram:
    histogram = Histogram()
    histogram.add(seconds)
    return histogram


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        ({"interrupted": True}, "interrupted"),
        ({"cpu_share": 0.97}, "sending took 0.97 of a core"),
        ({"lateness": late(0.5)}, "more than 500.0 ms late"),
        ({"num": 50}, "only 50 answers"),
    ],
)
def test_warnings(fields: dict[str, object], warning: str) -> None:
    assert result().warnings == ()
    assert warning in result(**fields).warnings[-1]  # type: ignore[arg-type]


def test_a_model_in_this_process_may_use_the_core() -> None:
    assert result(url="artifacts/x", cpu_share=1.9).warnings == ()


def test_failures_are_warned_of() -> None:
    load, tally = Load(clients=3, rate=100, duration_s=10), Tally(10)
    for number in range(200):
        tally.answered("image", 1, 2, 1, Judged(1, 0))
        if number % 10 == 0:
            tally.failed("image", 1, 0, "not sent", "all clients were waiting")
    found = make_result("grpc://x:1", MODEL, Inputs((), (), "", ""), load, Measured(tally, elapsed_s=10))
    assert (
        "20 of 220 planned requests were not sent: the server did not keep up with --rate 100" in found.warnings[0]
    )
    assert "20 of 220 requests failed" in found.warnings[1]


def test_the_page_shows_charts_and_escapes_messages() -> None:
    page = load_test_page(result(cpu_share=0.9))
    assert page.count("<svg") == 2
    for word in ("pictures p99", "pictures answered", "failed", "&lt;late&gt; 0", "sending took 0.90 of a core"):
        assert word in page
    assert "<late>" not in page
    assert "none here" in page
