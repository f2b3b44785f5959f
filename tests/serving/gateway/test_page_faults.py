"""The page where something is wrong, and over an index that is another one than before."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from asgi_calls import ask
from page_answers import app_over, said, titles
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
        monkeypatch.setattr("serving.gateway.page.labels.classifications", fail)
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

        monkeypatch.setattr("serving.gateway.page.labels.classifications", fail)
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
