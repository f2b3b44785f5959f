"""The bundled corpus: what is in it, where it may be used, and how it is split."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import protoclip.demo
from protoclip.cli.pairs import PairsOptions
from protoclip.data.table import load_pairs
from protoclip.demo.run import demo_config
from protoclip.demo.session import corpus_queries
from protoclip.sources import Pairs

CORPUS = Path(protoclip.demo.__file__).parent / "corpus"
PICTURES = {
    "emojione": 1370,
    "fluent_3d": 1570,
    "fluent_flat": 1594,
    "fxemoji": 864,
    "noto": 1644,
    "openmoji": 1906,
    "twemoji": 1906,
}
LICENSES = {
    "emojione": "CC-BY-4.0",
    "fluent_3d": "MIT",
    "fluent_flat": "MIT",
    "fxemoji": "Apache-2.0",
    "noto": "Apache-2.0",
    "openmoji": "CC-BY-SA-4.0",
    "twemoji": "CC-BY-4.0",
}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(CORPUS.glob("*.parquet"))])


@pytest.fixture(scope="module")
def rows(table: pa.Table) -> list[dict]:
    return table.drop(["image"]).to_pylist()


def unseen(code: str) -> bool:
    return int(hashlib.md5(code.encode()).hexdigest(), 16) % 10 == 0


def test_files_are_small_and_one_for_each_style():
    paths = sorted(CORPUS.glob("*.parquet"))
    assert [path.stem for path in paths] == sorted(PICTURES)
    assert sum(path.stat().st_size for path in paths) <= 16_000_000


def test_schema_is_the_same_in_every_file():
    for style in PICTURES:
        schema = pq.read_schema(CORPUS / f"{style}.parquet")
        columns = {field.name: field.type for field in schema}
        assert columns.pop("image") == pa.binary()
        assert columns.pop("texts") == pa.list_(pa.string())
        names = ["concept", "label", "category", "subcategory", "style", "license", "split"]
        assert columns == {name: pa.string() for name in names}


def test_counts(rows: list[dict]):
    assert Counter(row["style"] for row in rows) == PICTURES
    assert len({row["concept"] for row in rows}) == 1906
    assert len({row["category"] for row in rows}) == 9
    assert len({row["subcategory"] for row in rows}) == 98


def test_a_file_holds_its_own_style_each_concept_once(rows: list[dict]):
    for style in PICTURES:
        file = pq.read_table(CORPUS / f"{style}.parquet", columns=["style", "concept"])
        assert set(file["style"].to_pylist()) == {style}
    drawn = Counter((row["style"], row["concept"]) for row in rows)
    assert max(drawn.values()) == 1


def test_codes_have_no_skin_tone_and_no_variation_selector(rows: list[dict]):
    parts = {part for row in rows for part in row["concept"].split("-")}
    assert not parts & {"FE0F", "1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
    assert all(part == f"{int(part, 16):04X}" for part in parts)


def test_a_concept_is_described_alike_in_every_style(rows: list[dict]):
    described: dict[str, tuple] = {}
    for row in rows:
        words = (row["label"], row["category"], row["subcategory"], *row["texts"])
        assert described.setdefault(row["concept"], words) == words
    labels = [words[0] for words in described.values()]
    assert len(set(labels)) == len(labels)


def test_texts_start_with_the_label_and_belong_to_one_concept(rows: list[dict]):
    texts = {row["concept"]: row["texts"] for row in rows}
    labels = {row["concept"]: row["label"] for row in rows}
    for concept, several in texts.items():
        assert several[0] == labels[concept]
        assert all(text == text.strip() != "" for text in several)
    owners = Counter(text.casefold() for several in texts.values() for text in several)
    assert max(owners.values()) == 1
    assert np.mean([len(several) for several in texts.values()]) > 3.5


def test_splits_follow_style_and_concept(rows: list[dict]):
    names = {
        (False, False): "train",
        (True, False): "unseen_style",
        (False, True): "unseen_concept",
        (True, True): "unseen_both",
    }
    for row in rows:
        assert row["split"] == names[row["style"] == "twemoji", unseen(row["concept"])]
    counts = Counter(row["split"] for row in rows)
    assert counts["unseen_style"] == 1697
    assert counts["unseen_both"] == 209


def test_nothing_unseen_is_in_train(rows: list[dict]):
    train = [row for row in rows if row["split"] == "train"]
    held_out = [row for row in rows if row["split"] in ("unseen_concept", "unseen_both")]
    assert "twemoji" not in {row["style"] for row in train}
    assert not {row["concept"] for row in train} & {row["concept"] for row in held_out}
    trained_texts = {text.casefold() for row in train for text in row["texts"]}
    assert not trained_texts & {text.casefold() for row in held_out for text in row["texts"]}


def test_every_unseen_concept_can_be_asked_for_in_a_trained_style(rows: list[dict]):
    drawn = {row["concept"] for row in rows if row["style"] != "twemoji"}
    assert drawn == {row["concept"] for row in rows}


def test_licences_are_named_in_the_rows_and_in_the_notice(rows: list[dict]):
    assert {(row["style"], row["license"]) for row in rows} == set(LICENSES.items())
    notice = (CORPUS / "NOTICE").read_text(encoding="utf-8")
    for style, license_id in LICENSES.items():
        section = notice.split(f"\n{style}.parquet\n", 1)[1].split("\n\n", 1)[0]
        assert license_id in section


def test_pictures_are_64_pixels_rgb_on_white(table: pa.Table):
    for index in range(0, len(table), 53):
        image = Image.open(io.BytesIO(table["image"][index].as_py()))
        assert image.format == "WEBP"
        assert (image.size, image.mode) == ((64, 64), "RGB")
        # A drawing is neither blank nor, transparency lost, on black.
        pixels = np.asarray(image)
        assert pixels.std() > 2, table["label"][index].as_py()
    corners = [np.asarray(_open(table, index))[0, 0] for index in range(0, len(table), 53)]
    assert np.mean([corner.min() > 250 for corner in corners]) > 0.8


def test_styles_draw_the_same_concept_alike(table: pa.Table):
    """Names were matched by hand in two styles; a shifted or shuffled match loses the resemblance."""
    thumbnails = _thumbnails(table, "noto")
    for style in ("emojione", "fxemoji"):
        other = _thumbnails(table, style)
        shared = sorted(set(thumbnails) & set(other))
        own = np.stack([thumbnails[code] for code in shared])
        theirs = np.stack([other[code] for code in shared])
        similarity = theirs @ own.T
        rank = (similarity > np.diag(similarity)[:, None]).sum(axis=1)
        assert np.mean(rank < len(shared) // 10) > 0.6, style


def test_the_language_teacher_knows_every_concept(rows: list[dict]):
    teacher = pq.read_table(CORPUS / "teacher/minilm_pca64.parquet")
    assert teacher["concept"].to_pylist() == sorted({row["concept"] for row in rows})
    features = np.array(teacher["feature"].to_pylist())
    assert features.shape == (1906, 64)
    assert np.isfinite(features).all()
    seen = np.array([not unseen(code) for code in teacher["concept"].to_pylist()])
    np.testing.assert_allclose(features[seen].mean(axis=0), 0, atol=1e-5)
    variances = features[seen].var(axis=0)
    assert (np.diff(variances) < 0).all()
    covariance = np.cov(features[seen].T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-6)


def _open(table: pa.Table, index: int) -> Image.Image:
    return Image.open(io.BytesIO(table["image"][index].as_py()))


def _thumbnails(table: pa.Table, style: str) -> dict[str, np.ndarray]:
    """Concept code → its drawing at 8 × 8 pixels, centred and of unit norm, one in three."""
    positions = [i for i, name in enumerate(table["style"].to_pylist()) if name == style][::3]
    codes = table["concept"].take(positions).to_pylist()
    pixels = [np.asarray(_open(table, i).resize((8, 8)), dtype=np.float64).ravel() for i in positions]
    centred = [row - row.mean() for row in pixels]
    return {code: row / np.linalg.norm(row) for code, row in zip(codes, centred, strict=True)}


def test_the_demo_leaves_nothing_out() -> None:
    assert load_pairs(demo_config().data).left_out == ()
    assert PairsOptions().load().left_out == ()


def test_the_report_asks_for_what_the_corpus_holds() -> None:
    """A query for each category, whatever the order of the rows."""
    pairs = load_pairs(demo_config().data)
    shown = pairs.select(pairs.column("split") == "unseen_style")
    queries = corpus_queries(shown)
    rows = [next(row for row, texts in enumerate(shown.texts) if texts[0] == query) for query in queries]
    categories = shown.column("category").tolist()
    assert [categories[row] for row in rows] == sorted(set(categories))
    codes = [
        min(hashlib.md5(code.encode()).hexdigest() for code in _codes(shown, name))
        for name in sorted(set(categories))
    ]
    assert [hashlib.md5(shown.column("concept")[row].encode()).hexdigest() for row in rows] == codes
    assert corpus_queries(shown.select(np.arange(len(shown))[::-1])) == queries


def _codes(pairs: Pairs, category: str) -> list[str]:
    return [str(code) for code in pairs.column("concept")[pairs.column("category") == category]]
