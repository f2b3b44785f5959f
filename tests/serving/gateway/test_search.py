"""`POST /search` and `GET /indexes`: the client's answers, over HTTP, and what is refused."""

from __future__ import annotations

import base64
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from gateway_shop import COLORS, NO_UTF8, ODD_NAME, Shop, make_shop, picture
from running_gateway import RunningGateway, running_gateway

from protoclip.client import Client, Hit
from protoclip.search import Index

RED = picture(COLORS["red"], 99)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><rect width="9" height="9"/></svg>'


@pytest.fixture(scope="module")
def client(tiny_artifact: Path) -> Any:
    with Client(str(tiny_artifact)) as client:
        yield client


def ids(answer: Any) -> list[str]:
    assert answer.status == 200, answer.body
    return [hit["id"] for hit in answer.json["hits"]]


def check_same(answer: Any, hits: list[Hit]) -> None:
    assert ids(answer) == [hit.id for hit in hits]
    for found, hit in zip(answer.json["hits"], hits, strict=True):
        assert found["score"] == pytest.approx(hit.score, abs=1e-6)
        assert found["metadata"] == hit.metadata


def test_a_text_finds_what_the_client_finds(gateway: RunningGateway, client: Client, shop: Shop) -> None:
    with Index.open(shop.index) as index:
        check_same(
            gateway.post("/search", {"index": "shop", "text": "red shoes", "k": 5}),
            client.search(index, text="red shoes", k=5),
        )
        page = gateway.post("/search", {"text": "red shoes", "k": 3, "offset": 2})
        check_same(page, client.search(index, text="red shoes", k=3, offset=2))
        assert {name: page.json[name] for name in ("index", "k", "offset")} == {
            "index": "shop",
            "k": 3,
            "offset": 2,
        }


def test_relevance_of_an_index_that_is_not_calibrated(gateway: RunningGateway) -> None:
    answer = gateway.post("/search", {"text": "red shoes", "min_relevance": 0.5})
    assert answer.status == 400
    assert "shop: min_relevance (--min-relevance) needs an index that is calibrated" in answer.body.decode()
    assert gateway.post("/search", {"text": "red shoes", "min_relevance": 2}).status == 400


def test_a_picture_is_the_same_in_base64_as_data_uri_and_as_a_file(
    gateway: RunningGateway, client: Client, shop: Shop
) -> None:
    encoded = base64.b64encode(RED).decode()
    with Index.open(shop.index) as index:
        hits = client.search(index, image=RED, k=4)
    for value in (
        encoded,
        f"data:image/png;base64,{encoded}",
        "\n".join(encoded[i : i + 76] for i in range(0, len(encoded), 76)),
    ):
        check_same(gateway.post("/search", {"picture": value, "k": 4}), hits)
    check_same(gateway.post_form("/search", {"k": "4", "text": "", "where": ""}, {"picture": RED}), hits)


def test_parts_are_weighted_subtracted_filtered_and_grouped(
    gateway: RunningGateway, client: Client, shop: Shop
) -> None:
    wanted: dict[str, Any] = {
        "text": {"red": 2.0, "shoes": 0.5},
        "like": {"red0.png": 1.5},
        "minus": "blue",
        "where": {"price": {"lt": 90}},
        "group_by": "color",
    }
    with Index.open(shop.index) as index:
        check_same(gateway.post("/search", {**wanted, "k": 3}), client.search(index, **wanted, k=3))
        apart = {"text": "red", "distinct": 0.9}
        hits = client.search(index, **apart, k=12)
        assert 0 < len(hits) < len(client.search(index, text="red", k=12))
        check_same(gateway.post("/search", {**apart, "k": 12}), hits)
        several = client.search(index, like={"red0.png": 1.0, "blue0.png": 1.0}, k=3)
        check_same(gateway.post("/search", {"like": ["red0.png", "blue0.png"], "k": 3}), several)
    form = {"text": "red", "k": "2", "where": json.dumps({"color": "blue"})}
    assert {hit["metadata"]["color"] for hit in gateway.post_form("/search", form).json["hits"]} == {"blue"}


def test_ids_of_any_characters_come_back_as_they_are(gateway: RunningGateway) -> None:
    answer = gateway.post("/search", {"text": "x", "k": 12})
    assert {ODD_NAME, NO_UTF8} <= set(ids(answer))
    assert answer.headers["content-type"] == "application/json"
    assert ids(gateway.post("/search", {"like": ODD_NAME, "k": 1})) != [ODD_NAME]


@pytest.mark.parametrize(
    ("wanted", "status", "message"),
    [
        ({}, 400, "something to look for"),
        ({"text": "a", "index": "other"}, 404, "no index is called 'other'"),
        ({"text": "a", "index": "../shop"}, 404, "no index is called"),
        ({"like": "no such id"}, 404, "shop: no entry has the id 'no such id'"),
        ({"text": "a", "k": 0}, 400, "k: "),
        ({"text": "a", "k": 10**30}, 400, "k: "),
        ({"text": "a", "k": -1}, 400, "k: "),
        ({"text": "a", "k": 10**9}, 400, "offset + k must be at most 1000"),
        ({"text": "a", "k": True}, 400, "k: is true or false"),
        ({"text": "a", "offset": 2**63}, 400, "offset + k must be at most 1000"),
        ({"text": {"a": 1e308, "b": 1e308}}, 400, "at most 1e+06"),
        ({"text": "a", "minus": {"b": 1e300}}, 400, "at most 1e+06"),
        ({"text": {str(number): 1 for number in range(2049)}}, 400, "more than 2048 items"),
        ({"like": ["red0.png", *map(str, range(2048))]}, 400, "more than 2048 items"),
        ({"text": "a", "k": 999, "offset": 2}, 400, "offset + k must be at most 1000"),
        ({"text": "a", "distinct": 1.5}, 400, "distinct: "),
        ({"text": "a", "distinct": True}, 400, "distinct: is true or false"),
        ({"text": "a", "min_relevance": True}, 400, "min_relevance: is true or false"),
        ({"text": {"a": True}}, 400, "text"),
        ({"text": "a", "k": "many"}, 400, "k: "),
        ({"text": "a", "where": {"price": {"below": 3}}}, 400, "'below' of 'price' is unknown"),
        ({"text": "a", "where": [1]}, 400, "where: "),
        ({"text": "a", "where": {"price": {"lt": None}}}, 400, "'price' can't be compared with None"),
        ({"text": "a", "where": {"price": {"in": 5}}}, 400, "'in' of 'price' needs a list"),
        ({"text": "a", "where": {"price": {"in": [[5]]}}}, 400, "'price' can't be compared with [5]"),
        ({"text": "a", "where": {"price": {"exists": 1}}}, 400, "'exists' of 'price' is true or false"),
        ({"text": "a", "where": {"price": {}}}, 400, "'price' has no condition"),
        ({"text": "a", "where": {"or": {"price": 1}}}, 400, "'or' needs a list of conditions"),
        ({"text": "a", "group_by": ["color"]}, 400, "group_by"),
        ({"text": "a", "colour": "red"}, 400, "colour: is no field of this request"),
        ({"text": 7}, 400, "text"),
        ({"text": " "}, 400, "blank"),
        ({"text": {"a": -1}}, 400, "must be a number above 0"),
        ({"text": "a", "minus": "a"}, 400, "leave one out"),
        ([1, 2], 400, "must be a JSON object"),
        ({"picture": "no base64!"}, 400, "no base64"),
        ({"picture": ""}, 400, "empty"),
        ({"picture": base64.b64encode(b"no picture").decode()}, 400, "item 0: "),
        ({"picture": base64.b64encode(SVG).decode()}, 400, "SVG"),
        ({"picture": "data:image/svg+xml;utf8,<svg/>"}, 400, "not in base64"),
        ({"picture": "data:text/html;base64,PGI+"}, 400, "only image/… is taken"),
        ({"picture": "file:///etc/passwd"}, 400, "none is fetched"),
        ({"picture": "//host/cat.png"}, 400, "none is fetched"),
        ({"picture": "/etc/passwd"}, 400, "base64"),
        ({"picture": 7}, 400, "picture"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(
    gateway: RunningGateway, shop: Shop, wanted: Any, status: int, message: str
) -> None:
    answer = gateway.post("/search", wanted)
    assert answer.status == status, answer.body
    assert set(answer.json) == {"error", "code"}
    assert message in answer.json["error"]
    assert "\n" not in answer.json["error"]
    assert str(shop.index) not in answer.json["error"]


def test_a_field_that_no_entry_has_is_said_where_it_may_be_why(gateway: RunningGateway) -> None:
    misspelt = gateway.post("/search", {"text": "x", "where": {"or": [{"colour": "red"}, {"color": "no such"}]}})
    assert (misspelt.json["hits"], misspelt.json["warnings"]) == ([], ["no entry has a field 'colour'"])
    grouped = gateway.post("/search", {"text": "x", "group_by": "prodct"}).json
    assert grouped["warnings"] == ["no entry has a field 'prodct'"]
    assert gateway.post("/search", {"text": "x", "group_by": "color"}).json["warnings"] == []


def test_a_condition_of_a_form_is_named(gateway: RunningGateway) -> None:
    answer = gateway.post_form("/search", {"text": "red", "where": "{"})
    assert (answer.status, answer.json["error"][:7]) == (400, "where: ")


def test_no_address_is_fetched(gateway: RunningGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        address = f"127.0.0.1:{trap.getsockname()[1]}"
        for value in (f"http://{address}/a.png", f"  HTTP://{address}/", f"//{address}/a", f"ftp://{address}/"):
            answer = gateway.post("/search", {"picture": value})
            assert (answer.status, "none is fetched" in answer.json["error"]) == (400, True)
        with pytest.raises(TimeoutError):
            trap.accept()


def test_indexes_are_listed(gateway: RunningGateway) -> None:
    (found,) = gateway.get("/indexes").json["indexes"]
    assert found["name"] == "shop"
    assert (found["entries"], found["dim"], found["model"], found["error"]) == (12, 16, "tiny", "")
    assert found["thumbnails"] is True


def test_an_index_is_followed_through_changes_a_new_folder_another_model_and_its_end(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    shop = make_shop(tmp_path / "a", tiny_artifact)
    with running_gateway(
        url=str(tiny_artifact), indexes={"shop": shop.index, "gone": tmp_path / "none"}
    ) as running:
        wanted = {"index": "shop", "text": "x", "k": 20}
        assert len(ids(running.post("/search", wanted))) == 12
        with Index.open(shop.index) as index:
            index.remove("red0.png")
        assert len(ids(running.post("/search", wanted))) == 11

        other = make_shop(tmp_path / "b", tiny_artifact)
        with Index.open(other.index) as index:
            index.remove(["red0.png", "red1.png"])
        shutil.rmtree(shop.index)
        other.index.rename(shop.index)
        assert len(ids(running.post("/search", wanted))) == 10

        Index.create(shop.index, "fedcba9876543210", 16, model="another", replace=True).close()
        answer = running.post("/search", wanted)
        assert (answer.status, answer.json["code"]) == (503, "index_unavailable")
        assert "fedcba" in "".join(running.log)

        Index.create(shop.index, "0123456789abcdef", 16, model="tiny", replace=True).close()
        assert ids(running.post("/search", wanted)) == []
        answer = running.post("/search", {"index": "gone", "text": "x"})
        assert (answer.status, answer.json["code"]) == (503, "index_unavailable")
        assert str(tmp_path) not in answer.json["error"]
        assert running.post("/search", {"text": "x"}).json["error"].startswith("index: there are gone, shop")
        listed = {one["name"]: one for one in running.get("/indexes").json["indexes"]}
        assert listed["gone"]["error"] == "can't be opened"


def test_without_an_index_the_way_out_is_said(tiny_artifact: Path) -> None:
    with running_gateway(url=str(tiny_artifact)) as running:
        answer = running.post("/search", {"text": "x"})
    assert answer.status == 404
    assert "--index NAME=FOLDER" in answer.json["error"]
