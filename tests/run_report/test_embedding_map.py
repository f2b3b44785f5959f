"""The map of the joint space: equal units, one point a picture and a text, and the cosines beside it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

from protoclip.evaluation.gap import modality_gap
from protoclip.reports.charts import Frame
from protoclip.reports.projection import project
from protoclip.reports.scatter import Dots, Level, scatter_chart
from protoclip.run_report.cosines import cosine_shares, mean_cosines
from protoclip.run_report.embedded import Embedded
from protoclip.run_report.embedding_map import balanced_rows, draw_map

FRAME = Frame(400, 300, x_label="right", y_label="up")


@pytest.fixture(scope="module")
def part(embedded: Embedded) -> Embedded:
    return embedded.select(embedded.pairs.column("split") == "unseen_style")


def circles(svg: Markup) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(svg)
    return [(float(element.attrib["cx"]), float(element.attrib["cy"])) for element in root.iter("circle")]


@pytest.mark.parametrize("far", [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0)])
def test_a_unit_is_as_long_upwards_as_to_the_right(far: tuple[float, float]) -> None:
    start, right, up, _ = circles(scatter_chart([Dots(0, False, [(0, 0), (1, 0), (0, 1), far])], FRAME, "x"))
    assert right[0] - start[0] == pytest.approx(start[1] - up[1], abs=0.2)
    assert right[1] == start[1]
    assert up[0] == start[0]


def test_every_point_lies_within_the_axes() -> None:
    rng = np.random.default_rng(0)
    for stretch in ((1, 1), (50, 1), (1, 50)):
        points = [tuple(map(float, row)) for row in rng.normal(size=(40, 2)) * stretch]
        svg = scatter_chart([Dots(0, False, points)], FRAME, "x")  # type: ignore[arg-type]
        _, _, width, height = map(float, ElementTree.fromstring(svg).attrib["viewBox"].split())
        assert height <= FRAME.height
        for x, y in circles(svg):
            assert FRAME.left <= x <= width - FRAME.right
            assert FRAME.top <= y <= height - FRAME.bottom


def test_titles_and_names_are_escaped() -> None:
    dots = Dots(3, True, [(0, 0), (1, 1)], ["<a> & b", "c"])
    svg = scatter_chart([dots], FRAME, '"<x>"', [((0, 0), (1, 1))], [Level(0.5, "<level>")])
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == '"<x>"'
    assert [element.text for element in root.iter("title")] == ["<a> & b", "c"]
    assert "<level>" in [element.text for element in root.iter("text")]
    assert len(list(root.iter("rect"))) == 2


def test_one_point_is_drawn_and_none_is_nothing() -> None:
    assert len(circles(scatter_chart([Dots(0, False, [(2.0, 2.0)])], FRAME, "x"))) == 1
    assert scatter_chart([], FRAME, "x") == ""


def test_pictures_are_circles_and_texts_squares_and_each_is_named(part: Embedded) -> None:
    found = draw_map(part, "category")
    assert found is not None
    assert found.num_drawn <= 600
    for view in (found.across, found.along):
        for svg in (view.wide, view.narrow):
            root = ElementTree.fromstring(svg)
            assert len(circles(svg)) == len(list(root.iter("rect"))) == found.num_drawn
        titles = [element.text for element in ElementTree.fromstring(view.wide).iter("title")]
        kinds = dict(zip((texts[0] for texts in part.pairs.texts), part.pairs.column("category"), strict=True))
        assert len(titles) == 2 * found.num_drawn
        for title in titles:
            label, kind = re.fullmatch(r"(.*): (?:text|picture), (.*)", title or "").groups()  # type: ignore[union-attr]
            assert kinds[label] == kind


def test_the_planted_gap_is_seen_across_and_not_along(part: Embedded) -> None:
    found = draw_map(part, "category")
    assert found is not None

    def heights(svg: Markup, tag: str, name: str) -> list[float]:
        return [float(element.attrib[name]) for element in ElementTree.fromstring(svg).iter(tag)]

    pictures, texts = (heights(found.across.wide, *what) for what in (("circle", "cy"), ("rect", "y")))
    # Upwards on the page is towards zero.
    assert max(texts) < min(pictures)
    pictures, texts = (heights(found.along.wide, *what) for what in (("circle", "cy"), ("rect", "y")))
    assert min(pictures) < np.mean(texts) < max(pictures)
    assert len(re.findall('class="link"', found.across.wide)) == found.num_links == 60


def test_colours_tell_modalities_across_and_classes_along(part: Embedded) -> None:
    found = draw_map(part, "category")
    assert found is not None
    assert set(re.findall(r'class="dots c(\d+)"', found.across.wide)) == {"1", "2"}
    assert dict(found.legend).keys() == {int(style) for style in re.findall(r'dots c(\d+)"', found.along.wide)}
    assert [name for _, name in found.legend] == sorted(set(part.pairs.column("category")))
    many = draw_map(part, "subcategory")
    assert many is not None
    assert len(many.legend) == 10
    assert many.legend[-1] == (13, "others")


def test_rows_are_balanced_and_spread() -> None:
    classes = np.array(["big"] * 90 + ["small"] * 3)
    rows = balanced_rows(classes, 20)
    assert rows.tolist() == [0, 10, 20, 30, 40, 49, 59, 69, 79, 89, 90, 91, 92]
    assert balanced_rows(np.array(list("abc")), 2).tolist() == [0, 1, 2]


def test_too_few_pictures_have_no_map(part: Embedded) -> None:
    assert draw_map(part.select(np.array([0, 1])), "category") is None
    assert draw_map(part.select(np.array([0, 1, 2])), "category") is not None


def test_mean_cosines_are_those_of_a_loop(part: Embedded) -> None:
    owners = part.labels.owners
    own, other = [], []
    for row, picture in enumerate(part.image_vectors):
        for place, text in enumerate(part.text_vectors):
            (own if owners[row] == place else other).append(float(picture @ text))
    found = mean_cosines(part.image_vectors, part.text_vectors, owners)
    assert found == (pytest.approx(np.mean(own), abs=1e-6), pytest.approx(np.mean(other), abs=1e-6))
    assert mean_cosines(np.eye(3)[:1], np.eye(3)[:1], np.array([0])) == (1.0, None)


def test_shares_of_cosines_sum_to_one_each(part: Embedded) -> None:
    middles, own, other = cosine_shares(part.image_vectors, part.text_vectors, part.labels.owners, num_bins=200)
    assert own.sum() == pytest.approx(1)
    assert other.sum() == pytest.approx(1)
    expected = mean_cosines(part.image_vectors, part.text_vectors, part.labels.owners)
    assert ((middles * own).sum(), (middles * other).sum()) == pytest.approx(expected, abs=0.01)


def test_the_gap_is_that_of_the_evaluation(embedded: Embedded) -> None:
    found = project(embedded.image_vectors, embedded.text_vectors)
    assert found.gap == pytest.approx(modality_gap(embedded.image_vectors, embedded.text_vectors))
    assert found.gap > 0.4
