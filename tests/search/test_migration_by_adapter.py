"""Entries that are mapped from the old vectors instead of embedded: marked, measured, refused where it is bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting_models import NEW, OLD, CountingModel, picture, write_pictures
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError, ServerError
from protoclip.search import AdapterOptions, Index, LowRecall

COUNT, DIM = 200, 12
TURNED = np.linalg.qr(np.random.default_rng(1).standard_normal((16, 16)))[0][:DIM]


def linear(fingerprint: str, item: Any) -> NDArray[np.float32]:
    """The new model's vectors are the old one's, turned, with 16 dimensions; a third one's are of nothing."""
    data = item.encode() if isinstance(item, str) else bytes(item)
    made = np.random.default_rng([*data]).standard_normal(DIM)
    if fingerprint == NEW:
        made = made @ TURNED
    if fingerprint not in (OLD, NEW):
        made = np.random.default_rng([*fingerprint.encode(), *data]).standard_normal(DIM)
    return (made / np.linalg.norm(made)).astype(np.float32)


def model(fingerprint: str, at: Any = lambda item: None) -> CountingModel:
    return CountingModel(fingerprint, at, linear)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "photos", COUNT)
    metadata = {f"{number}.png": {"caption": f"caption {number}"} for number in range(COUNT)}
    with model(OLD).client(20) as client:
        Index.build(tmp_path / "x.index", client, tmp_path / "photos", metadata).close()
    return tmp_path / "x.index"


def migrate(path: Path, to: CountingModel, adapter: Any, images: Any = None) -> Any:
    with to.client(20) as client, Index.open(path) as index:
        return index.migrate(client, images, adapter=adapter)


def check(path: Path, mapped: set[str], items: dict[str, bytes]) -> None:
    with Index.open(path) as index:
        entries = list(index.iterate())
        assert {entry.id for entry in entries if entry.mapped} == mapped
        assert index.stats().mapped == len(mapped)
        for entry in entries:
            np.testing.assert_allclose(entry.vector, linear(NEW, items[entry.id]), atol=1e-4)


def items() -> dict[str, bytes]:
    return {f"{number}.png": picture(number) for number in range(COUNT)}


def test_what_is_missing_is_mapped(path: Path, tmp_path: Path) -> None:
    for number in (3, 150):
        (tmp_path / "photos" / f"{number}.png").unlink()
    with Index.open(path) as index:
        before = [(entry.id, dict(entry.metadata)) for entry in index.iterate()]
        index.add([linear(OLD, "added")], ["added"])
    migrated = migrate(path, model(NEW), "missing")
    assert (migrated.entries, migrated.embedded, migrated.mapped) == (COUNT + 1, COUNT - 2, 3)
    report = migrated.adapter
    assert report.method == "procrustes"
    assert (report.of_model, report.fitted_on) == (OLD, COUNT - 2)
    assert report.error < 1e-5
    assert report.recall > 0.99
    assert (report.by_entry.among, report.by_text.queries) == (COUNT - 2, COUNT - 2)
    check(path, {"3.png", "150.png", "added"}, {**items(), "added": b"added"})
    with Index.open(path) as index:
        assert index.adapter == report
        assert [(entry.id, dict(entry.metadata)) for entry in index.iterate()][:-1] == before
        assert index.get("3.png").mapped  # type: ignore[union-attr]
        assert not index.get("4.png").mapped  # type: ignore[union-attr]
        # What replaces a mapped entry is mapped no more.
        index.upsert([linear(NEW, picture(3))], ["3.png"])
        index.remove("added")
    check(path, {"150.png"}, items())


def test_mapped_entries_are_embedded_once_their_pictures_are_there(path: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "3.png").unlink()
    migrate(path, model(NEW), "missing")
    (tmp_path / "photos" / "3.png").write_bytes(picture(3))
    migrate(path, model(OLD), None)
    with Index.open(path) as index:
        assert (index.stats().mapped, index.adapter) == (0, None)
        np.testing.assert_allclose(index.vector("3.png"), linear(OLD, picture(3)), atol=1e-6)


def test_a_map_is_never_fitted_on_mapped_vectors(path: Path, tmp_path: Path) -> None:
    migrate(path, model(NEW), AdapterOptions("all", fit_on=120))
    (tmp_path / "photos" / "3.png").unlink()
    migrated = migrate(path, model(OLD), "missing")
    assert (migrated.embedded, migrated.mapped) == (COUNT - 1, 1)
    # Of those 120 that had been embedded, one may be the one that is gone.
    assert migrated.adapter.fitted_on in (119, 120)


def test_all_but_a_sample(path: Path) -> None:
    to = model(NEW)
    migrated = migrate(path, to, AdapterOptions("all", fit_on=120))
    assert (migrated.embedded, migrated.mapped, migrated.adapter.fitted_on) == (120, COUNT - 120, 120)
    pictures = [item for item in to.seen if item in items().values()]
    assert len(set(pictures)) == len(pictures) == 120
    with Index.open(path) as index:
        mapped = {entry.id for entry in index.iterate() if entry.mapped}
    assert len(mapped) == COUNT - 120
    check(path, mapped, items())


def test_interrupted_the_same_sample_is_embedded(path: Path) -> None:
    to = model(NEW)

    def fail(item: Any) -> None:
        if len(to.seen) == 70:
            raise ServerError("the server is gone")

    to.at = fail
    with pytest.raises(ServerError):
        migrate(path, to, AdapterOptions("all", fit_on=120))
    to.at = lambda item: None
    migrated = migrate(path, to, AdapterOptions("all", fit_on=120))
    assert migrated.resumed in (40, 60)
    assert (migrated.resumed + migrated.embedded, migrated.mapped) == (120, COUNT - 120)


@pytest.mark.parametrize("mode", ["missing", "all"])
def test_a_bad_map_changes_nothing(path: Path, tmp_path: Path, mode: Any) -> None:
    """A third model, whose vectors have nothing to do with the old ones."""
    (tmp_path / "photos" / "3.png").unlink()
    third = model("abcdef00")
    with pytest.raises(
        LowRecall, match=r"a search by an entry finds 0\.\d+ \(.*less than min_recall=0.95"
    ) as caught:
        migrate(path, third, AdapterOptions(mode, fit_on=150))
    assert caught.value.report.recall < 0.4
    assert caught.value.exit_code == 1
    with Index.open(path) as index:
        assert index.fingerprint == OLD
        assert len(index) == COUNT
    # What was embedded is kept, and nothing of it is mapped.
    migrated = migrate(path, third, AdapterOptions(mode, fit_on=150, min_recall=0))
    assert migrated.embedded == 0
    assert migrated.adapter == caught.value.report


def test_texts_decide_too(path: Path, tmp_path: Path) -> None:
    """Pictures differ by what the old model knows, and a little by what texts are alone told apart by."""
    (tmp_path / "photos" / "3.png").unlink()

    def make(fingerprint: str, item: Any) -> NDArray[np.float32]:
        data = item.encode() if isinstance(item, str) else bytes(item)
        more = np.random.default_rng([7, *data]).standard_normal(6)
        more /= np.linalg.norm(more)
        known = np.zeros(DIM) if isinstance(item, str) else linear(OLD, item)
        made = np.concatenate([known, 0.2 * more])
        return (made / np.linalg.norm(made)).astype(np.float32)

    with pytest.raises(LowRecall, match="a search by a text finds") as caught:
        migrate(path, CountingModel("facade00", make=make), AdapterOptions("missing", min_recall=0.5))
    report = caught.value.report
    assert report.by_text.mean < 0.3 < 0.5 < report.by_entry.mean
    assert report.recall == report.by_text.mean


def test_captions(path: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "3.png").unlink()
    with pytest.raises(ConfigError, match=r"captions='sku' \(--captions\): no entry has a text in this field"):
        migrate(path, model(NEW), AdapterOptions("missing", captions="sku"))
    assert migrate(path, model(NEW), AdapterOptions("missing", captions="caption")).adapter.by_text is not None


def test_too_few_entries(path: Path, tmp_path: Path) -> None:
    for number in range(105):
        (tmp_path / "photos" / f"{number}.png").unlink()
    with pytest.raises(ConfigError, match="needs 100 entries with both vectors, but there are 95"):
        migrate(path, model(NEW), "missing")
    with pytest.raises(ConfigError, match=r"fit_on=99 .* is less than the 100 entries"):
        migrate(path, model(NEW), AdapterOptions("all", fit_on=99))


def test_a_map_that_was_interrupted_is_made_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the entries are mapped when it ends: the next one embeds what it can, and maps anew."""
    (tmp_path / "photos" / "3.png").unlink()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("protoclip.search.migration_draft.take_place", die)
        with pytest.raises(KeyboardInterrupt):
            migrate(path, model(NEW), "missing")
    with Index.open(path) as index:
        assert index.migrating is not None
        assert (index.migrating.done, index.migrating.total) == (COUNT - 1, COUNT)
    (tmp_path / "photos" / "3.png").write_bytes(picture(3))
    migrated = migrate(path, model(NEW), None)
    assert (migrated.resumed, migrated.embedded, migrated.mapped) == (COUNT - 1, 1, 0)
    check(path, set(), items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "some"}, "adapter='some' .* must be 'missing' or 'all'"),
        ({"mode": "all", "fit_on": 0}, "fit_on=0 "),
        ({"mode": "all", "min_recall": 1.5}, "min_recall=1.5 "),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdapterOptions(**options)
