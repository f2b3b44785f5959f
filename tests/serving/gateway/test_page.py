"""The page as it is sent: what works without JavaScript, what is escaped, and what is wrong in a line."""

from __future__ import annotations

import html
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from asgi_calls import Answer, ask, form_body
from page_shop import FINGERPRINT, HOSTILE, Shop, png
from PIL import Image

from protoclip.client import Client, InMemoryTransport, MemoryModel, Unavailable
from protoclip.contract.pixels import PixelSpec, load_pixels
from protoclip.search import Index
from serving.gateway.app import create_app
from serving.gateway.class_banks import ClassBanks
from serving.gateway.indexes import Indexes
from serving.gateway.settings import make_settings
from serving.gateway.state import Gateway


@pytest.fixture(scope="module")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(_shop: Shop) -> Iterator[Shop]:
    yield _shop
    _shop.away = None


def titles(answer: Answer) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'<b class="title">(.*?)</b>', answer.text)]


def said(answer: Answer) -> str:
    """The line of results, or of what is wrong."""
    found = re.search(r'data-status="(.*?)"', answer.text)
    assert found is not None
    return html.unescape(found[1])


def links(answer: Answer, label: str) -> list[str]:
    found = re.findall(rf'<a (?=[^>]*aria-label="{label})[^>]*href="\./(.*?)"', answer.text)
    return [html.unescape(one) for one in found]


def app_over(shop: Shop, path: Path) -> Any:
    """A gateway of the shop's model over another index, called x."""
    settings = make_settings(indexes={"x": path}, pictures_as_built=True)
    return create_app(Gateway(shop.client, settings, Indexes(settings.indexes), ClassBanks({})))


class TestSearch:
    def test_the_start_shows_some_of_all(self, shop: Shop) -> None:
        answer = shop.get("/")
        assert answer.status == 200
        assert len(titles(answer)) == 24
        assert said(answer) == "24 of 61 entries, evenly spaced"
        assert "parity verdict <b" in answer.text
        assert "colours_012345" in answer.text

    def test_words(self, shop: Shop) -> None:
        answer = shop.get("/?q=red")
        assert all(title.startswith(("red", "<script>")) for title in titles(answer)[:16])
        assert said(answer) == "1 to 24 of 61 entries, nearest first"
        assert re.search(r'<span class="score"[^>]*>0\.99\d</span>', answer.text)
        assert 'value="red"' in answer.text

    def test_pages_fit_together(self, shop: Shop) -> None:
        pages = [titles(shop.get(f"/?q=red&page={page}")) for page in (1, 2, 3)]
        assert [len(page) for page in pages] == [24, 24, 13]
        assert len({title for page in pages for title in page}) == 61
        assert 'rel="next"' in shop.get("/?q=red&page=2").text
        assert 'rel="next"' not in shop.get("/?q=red&page=3").text
        assert said(shop.get("/?q=red&page=4")) == "No more entries: go back to the first page."
        answer = shop.get("/?q=red&page=99")
        assert (answer.status, said(answer)) == (400, "Page 99 is too far: the first 1000 hits can be seen")

    def test_more_and_less_like_a_hit(self, shop: Shop) -> None:
        first = shop.get("/?q=blue")
        (more, *_), (less, *_) = links(first, 'more like this: blue 2"'), links(first, 'less like this: blue 2"')
        answer = shop.get(f"/{more.replace('q=blue', '')}")
        assert all(title.startswith("blue") for title in titles(answer)[:14])
        assert "blue 2" not in titles(answer)
        assert "Remove: like blue 2" in answer.text
        assert "blue 2" not in titles(shop.get(f"/{less}"))

    def test_all_examples_count(self, shop: Shop, tmp_path: Path) -> None:
        with Index.create(tmp_path / "x.index", FINGERPRINT, 3) as index:
            vectors = [[1, 0, 0], [0, 1, 0], [1, 0, 0.5], [0, 1, 0.5], [1, 1, 0]]
            index.add(np.array(vectors), ["a", "b", "near a", "near b", "between"])
        app = app_over(shop, tmp_path / "x.index")
        assert titles(ask(app, "/?like=a"))[0] == "near a"
        assert titles(ask(app, "/?like=b"))[0] == "near b"
        assert titles(ask(app, "/?like=a&like=b"))[0] == "between"

    def test_an_example_of_both_kinds_is_more(self, shop: Shop) -> None:
        answer = shop.get("/?like=02.png&unlike=02.png")
        assert answer.status == 200
        assert "Remove: like blue 2" in answer.text

    def test_examples_that_cancel_out(self, shop: Shop, tmp_path: Path) -> None:
        with Index.create(tmp_path / "x.index", FINGERPRINT, 3) as index:
            index.add(np.ones((3, 3)), ["a", "b", "c"])
        answer = ask(app_over(shop, tmp_path / "x.index"), "/?like=a&unlike=b&unlike=c")
        assert (answer.status, said(answer)) == (400, "The examples cancel each other out: remove one")

    def test_an_example_that_is_gone(self, shop: Shop) -> None:
        answer = shop.get("/?like=nowhere.png")
        assert answer.status == 404
        assert said(answer) == "No entry of this index is called 'nowhere.png': remove the example"

    def test_a_text_that_the_model_does_not_know(self, shop: Shop) -> None:
        answer = shop.get("/?q=mauve")
        assert answer.status == 400
        assert said(answer) == "Mauve is no colour"


class TestFilters:
    def test_fields_fit_the_columns(self, shop: Shop) -> None:
        text = shop.get("/").text
        assert 'name="least:price" inputmode="decimal" placeholder="0"' in text
        assert 'name="most:price" inputmode="decimal" placeholder="999"' in text
        assert re.search(r'<select id="f\d+" name="is:stock">', text)
        assert '<input type="checkbox" name="is:kind" value="green">' in text
        assert re.search(r'<input id="f\d+" name="is:title" placeholder="exactly"', text)

    def test_they_filter(self, shop: Shop) -> None:
        found = titles(shop.get("/?q=red&least:price=10&most:price=20&is:stock=yes"))
        assert sorted(int(title.split()[1]) for title in found) == [11, 13, 15, 17, 19]
        answer = shop.get("/?is:kind=red&is:kind=blue&most:price=6")
        assert sorted(titles(answer)) == ["blue 2", "blue 6", "red 0", "red 4"]
        assert said(answer) == "1 to 4 of those that fit the filters, in the order in which they were added"
        assert 'value="red" checked' in answer.text
        assert "Reset the filters" in answer.text

    def test_none_fits(self, shop: Shop) -> None:
        answer = shop.get("/?q=red&is:title=nothing")
        assert (answer.status, said(answer)) == (200, "No entry fits the filters: reset one of them.")

    def test_a_number_that_is_none(self, shop: Shop) -> None:
        answer = shop.get("/?least:price=cheap")
        assert answer.status == 400
        assert said(answer) == "Price: 'cheap' is no number: type one like 12.5, or leave it out"


class TestPictures:
    def test_one_is_given_without_javascript(self, shop: Shop) -> None:
        answer = shop.give(png("green"), name='<i>"mine"</i>.png')
        assert answer.status == 303
        found = shop.get(f"/{answer.headers['location'].removeprefix('./')}")
        assert all(title.startswith("green") for title in titles(found)[:15])
        assert "like &lt;i&gt;" in found.text
        small = re.search(r'src="(page/picture/[^"]+)"', found.text)
        assert small is not None
        assert shop.get(f"/{small[1]}").headers["content-type"] == "image/webp"

    def test_a_script_is_told_the_word(self, shop: Shop) -> None:
        word = shop.give(png("blue"), json=True).json["picture"]
        assert titles(shop.get(f"/?picture={word}"))[0].startswith("blue")

    def test_a_broken_one(self, shop: Shop) -> None:
        answer = shop.give(b"\x89PNG\r\n\x1a\n and no more")
        assert answer.status == 400
        assert 'role="alert"' in answer.text
        told = shop.give(b"no picture", json=True)
        assert told.status == 400
        assert "picture" in told.json["error"]
        assert "item 0" not in told.json["error"]

    def test_none(self, shop: Shop) -> None:
        answer = shop.give(b"")
        assert (answer.status, said(answer)) == (400, "No picture was given: choose a file first")

    def test_one_that_is_not_kept_any_more(self, shop: Shop) -> None:
        answer = shop.get("/?picture=unknown")
        assert (answer.status, said(answer)) == (410, "The picture is not kept any more: give it again")
        assert shop.get("/page/picture/unknown").status == 410

    def test_labels_are_compared(self, shop: Shop) -> None:
        word = shop.give(png("blue"), json=True).json["picture"]
        answer = shop.get(f"/?picture={word}&labels=red,blue,green")
        bars = re.findall(r"<li><span>(\w+)</span>.*?<rect class=\"bar\" width=\"([\d.]+)\"", answer.text)
        assert bars[0][0] == "blue"
        assert sum(float(width) for _, width in bars) == pytest.approx(100, abs=0.1)

    def test_a_picture_and_labels_are_of_the_model_of_their_index(self, shop: Shop, tmp_path: Path) -> None:
        with Index.create(tmp_path / "x.index", "f" * 16, 3) as index:
            index.add(np.eye(3), ["a", "b", "c"])
        settings = make_settings(indexes={"shop": shop.folder / "shop.index", "x": tmp_path / "x.index"})
        app = create_app(Gateway(shop.client, settings, Indexes(settings.indexes), ClassBanks({})))
        headers, body = form_body({}, {"picture": ("a.png", png("blue"))})
        given = ask(
            app, "/?index=shop", method="POST", headers={**headers, "accept": "application/json"}, body=body
        )
        word = given.json["picture"]
        assert ask(app, f"/?index=shop&picture={word}").status == 200
        answer = ask(app, f"/?index=x&picture={word}")
        assert (answer.status, titles(answer)) == (400, [])
        assert said(answer).startswith("The picture was given for an index of another model")
        labelled = ask(app, "/?index=x&like=a&labels=red,green").text
        assert "and the index has another one" in labelled
        assert 'class="bar"' not in labelled

    def test_labels_of_an_entry(self, shop: Shop) -> None:
        answer = shop.get("/?like=01.png&labels=red,green")
        assert re.search(r"<li><span>green</span>", answer.text)

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ("red", "two|another"),
            ("red,mauve", "mauve"),
            (",".join(map(str, range(101))), "101 labels are more than 100"),
        ],
    )
    def test_labels_that_cannot_be_compared(self, shop: Shop, labels: str, reason: str) -> None:
        word = shop.give(png("blue"), json=True).json["picture"]
        answer = shop.get(f"/?picture={word}&labels={labels}")
        assert answer.status == 200
        found = re.search(r'<p class="problem">(.*?)</p>', answer.text)
        assert found is not None
        assert re.search(reason, found[1])

    def test_thumbnails_are_of_the_entries(self, shop: Shop) -> None:
        answer = shop.get("/thumbnails/shop/02.png")
        assert answer.headers["content-type"] == "image/jpeg"
        shown = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGB")).mean(axis=(0, 1))
        assert shown[2] > 180 > 100 > shown[0]
        odd = shop.get(f"/thumbnails/shop/{quote(chr(97) + ' <b>&' + chr(39) + '.png', safe='')}")
        assert odd.status == 200

    @pytest.mark.parametrize("path", ["..%2Fphotos.csv", "%2Fetc%2Fpasswd", "nowhere.png", "..%2Fphotos%2F02.png"])
    def test_no_path_leads_elsewhere(self, shop: Shop, path: str) -> None:
        assert shop.get(f"/thumbnails/shop/{path}").status == 404


class TestOtherViews:
    def test_clusters(self, shop: Shop) -> None:
        answer = shop.get("/?view=clusters")
        sizes = [int(size) for size in re.findall(r"<small>(\d+) entr", answer.text)]
        assert sum(sizes) == 61
        address = re.search(r'href="\./(\?view=clusters[^"]*cluster=0)"', answer.text)
        assert address is not None
        one = shop.get(f"/{html.unescape(address[1])}")
        assert len(titles(one)) == min(24, sizes[0])
        assert shop.get("/?view=clusters&cluster=99").status == 404

    def test_pages_of_a_cluster_fit_together(self, shop: Shop, tmp_path: Path) -> None:
        angles = np.linspace(0.1, 0.2, 15)
        vectors = np.stack([np.cos(angles), np.sin(angles), np.zeros(15)], axis=1)
        with Index.create(tmp_path / "x.index", FINGERPRINT, 3) as index:
            # Fifteen entries are one cluster, and seven a page are three pages.
            index.add(vectors, [str(row) for row in range(15)])
        app = app_over(shop, tmp_path / "x.index")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("serving.gateway.page.browsing.PER_PAGE", 7)
            pages = [ask(app, f"/?view=clusters&cluster=0&page={page}") for page in (1, 2, 3)]
            assert ask(app, "/?view=clusters&cluster=0&page=4").status == 404
        shown = [title for page in pages for title in titles(page)]
        assert sorted(map(int, shown)) == list(range(15))
        assert shown[0] == "7"
        centre = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
        for page in pages:
            scores = re.findall(r'<span class="score"[^>]*>([\d.]+)</span>', page.text)
            assert scores == [f"{vectors[int(title)] @ centre:.3f}" for title in titles(page)]

    def test_the_map(self, shop: Shop) -> None:
        answer = shop.get("/?view=map&colour=kind")
        assert '<option value="kind" selected>' in answer.text
        points = re.search(r'data-points="(.*?)"', answer.text)
        assert points is not None
        told = shop.get(f"/{html.unescape(points[1])}").json
        assert len(told["points"]) == len(told["ids"]) == len(told["titles"]) == 61
        assert told["legend"] == ["blue", "green", "red", "white"]
        kinds = {
            title: told["legend"][point[2]] for title, point in zip(told["titles"], told["points"], strict=True)
        }
        assert kinds["blue 2"] == "blue"


class TestWhatIsWrong:
    def test_titles_and_ids_are_text(self, shop: Shop) -> None:
        for path in ("/?q=red", "/?is:kind=red&least:price=999", "/?view=clusters", f"/?q={quote(HOSTILE)}"):
            text = shop.get(path).text
            assert "<script>alert" not in text
            assert "<b>&'" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shop.get("/?least:price=999").text

    def test_nothing_is_inline_or_from_elsewhere(self, shop: Shop) -> None:
        for path in ("/?q=red&like=01.png&labels=red,blue", "/?view=clusters", "/?view=map"):
            answer = shop.get(path)
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", answer.text)
            assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text)
            policy = answer.headers["content-security-policy"]
            assert "script-src 'self'" in policy
            assert "unsafe" not in policy
            for address in re.findall(r'(?:src|href)="(page/[^"]+)"', answer.text):
                static = shop.get(f"/{address}")
                assert static.status == 200
                assert "immutable" in static.headers["cache-control"] or "picture/" in address

    def test_the_server_is_gone(self, shop: Shop) -> None:
        shop.away = Unavailable("it stopped")
        answer = shop.get("/?q=red")
        assert answer.status == 503
        assert said(answer) == "The server is away or starting: come again"
        assert titles(shop.get("/?like=02.png"))[0].startswith("blue")
        assert shop.give(png("red"), json=True).status == 503

    def test_an_unknown_index(self, shop: Shop) -> None:
        answer = shop.get("/?index=other")
        assert answer.status == 404
        assert "No index is called" in said(answer)

    def test_no_index(self, shop: Shop) -> None:
        app = create_app(Gateway(shop.client, make_settings(), Indexes({}), ClassBanks({})))
        answer = ask(app, "/")
        assert answer.status == 200
        assert said(answer).startswith("No index is here yet")

    def test_an_empty_index(self, shop: Shop, tmp_path: Path) -> None:
        Index.create(tmp_path / "x.index", FINGERPRINT, 3).close()
        settings = make_settings(indexes={"x": tmp_path / "x.index"})
        app = create_app(Gateway(shop.client, settings, Indexes(settings.indexes), ClassBanks({})))
        assert said(ask(app, "/")) == said(ask(app, "/?q=red"))
        assert said(ask(app, "/")) == "The index is empty: `protoclip index build` fills one."
        assert "The index is empty" in ask(app, "/?view=clusters").text
        answer = ask(app, "/?view=map")
        assert answer.status == 404
        assert "three entries or more" in answer.text

    def test_an_index_that_is_gone(self, shop: Shop, tmp_path: Path) -> None:
        settings = make_settings(indexes={"x": tmp_path / "gone.index"})
        app = create_app(Gateway(shop.client, settings, Indexes(settings.indexes), ClassBanks({})))
        answer = ask(app, "/")
        assert answer.status == 503
        assert said(answer).startswith("The index can't be used")
        assert str(tmp_path) not in answer.text

    def test_an_index_of_another_model(self, shop: Shop, tmp_path: Path) -> None:
        with Index.create(tmp_path / "x.index", "fedcba9876543210", 3) as index:
            index.add(np.eye(3), ["a", "b", "c"], [{"title": name} for name in ("one", "two", "three")])
        settings = make_settings(indexes={"x": tmp_path / "x.index"})
        app = create_app(Gateway(shop.client, settings, Indexes(settings.indexes), ClassBanks({})))
        answer = ask(app, "/?q=red")
        assert answer.status == 503
        assert str(tmp_path) not in answer.text
        assert "only examples can be looked for" in answer.text
        assert titles(ask(app, "/?like=a")) == ["two", "three"]

    def test_addresses_that_are_none(self, shop: Shop) -> None:
        assert shop.get("/?view=x").status == 404
        assert shop.get("/page/nothing.js").status == 404
        assert shop.get("/page/..%2Froutes.py").status == 404
        assert ask(shop.app, "/", method="PUT").status == 405

    def test_what_is_wrong_stands_in_the_log(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError("a fault of ours")

        monkeypatch.setattr("serving.gateway.page.routes.map_context", fail)
        monkeypatch.setattr("serving.gateway.page.results.query_vector", fail)
        monkeypatch.setattr("serving.gateway.page.results.classifications", fail)
        monkeypatch.setattr("serving.gateway.page.parts.model_of", fail)
        for path, status in (
            ("/?view=map", 500),
            ("/?q=red", 500),
            ("/", 200),
            ("/?view=clusters", 200),
        ):
            capsys.readouterr()
            answer = shop.get(path)
            assert answer.status == status
            assert "fault of the gateway: its log has the details" in answer.text
            assert "ZeroDivisionError: a fault of ours" in capsys.readouterr().err

    def test_labels_that_fail_stand_in_the_log(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError("a fault of ours")

        monkeypatch.setattr("serving.gateway.page.results.classifications", fail)
        answer = shop.get("/?like=01.png&labels=red,green")
        assert (answer.status, len(titles(answer))) == (200, 24)
        assert "ZeroDivisionError: a fault of ours" in capsys.readouterr().err

    def test_an_address_that_is_no_utf_8_is_a_page_all_the_same(self, shop: Shop) -> None:
        for path in ("/?view=map&colour=%ED%A0%80", "/?view=clusters&labels=%ED%A0%80", "/?labels=%ED%A0%80"):
            assert shop.get(path).status == 200


class TestAnIndexThatIsAnother:
    def test_built_anew_in_an_empty_folder(self, shop: Shop, tmp_path: Path) -> None:
        app = app_over(shop, tmp_path / "x.index")
        for names in (["a", "b", "c"], ["d", "e", "f"]):
            shutil.rmtree(tmp_path / "x.index", ignore_errors=True)
            with Index.create(tmp_path / "x.index", FINGERPRINT, 3) as index:
                index.add(np.eye(3), names)
            assert titles(ask(app, "/")) == names
            assert ask(app, "/page/points").json["ids"] == names

    def test_moved_to_another_model_in_its_place(self, shop: Shop, tmp_path: Path) -> None:
        def embed(data: bytes) -> Any:
            return load_pixels(data, PixelSpec(4, 4)).mean(axis=(0, 1))[::-1] + 1.0

        def client(model: MemoryModel) -> Client:
            return Client(transport=InMemoryTransport(model))

        def model(fingerprint: str) -> MemoryModel:
            return MemoryModel(embed, lambda _: np.ones(3), 3, name="other", fingerprint=fingerprint)

        with client(model("f" * 16)) as before:
            Index.build(tmp_path / "x.index", before, shop.folder / "photos").close()
        app = app_over(shop, tmp_path / "x.index")
        assert "is not served" in ask(app, "/").text
        with client(model(FINGERPRINT)) as after, Index.open(tmp_path / "x.index") as index:
            index.migrate(after)
        answer = ask(app, "/")
        assert (answer.status, len(titles(answer))) == (200, 24)
        assert "Answered by" in answer.text
        assert ask(app, "/?view=clusters").status == ask(app, "/page/points").status == 200

    def test_built_of_another_folder_it_shows_the_pictures_there(self, shop: Shop, tmp_path: Path) -> None:
        model = MemoryModel(
            lambda data: load_pixels(data, PixelSpec(4, 4)).mean(axis=(0, 1)) + 1.0,
            lambda _: np.ones(3),
            3,
            name="colours",
            fingerprint=FINGERPRINT,
        )
        app = app_over(shop, tmp_path / "x.index")
        for folder, colour in (("first", "red"), ("second", "blue")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a.png").write_bytes(png(colour))
            with Client(transport=InMemoryTransport(model)) as client:
                Index.build(tmp_path / "x.index", client, tmp_path / folder).close()
            answer = ask(app, "/thumbnails/x/a.png")
            shown = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGB")).mean(axis=(0, 1))
            assert np.argmax(shown) == {"red": 0, "blue": 2}[colour]

    def test_an_entry_of_another_picture_shows_none(self, shop: Shop, tmp_path: Path) -> None:
        shutil.copytree(shop.folder / "shop.index", tmp_path / "x.index")
        app = app_over(shop, tmp_path / "x.index")
        assert ask(app, "/thumbnails/x/02.png").status == ask(app, "/thumbnails/x/03.png").status == 200
        with Index.open(tmp_path / "x.index") as index:
            index.upsert(np.ones((1, 3)), ["02.png"])
        assert ask(app, "/thumbnails/x/02.png").status == 404
        assert ask(app, "/thumbnails/x/03.png").status == 200
