"""The report's views of the joint space, through the page itself."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from protoclip.config.load import build_config
from protoclip.demo.comparison import compare, load_comparison
from protoclip.demo.report import write_report
from protoclip.evaluation.scores import Evaluation
from protoclip.run_report.embedded import Embedded
from protoclip.run_report.filters import cosine, signed
from protoclip.run_report.views import Views, make_views
from protoclip.runs.files import CONFIG_FILE

SCORE = {"value": 0.4, "low": 0.3, "high": 0.5, "num_items": 10}
STUDY = {
    "date": "2026-01-02",
    "machine": "a <machine>",
    "command": "make recipe",
    "steps": 1200,
    "config_sha256": "0123456789abcdef",
    "seeds": [4, 5, 6],
    "results": {
        "ProtoCLIP with teacher": {"R@1": [48.1, 47.9, 48.3], "R@5": [60.0, 61.0, 59.0], "probe": [50, 50, 50.3]},
        "plain CLIP": {"R@1": [46.1, 45.2, 46.3], "R@5": [60.5, 60.0, 59.5], "probe": [55, 55.1, 55.2]},
    },
}


@pytest.fixture(scope="module")
def views(embedded: Embedded) -> Views:
    splits = embedded.pairs.column("split")
    return make_views(
        embedded,
        splits == "unseen_style",
        splits == "unseen_both",
        class_columns=("category", "subcategory"),
        names=("A part of <one> style", "Others", "the corpus"),
    )


def page(folder: Path, embedded: Embedded, views: Views, study: object = None) -> str:
    """The report of a run that has nothing but a configuration."""
    (folder / CONFIG_FILE).write_text(
        build_config({"data": {"path": ["x.csv"]}, "train": {"steps": 1}}, "test").model_dump_json()
    )
    (folder / "metrics.jsonl").write_text("")
    recalls = {1: SCORE, 5: SCORE, 10: SCORE}
    cell = {
        "num_images": 10,
        "num_texts": 10,
        "num_skipped": 0,
        "retrieval": {"image_to_text": recalls, "text_to_image": recalls},
        "classification": {},
        "geometry": {"gap": 0.5, "alignment": 1.0, "uniformity_image": -0.001, "uniformity_text": -2.5},
    }
    values = {"source": "a run", "model_name": "tiny", "embedding_dim": 109, "num_train": 10}
    rest = {"cells": {"train": cell}, "probes": {}, "seconds": 1.0, "created_at": "now", "versions": {}}
    comparison = None
    if study is not None:
        (folder / "comparison.json").write_text(json.dumps(study))
        comparison = compare(load_comparison(folder / "comparison.json"))  # type: ignore[arg-type]
    write_report(
        folder,
        evaluation=Evaluation.model_validate(values | rest),
        pairs=embedded.pairs,
        searches=[],
        classifications=[],
        latencies=[],
        timings=[],
        out=folder / "report.html",
        views=views,
        comparison=comparison,
    )
    return (folder / "report.html").read_text(encoding="utf-8")


def words(text: str) -> str:
    without = re.sub(r"<style>.*?</style>|<title>.*?</title>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", without)).split())


def test_the_page_says_what_was_found(tmp_path: Path, embedded: Embedded, views: Views) -> None:
    text = words(page(tmp_path, embedded, views))
    assert views.space is not None
    assert views.neighbours is not None
    assert views.mistakes is not None
    worst, pair = views.mistakes.worst[0], views.mistakes.confusions[0]
    for expected in (
        "A part of <one> style: pictures are circles",
        "Others, and the pictures that lie nearest",
        f"{cosine(views.space.projection.gap)} modality gap",
        f"{cosine(views.space.own_cosine)} mean cosine of a picture and its own text",
        f"It carries {100 * views.space.projection.shares[0]:.1f} % of the variance of all",
        f"nearest among all other {len(embedded) - 1:,} of the corpus",
        f"Over all {views.neighbours.num_asked} such pictures",
        f"{worst.label} is at rank {worst.rank} {cosine(worst.cosine)}",
        f"{pair.true} {pair.found} {pair.count} of {pair.size}",
    ):
        assert expected in text, expected
    assert "plain CLIP" not in text
    assert "Every number and picture below comes from this run." in text


def test_parts_that_are_none_are_left_out(tmp_path: Path, embedded: Embedded) -> None:
    text = page(tmp_path, embedded, Views())
    for name in ("space", "neighbours", "mistakes", "comparison"):
        assert f'id="{name}"' not in text
        assert f'href="#{name}"' not in text


def test_a_study_is_told_apart_from_the_run_and_flatters_nobody(tmp_path: Path, embedded: Embedded) -> None:
    """By hand, t = 4.303: R@1 48.1 ± t · 0.2 / √3 = 0.5. The three differences are corrected for being three, with
    t = 7.649: R@1 2.2 ± 1.8; R@5 differs by −0.5, 1 and −0.5, which is 0 ± t · 0.866 / √3 = 3.8; the probe by −5,
    −5.1 and −4.9: −5 ± t · 0.1 / √3 = 0.4.
    """
    text = words(page(tmp_path, embedded, Views(), STUDY))
    assert "but for the comparison with plain CLIP" in text
    assert "Not from this run" in text
    assert "(seeds 4, 5, 6) for 1,200 steps" in text
    assert "ProtoCLIP with teacher 48.1 ± 0.5" in text
    row = text[text.index("difference to plain CLIP +") :]
    assert row.startswith(
        "difference to plain CLIP +2.2 ± 1.8 better +0.0 ± 3.8 no clear difference −5.0 ± 0.4 worse"
    )
    assert "on a <machine> by make recipe , configuration 0123456789ab." in text


def test_one_seed_shows_nothing(tmp_path: Path, embedded: Embedded) -> None:
    results = {name: {"R@1": values["R@1"][:1]} for name, values in STUDY["results"].items()}  # type: ignore[attr-defined]
    text = words(page(tmp_path, embedded, Views(), STUDY | {"seeds": [4], "results": results}))
    assert "+2.0 one seed shows nothing" in text
    assert "±" not in text[text.index("Variant") :]


def test_the_page_stays_small(tmp_path: Path, embedded: Embedded, views: Views) -> None:
    assert len(page(tmp_path, embedded, views, STUDY).encode()) < 2_000_000


def test_differences_have_a_sign_and_no_negative_zero() -> None:
    assert [signed(value) for value in (2.23, -0.01, -0.26)] == ["+2.2", "+0.0", "−0.3"]


def test_cosines_have_a_real_minus_and_no_negative_zero() -> None:
    assert [cosine(value) for value in (-0.174, -0.001, 0.5, float(np.float32(0.999)))] == [
        "−0.17",
        "0.00",
        "0.50",
        "1.00",
    ]


PROBE = """<script>addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const wide = [...page.querySelectorAll("body *")].filter(
    element => !element.closest(".scroll, svg, pre") && element.getBoundingClientRect().right > WIDTH + 0.5);
  const tables = [...page.querySelectorAll(".scroll")].filter(card => card.getBoundingClientRect().right > WIDTH);
  document.title = [page.querySelectorAll("h2").length, wide.length + tables.length,
                    page.documentElement.scrollWidth].join(" ");
})</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="measuring the layout needs chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_page(tmp_path: Path, embedded: Embedded, views: Views, width: int) -> None:
    text = page(tmp_path, embedded, views, STUDY)
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(text)}"></iframe>'
    (tmp_path / "frame.html").write_text(frame + PROBE.replace("WIDTH", str(width)), encoding="utf-8")
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--hide-scrollbars",
    )
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    command = ["chromium", *flags, *quiet, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    address = (tmp_path / "frame.html").as_uri()
    done = subprocess.run([*command, address], capture_output=True, text=True, check=True, timeout=300)
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
    assert found is not None, done.stderr[-500:]
    assert int(found[1]) >= 6
    assert (int(found[2]), int(found[3])) == (0, width)


def test_data_without_classes_has_one_colour_and_confuses_texts(embedded: Embedded) -> None:
    """What the page of a run without class columns shows."""
    everything = np.ones(len(embedded), dtype=bool)
    views = make_views(embedded, everything, everything, class_columns=(), names=("", "", ""))
    assert views.space is not None
    assert views.space.legend == ((4, ""),)
    assert views.neighbours is not None
    assert len(views.neighbours.panels) == 12
    assert views.mistakes is not None
    assert views.mistakes.column == "text"
    assert views.mistakes.num_other_class == len(embedded) - sum(
        text == embedded.labels.texts[owner]
        for text, owner in zip(
            np.array(embedded.labels.texts)[(embedded.image_vectors @ embedded.text_vectors.T).argmax(axis=1)],
            embedded.labels.owners,
            strict=True,
        )
    )
