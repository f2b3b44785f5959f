"""The page as it is sent: what works without JavaScript, what is escaped, and what is wrong in a line."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from asgi_calls import ask, form_body
from page_answers import app_over, links, said, titles
from page_shop import FINGERPRINT, Shop, png
from PIL import Image

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
        assert "Which of these is it?" not in answer.text

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
