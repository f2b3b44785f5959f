"""`POST /classify` and `GET /classes`: the client's answers, over HTTP, with labels or saved classes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_shop import COLORS, picture
from running_gateway import RunningGateway, running_gateway

from protoclip.client import Client

PICTURES = [picture(COLORS[name], 7) for name in ("red", "blue")]
ENCODED = [base64.b64encode(data).decode() for data in PICTURES]
LABELS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def client(tiny_artifact: Path) -> Iterator[Client]:
    with Client(str(tiny_artifact)) as client:
        yield client


@pytest.fixture(scope="module")
def running(
    tiny_artifact: Path, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("classes")
    client.class_bank(LABELS, "photo").save(folder / "colors.classes")
    (folder / "broken.classes").write_bytes(b"no classes")
    other = replace(client.class_bank(LABELS), fingerprint="fedcba9876543210", model="other_fedcba")
    other.save(folder / "foreign.classes")
    banks = {
        "colors": folder / "colors.classes",
        "broken": folder / "broken.classes",
        "none": folder / "none",
        "foreign": folder / "foreign.classes",
    }
    with running_gateway(url=str(tiny_artifact), class_banks=banks, max_items=100) as running:
        yield running


def answers(running: RunningGateway, **wanted: Any) -> list[dict[str, Any]]:
    answer = running.post("/classify", wanted)
    assert answer.status == 200, answer.body
    assert (answer.json["model"], answer.json["probabilities"]) == ("tiny_012345", "softmax")
    found: list[dict[str, Any]] = answer.json["answers"]
    return found


def test_labels_with_templates_give_the_clients_answers(running: RunningGateway, client: Client) -> None:
    found = answers(running, pictures=ENCODED, labels=LABELS, templates="photo")
    for one, expected in zip(found, client.classify(PICTURES, LABELS, "photo"), strict=True):
        assert one["label"] == expected.label
        assert one["score"] == pytest.approx(expected.score, abs=1e-5)
        assert one["scores"] == pytest.approx(dict(expected.scores), abs=1e-5)
        assert one["cosines"] == pytest.approx(dict(expected.cosines), abs=1e-5)


def test_the_best_and_those_that_fit(running: RunningGateway) -> None:
    (best,) = answers(running, pictures=ENCODED[:1], labels=LABELS, top_k=2)
    assert len(best["scores"]) == 2
    (fitting,) = answers(running, pictures=ENCODED[:1], labels=LABELS, multi_label=True, threshold=-1.0)
    assert sorted(fitting["labels"]) == sorted(LABELS)
    assert fitting["score"] is None


def test_saved_classes_are_labels_with_templates(running: RunningGateway) -> None:
    saved = answers(running, pictures=ENCODED, classes="colors")
    given = answers(running, pictures=ENCODED, labels=LABELS, templates="photo")
    for one, other in zip(saved, given, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
    listed = running.get("/classes").json
    assert listed["classes"] == ["broken", "colors", "foreign", "none"]
    assert "imagenet" in listed["templates"]


def test_a_bad_picture_costs_the_others_nothing(running: RunningGateway) -> None:
    pictures = [ENCODED[0], "http://localhost/cat.png", base64.b64encode(b"GIF89a broken").decode(), ENCODED[1]]
    good, address, broken, last = answers(running, pictures=pictures, labels=LABELS)
    expected = answers(running, pictures=ENCODED, labels=LABELS)
    assert good["scores"] == pytest.approx(expected[0]["scores"], abs=1e-5)
    assert last["scores"] == pytest.approx(expected[1]["scores"], abs=1e-5)
    assert "none is fetched" in address["error"]
    assert broken["code"] == "invalid_input"
    alone = running.post("/classify", {"pictures": pictures[1:3], "labels": LABELS})
    assert (alone.status, "none is fetched" in alone.json["error"]) == (400, True)


def test_a_form_takes_files(running: RunningGateway) -> None:
    fields = {"labels": "red\ngreen\n\nblue\n", "templates": "photo", "top_k": "", "classes": ""}
    answer = running.post_form("/classify", fields, {"a": PICTURES[0], "b": PICTURES[1]})
    assert answer.status == 200, answer.body
    expected = answers(running, pictures=ENCODED, labels=LABELS, templates="photo")
    for one, other in zip(answer.json["answers"], expected, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


@pytest.mark.parametrize(
    ("wanted", "status", "message"),
    [
        ({"labels": LABELS}, 400, "pictures: Field required"),
        ({"pictures": [], "labels": LABELS}, 400, "pictures"),
        ({"pictures": ENCODED}, 400, "labels or classes"),
        ({"pictures": ENCODED, "labels": LABELS, "classes": "colors"}, 400, "labels or classes"),
        ({"pictures": ENCODED, "classes": "colors", "templates": "photo"}, 400, "have their own"),
        ({"pictures": ENCODED, "classes": "other"}, 404, "no classes are called 'other'"),
        ({"pictures": ENCODED, "classes": "broken"}, 503, "its log has the details"),
        ({"pictures": ENCODED, "classes": "none"}, 503, "its log has the details"),
        ({"pictures": ENCODED, "labels": []}, 400, "labels"),
        ({"pictures": ENCODED, "labels": ["red"]}, 400, "alone"),
        ({"pictures": ENCODED, "labels": ["red", "red"]}, 400, "more than once"),
        ({"pictures": ENCODED, "labels": ["caf\u00e9", "cafe\u0301"]}, 400, "more than once"),
        ({"pictures": ENCODED, "labels": LABELS, "top_k": True}, 400, "top_k: is true or false"),
        ({"pictures": ENCODED, "classes": "foreign"}, 503, "a model that is not served"),
        ({"pictures": ENCODED, "labels": LABELS, "templates": "no such set"}, 400, "templates"),
        ({"pictures": ENCODED, "labels": LABELS, "templates": ["{} and {}"]}, 400, "{}"),
        ({"pictures": ENCODED, "labels": LABELS, "templates": "imagenet"}, 400, "protoclip classes build"),
        ({"pictures": ENCODED, "labels": LABELS, "multi_label": True}, 400, "threshold"),
        ({"pictures": ENCODED, "labels": LABELS, "threshold": 2}, 400, "threshold"),
        ({"pictures": ENCODED * 51, "labels": LABELS}, 400, "send fewer at once"),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_what_is_wrong_is_said(running: RunningGateway, wanted: Any, status: int, message: str) -> None:
    answer = running.post("/classify", wanted)
    assert answer.status == status, answer.body
    assert message in answer.json["error"]
    assert "classes/" not in answer.json["error"]
    assert "broken.classes" not in answer.json["error"]
