"""The verdict as a page: every engine, every failure, and bars where the errors are."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from export.engines import open_engine
from export.parity.checks import Check, not_checked
from export.parity.reference import torch_reference
from export.parity.report import Report
from export.parity.samples import Samples
from export.parity.verdict_page import histogram, verdict_page
from export.parity.verify import make_report, verify_engine
from protoclip.contract.progress import silent


class Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.words += data.split()


@pytest.fixture(scope="module")
def report(exported_vit: Any, samples: Samples) -> Report:
    labelled = replace(samples, labels=tuple("red" if number % 2 else "blue" for number in range(20)))
    reference = torch_reference(exported_vit.clip, labelled, silent)
    engine = verify_engine(reference, open_engine(exported_vit.folder, "fp32"), "onnx_fp32", "fp32")
    return make_report(reference, [engine], random_weights=True)


def test_the_page_says_what_the_report_says(report: Report) -> None:
    page = verdict_page(report)
    text = " ".join(Text(page).words)
    assert "Parity verdict: passed" in text
    assert "20 pictures and 20 texts of drawings" in text
    assert "the graph, not accuracy: the weights are random" in text
    for name, _ in report.engines[0].comparisons():
        assert name in text
    assert "zero-shot accuracy" in text
    assert page.count("<rect") >= 2
    assert "http" not in page.replace("http-equiv", "")


def test_failures_stand_on_the_page_and_names_are_text(report: Report) -> None:
    failed = replace(
        report.engines[0], name="<b>mine</b>", checks=(Check("image, batch 8", "failed", "off by 1"),)
    )
    page = verdict_page(replace(report, engines=(failed,)))
    text = " ".join(Text(page).words)
    assert "Parity verdict: failed" in text
    assert "image, batch 8: off by 1" in text
    assert "<b>" not in page


def test_what_was_not_checked_is_said_in_words_and_never_called_passed(report: Report) -> None:
    engine = report.engines[0].with_checks(not_checked("range on a GPU", "a GPU is needed: verify there"))
    words = " ".join(Text(verdict_page(replace(report, engines=(engine,)))).words)
    assert "onnx_fp32 passed, 1 not checked" in words
    assert "Not checked: onnx_fp32: range on a GPU: a GPU is needed: verify there" in words
    assert "range on a GPU not checked" in words


def test_the_artifacts_own_checks_stand_on_the_page_and_fail_the_verdict(report: Report) -> None:
    wrong = report.with_checks(Check("temperature", "failed", "112.3 in the model, 100 here", 100.0, "112.3"))
    words = " ".join(Text(verdict_page(wrong)).words)
    assert "Parity verdict: failed" in words
    assert "temperature failed 100 112.3 112.3 in the model, 100 here" in words


def test_an_engine_of_nan_has_a_row_and_no_bars(report: Report) -> None:
    engine = report.engines[0]
    nothing = dict.fromkeys(
        ("max_abs_difference", "min_cosine", "mean_cosine", "min_centred_cosine", "mean_centred_cosine"), None
    )
    broken = replace(engine.image.adversarial, finite=False, error_to_neighbour=None, **nothing)
    image = replace(engine.image, adversarial=broken, centred_cosines=())
    text = replace(engine.text, centred_cosines=())
    page = verdict_page(replace(report, engines=(replace(engine, image=image, text=text, answers=None),)))
    assert "NaN or infinity" in page
    assert "<rect" not in page


def test_bars_stand_where_the_errors_are() -> None:
    plot = histogram("image", [1.0, 1.0, 1 - 1.1e-4, -0.5], 0.99)
    assert [(round(bar.left, 2), bar.height) for bar in plot.bars] == [(0.0, 100), (50.0, 50), (96.88, 50)]
    assert plot.gate == pytest.approx(75)
    assert histogram("image", [1.0], None).gate is None
