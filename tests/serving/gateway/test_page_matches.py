"""The page over an index that is calibrated: what matches, and that nothing does; and `POST /search` over it.

The judge is written down, not learned: a hit is an answer where its cosine with the query is 0.9 or more.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

import numpy as np
import pytest
from asgi_calls import Answer, ask
from page_answers import app_over, said, titles
from page_shop import FINGERPRINT, Shop

from protoclip.search import CalibratedQueries, Calibration, Index
from protoclip.search.relevance.judge import Judge, RelevanceModel
from protoclip.search.relevance.logistic import Logistic
from protoclip.search.relevance.references import FEATURES, References
from protoclip.search.relevance.reliability import CutOff
from protoclip.search.relevance.stored import write_calibration


def logistic(weights: list[float], bias: float) -> Logistic:
    return Logistic(np.zeros(len(weights)), np.ones(len(weights)), np.array(weights), bias)


def model() -> RelevanceModel:
    of_hit = logistic([100, 0, 0, 0], -90)
    of_query = logistic([0] * (len(FEATURES) + 4), 20)
    references = References(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32))
    return RelevanceModel(references, Judge(of_hit, of_query, logistic([1], 0)))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """30 entries that are red, two that are nearly so, and 10 that are white; nothing is green or blue."""
    folder = tmp_path_factory.mktemp("matches")
    (folder / "shop").mkdir()
    red = np.column_stack([np.ones(30), np.linspace(0, 0.1, 30), np.zeros(30)])
    vectors = np.concatenate([red, [[1, 0.6, 0], [1, 0.7, 0]], np.ones((10, 3))])
    cut = CutOff(0.5, 0.9, 0.8)
    measured = CalibratedQueries(100, 1000, 0.01, 0.02, cut, cut, cut, ())
    said_of_it = Calibration("colours", FINGERPRINT, "title", "title", len(vectors), "2026-11-27", measured, None)
    with Index.create(folder / "x.index", FINGERPRINT, 3, model="colours") as index:
        index.add(vectors, [f"{row:02}" for row in range(len(vectors))])
        with index._recording() as connection:
            write_calibration(connection, said_of_it, {"text": model()})
    return app_over(Shop(folder / "shop"), folder / "x.index")


def other_hits(answer: Answer) -> str:
    (address,) = re.findall(r'<a href="\./([^"]*)" data-show>Show ', answer.text)
    return html.unescape(address)


def test_nothing_matches(app: Any) -> None:
    answer = ask(app, "/?q=blue")
    assert said(answer) == "Nothing matches: none of the nearest entries is likely to be what was looked for."
    assert titles(answer) == []
    shown = ask(app, f"/{other_hits(answer)}")
    assert len(titles(shown)) == 24
    assert said(shown) == "1 to 24 of 42 entries, nearest first"
    assert titles(ask(app, f"/{other_hits(shown)}")) == []


def test_what_matches_has_its_probability(app: Any) -> None:
    answer = ask(app, "/?q=red")
    assert len(titles(answer)) == 24
    assert said(answer) == "1 to 24 of 42 entries, nearest first"
    assert "100 %</span>" in answer.text
    assert "every=1" not in answer.text
    second = ask(app, "/?q=red&page=2")
    assert said(second) == "6 of the 18 nearest entries match"
    assert len(titles(second)) == 6
    assert 'rel="next"' not in second.text


def test_examples_are_not_calibrated(app: Any) -> None:
    assert len(titles(ask(app, "/?like=00"))) == 24
    assert "%</span>" not in ask(app, "/?like=00").text


def test_over_http(app: Any) -> None:
    def search(**wanted: Any) -> Any:
        body = json.dumps({"k": 3, **wanted}).encode()
        return ask(app, "/search", method="POST", headers={"content-type": "application/json"}, body=body)

    none = json.loads(search(text="blue", min_relevance=0.5).body)
    assert (none["hits"], none["nothing_matches"]) == ([], True)
    found = json.loads(search(text="red", min_relevance=0.5).body)
    assert (len(found["hits"]), found["nothing_matches"]) == (3, False)
    assert all(hit["relevance"] > 0.99 for hit in found["hits"])
    plain = json.loads(search(text="red").body)
    assert "nothing_matches" not in plain
    assert "relevance" not in plain["hits"][0]
    assert search(like="00", min_relevance=0.5).status == 400
