"""Rates of clients, and counts of what was refused, without a proxy in front."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gateway_shop import Shop
from running_gateway import RunningGateway, running_gateway

from protoclip.contract.errors import ConfigError
from serving.gateway.rates import RateRule
from serving.gateway.settings import make_settings

KEYS = {"shop": "correct-horse-battery-staple", "other": "another-key-of-good-length"}


def refusals(running: RunningGateway, code: str, **headers: str) -> float:
    text = running.get("/metrics", **headers).body.decode()
    found = re.search(rf'protoclip_gateway_refusals_total{{code="{code}"}} (\S+)', text)
    return 0.0 if found is None else float(found[1])


def test_a_client_has_a_rate_and_a_burst_and_others_have_their_own() -> None:
    now_s = [100.0]
    check = RateRule(2, (), clock=lambda: now_s[0])
    assert [check.take("a") for _ in range(20)] == [0] * 20
    assert check.take("a") == pytest.approx(0.5)
    assert check.take("b") == 0
    now_s[0] += 0.5
    assert check.take("a") == 0
    assert check.take("a") == pytest.approx(0.5)
    now_s[0] += 3600
    assert sum(check.take("a") == 0 for _ in range(40)) == 20


def test_how_many_clients_there_were_takes_no_memory() -> None:
    check = RateRule(0.01, (), clock=lambda: 0.0)
    for number in range(10_050):
        assert check.take(str(number)) == 0
    assert len(check._clients) == 10_000
    assert check.take("10049") > 0


def test_beyond_its_rate_a_key_is_told_when_to_come_again(tiny_artifact: Path, shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("".join(f"{name} {key}\n" for name, key in KEYS.items()))
    with running_gateway(
        url=str(tiny_artifact), indexes={"shop": shop.index}, keys_file=file, requests_per_s=0.2
    ) as running:
        mine, others = ({"X-API-Key": key} for key in KEYS.values())
        assert [running.ask("GET", "/indexes", headers=mine).status for _ in range(3)] == [200, 200, 429]
        answer = running.ask("POST", "/v1/embeddings", b"{", mine)
        assert (answer.status, answer.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        # Keys that are none count as such, and take nothing from those that are.
        for _ in range(5):
            assert running.ask("GET", "/indexes", headers={"X-API-Key": "wrong"}).status == 401
        assert running.get("/healthz").status == 200
        assert running.ask("GET", "/indexes", headers=others).status == 200
        assert refusals(running, "unauthorized", **others) == 5
        assert any('"rate_limited"' in line for line in running.log)


def test_refusals_are_counted_by_their_code(gateway: RunningGateway) -> None:
    before = refusals(gateway, "index_not_found")
    gateway.post("/search", {"text": "a", "index": "nowhere"})
    assert refusals(gateway, "index_not_found") == before + 1


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_named(value: float) -> None:
    with pytest.raises(ConfigError, match="requests_per_s: "):
        make_settings(requests_per_s=value)
