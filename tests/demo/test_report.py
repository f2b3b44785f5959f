"""The report on a run folder made here: what it says, and that it stands alone."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from protoclip.config.load import build_config
from protoclip.contract.errors import DataError, ModelError
from protoclip.demo.report import write_report
from protoclip.demo.report_contents import ClassificationPanel, Latency, SearchHit, SearchPanel
from protoclip.evaluation.scores import Evaluation
from protoclip.reports.thumbnails import data_uri
from protoclip.run_report.contents import Fact, Timing
from protoclip.run_report.filters import duration
from protoclip.runs.files import CONFIG_FILE, PROTOTYPES_FILE
from protoclip.sources import Pairs

NUM_PAIRS = 48


def picture(hue: int, mode: str = "RGB", edge: int = 16) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (edge, edge), ((hue * 37) % 256, (hue * 91) % 256, 120, 255)[: len(mode)]).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def pairs() -> Pairs:
    return Pairs(
        images=[picture(row) for row in range(NUM_PAIRS)],
        texts=tuple((f"thing <{row // 2}>", "other") for row in range(NUM_PAIRS)),
        columns={
            "concept": np.array([f"c{row // 2}" for row in range(NUM_PAIRS)], dtype=object),
            "kind": np.array(["plants & co" if row % 3 else "animals" for row in range(NUM_PAIRS)], dtype=object),
        },
    )


def score(value: float) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - 0.05), "high": min(1.0, value + 0.05), "num_items": 40}


def cell(value: float, probe: float | None) -> dict[str, object]:
    recalls = {1: score(value), 5: score(value + 0.1), 10: score(value + 0.2)}
    return {
        "num_images": 1234,
        "num_texts": 40,
        "num_skipped": 3,
        "retrieval": {"image_to_text": recalls, "text_to_image": recalls},
        "classification": {
            "kind": {
                "num_classes": 2,
                "majority": 0.667,
                "zero_shot": {"plain": score(0.412), "members": score(0.523)},
                "linear_probe": None if probe is None else score(probe),
                "neighbours": None if probe is None else score(probe),
            }
        },
        "geometry": {"gap": 0.82, "alignment": 1.1, "uniformity_image": -2.5, "uniformity_text": None},
    }


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation.model_validate(
        {
            "source": "a <run>",
            "model_name": "protoclip-mini-48",
            "embedding_dim": 128,
            "num_train": NUM_PAIRS,
            "cells": {"train": cell(0.7, None), "unseen_style": cell(0.337, 0.655)},
            "probes": {"kind": {"decay": 0.01, "linear_validation": 0.6, "k": 7, "neighbours_validation": 0.5}},
            "skipped": ["train: row 3: the picture is empty: 0 bytes"],
            "seconds": 12.0,
            "created_at": "2026-01-01T00:00:00+00:00",
            "versions": {"torch": "2.99"},
        }
    )


def metrics() -> list[dict[str, object]]:
    steps = [
        {
            "kind": "step",
            "step": step,
            "episode": step // 100,
            "loss": 5 - step / 100 + (2 if step >= 100 else 0),
            "loss_clip": 5 - step / 100,
            "loss_proto": 2.0 if step >= 100 else None,
            "loss_ext": None,
            "scale": 14 + step / 10,
            "scale_proto": 14.0,
            "pairs_per_s": 900.0,
        }
        for step in range(0, 300, 10)
    ]
    episodes = [
        {"kind": "episode", "episode": e, "step": 100 * e, "agreement": 0.5 + 0.1 * e, "entropy_image": 0.9}
        for e in range(3)
    ]
    return [*steps, *episodes]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    values = {
        "data": {"path": ["x.csv"], "group_column": "concept"},
        "train": {"steps": 300, "seed": 4711},
    }
    (folder / CONFIG_FILE).write_text(build_config(values, "test").model_dump_json())
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics()))
    labels = np.arange(NUM_PAIRS) % 4
    tensors = {f"labels_{side}": labels for side in ("image", "text")}
    centroids = {f"centroids_{side}": np.zeros((4, 8), dtype=np.float32) for side in ("image", "text")}
    save_file({**tensors, **centroids}, folder / PROTOTYPES_FILE)
    return folder


def write(run: Path, evaluation: Evaluation, pairs: Pairs, **changes: object) -> str:
    hits = tuple(SearchHit(picture(row), f"thing {row}", 0.5 - row / 100) for row in range(8))
    content = {
        "searches": [SearchPanel("a <red> heart", hits), SearchPanel("like this", hits[:3], picture(99))],
        "classifications": [ClassificationPanel(picture(1), "animals", (("plants", 0.7), ("animals", 0.3)))],
        "latencies": [Latency("one picture", 6.125, 8.5, 300, 161.0)],
        "timings": [Timing("train", 272.0), Timing("export", 21.0)],
        "facts": [Fact("parity", "passed")],
    }
    out = run / "report.html"
    write_report(run, evaluation=evaluation, pairs=pairs, out=out, **{**content, **changes})  # type: ignore[arg-type]
    return out.read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would see: open tags must close, addresses and visible text are kept."""

    VOID = ("meta", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [value for name in ("src", "href") if (value := values.get(name))]
        self.ids += [value for name in ("id",) if (value := values.get(name))]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "


def test_the_page_is_whole_and_needs_nothing_from_outside(run: Path, evaluation: Evaluation, pairs: Pairs) -> None:
    html = write(run, evaluation, pairs)
    page = Page(html)
    assert page.open == []
    outside = [address for address in page.addresses if not address.startswith(("data:image/webp;base64,", "#"))]
    assert outside == []
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert "http" not in re.sub(r'src="data:[^"]*"', "", html)
    assert "url(" not in html
    assert "<script" not in html


def test_what_was_measured_is_said(run: Path, evaluation: Evaluation, pairs: Pairs) -> None:
    text = " ".join(Page(write(run, evaluation, pairs)).text.split())
    for expected in (
        "a <run>",
        "33.7 % right text first, unseen style",
        "43.7 % right text among the first 5, unseen style",
        "65.5 % linear probe by kind, unseen style",
        "6.1 ms median latency, one picture",
        "4 min 53 s the whole way",
        "a <red> heart",
        "it is animals",
        "1,234 3 unreadable",
        "7-NN",
        "41.2 36.2–46.2",
        "plants & co",
        "thing <0>",
        '"seed": 4711',
        "torch 2.99",
        "parity passed",
        "train: row 3: the picture is empty: 0 bytes",
        "prototypes.safetensors 160 numbers",
        "episode 1",
        "episode 2",
    ):
        assert expected in text, expected


def test_losses_are_drawn_where_there_are_any(run: Path, evaluation: Evaluation, pairs: Pairs) -> None:
    html = write(run, evaluation, pairs)
    wide = html[html.index("<h3>Loss</h3>") : html.index('class="narrow"')]
    assert re.findall(r"<title>([^<]*)</title>", wide) == ["total", "alignment", "prototypes"]
    assert "Cluster agreement" in html
    assert "Cluster sizes" in html


def test_parts_without_content_are_left_out(run: Path, evaluation: Evaluation, pairs: Pairs) -> None:
    (run / PROTOTYPES_FILE).unlink()
    (run / "metrics.jsonl").write_text("")
    html = write(run, evaluation, pairs, searches=[], classifications=[], latencies=[], timings=[], facts=[])
    assert [element for element in Page(html).ids if not element.startswith("c")] == ["evaluation", "made"]
    assert "exported and served" not in html


def test_an_unreadable_member_is_left_out_and_another_picture_is_an_error(
    run: Path, evaluation: Evaluation, pairs: Pairs
) -> None:
    broken = replace(pairs, images=[b"", *pairs.images[1:]])
    assert write(run, evaluation, broken).count("<img") == write(run, evaluation, pairs).count("<img") - 2
    bad = SearchPanel("q", (SearchHit(b"no picture", "x", 0.1),))
    with pytest.raises(DataError, match="picture of the report"):
        write(run, evaluation, pairs, searches=[bad])


def test_other_pairs_and_no_run_are_refused(
    run: Path, evaluation: Evaluation, pairs: Pairs, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="48 pairs, but 10 were given"):
        write(run, evaluation, pairs.select(np.arange(10)))
    (run / CONFIG_FILE).unlink()
    with pytest.raises(ModelError, match=CONFIG_FILE):
        write(run, evaluation, pairs)


def test_the_same_input_gives_the_same_bytes(run: Path, evaluation: Evaluation, pairs: Pairs) -> None:
    assert write(run, evaluation, pairs) == write(run, evaluation, pairs)


def test_thumbnails_are_small_and_on_white() -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (400, 200), (0, 0, 0, 0)).save(stream, "PNG")
    encoded = data_uri(stream.getvalue()).removeprefix("data:image/webp;base64,")
    shown = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert shown.size == (96, 48)
    assert shown.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


def test_durations() -> None:
    assert [duration(s) for s in (4.21, 59.4, 59.7, 119.8, 272)] == [
        "4.2 s",
        "59.4 s",
        "1 min 0 s",
        "2 min 0 s",
        "4 min 32 s",
    ]
