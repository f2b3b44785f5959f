"""A client asks an alias once, stays with the model that it stood for, and moves on only when it is told to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from protoclip import Client, Index
from protoclip.client import InMemoryTransport, MemoryModel
from protoclip.client.transport import ModelConfig
from protoclip.contract.errors import ConfigError, IndexFileError, ServerError

OLD, NEW, OTHER = "ab12cd34", "ffffff00", "00ff00ff"


def _model(name: str, fingerprint: str, axis: int) -> MemoryModel:
    """Its vectors are an axis, so that they show whose they are."""
    vector = np.eye(4)[axis]
    return MemoryModel(lambda data: vector, lambda text: vector, 4, name, fingerprint)


class Aliased(InMemoryTransport):
    """A server with models and aliases, whose parameters a test may change."""

    def __init__(self, *models: MemoryModel, **aliases: Mapping[str, str]) -> None:
        super().__init__(*models)
        self.aliases = aliases

    def ready_models(self, timeout_s: float | None) -> list[str]:
        names = [f"{name}_{role}" for name in self.aliases for role in ("image", "text")]
        return [*super().ready_models(timeout_s), *names]

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        name = model.rpartition("_")[0]
        if name in self.aliases:
            return ModelConfig(model, 64, self.aliases[name])
        return super().model_config(model, timeout_s)


def _shop(**more: str) -> Aliased:
    models = (_model("shop", OLD, 0), _model("shop", NEW, 1))
    return Aliased(*models, shop={"alias": "shop", "current": "shop_ab12cd"} | more)


def _move(transport: Aliased, current: str) -> None:
    transport.aliases["shop"] = {"alias": "shop", "current": current}


@pytest.mark.parametrize("wanted", ["shop", None])
def test_it_stays_until_it_follows(wanted: str | None) -> None:
    transport = _shop()
    with Client(transport=transport, model=wanted) as client:
        assert client.model.fingerprint == OLD
        _move(transport, "shop_ffffff")
        assert client.embed_texts("a").tolist() == [1, 0, 0, 0]
        assert client.follow().fingerprint == NEW
        assert client.model.fingerprint == NEW
        assert client.embed_texts("a").tolist() == [0, 1, 0, 0]


def test_a_full_name_is_no_alias() -> None:
    with Client(transport=_shop(), model="shop_ffffff") as client:
        assert client.model.fingerprint == NEW
        assert client.follow().fingerprint == NEW


def test_classes_from_before_are_not_compared_with_pictures_from_after() -> None:
    transport = _shop()
    with Client(transport=transport, model="shop") as client:
        labels = ["cat", "dog"]
        assert client.classify(b"a", labels).cosines["cat"] == pytest.approx(1)
        _move(transport, "shop_ffffff")
        client.follow()
        # Cached classes of the old model would give 0.
        assert client.classify(b"a", labels).cosines["cat"] == pytest.approx(1)


def test_a_bank_of_classes_is_used_with_its_own_model() -> None:
    transport = _shop()
    with Client(transport=transport, model="shop") as client:
        bank = client.class_bank(["cat", "dog"])
        _move(transport, "shop_ffffff")
        client.follow()
        assert client.classify(b"a", bank).cosines["cat"] == pytest.approx(1)


def test_an_index_is_asked_with_its_own_model(tmp_path: object) -> None:
    transport = _shop()
    with Client(transport=transport, model="shop") as client:
        index = Index.build(f"{tmp_path}/old.index", client, texts=["a", "b"])
        _move(transport, "shop_ffffff")
        client.follow()
        assert client.search(index, text="a", k=1)[0].score == pytest.approx(1)
        assert client.embed_texts("a").tolist() == [0, 1, 0, 0]
    with (
        Client(transport=Aliased(_model("shop", NEW, 1))) as client,
        pytest.raises(IndexFileError, match="made with"),
    ):
        client.search(index, text="a", k=1)


def test_a_model_with_the_same_six_digits_is_not_the_indexs() -> None:
    with Client(transport=_shop()) as client:
        assert client.model_with("ffffff00") is not None
        assert client.model_with("ffffff01") is None


def test_a_canary_is_drawn_once_for_each_client() -> None:
    transport = _shop(canary="shop_ffffff", canary_share="0.5")
    found = []
    for _ in range(64):
        with Client(transport=transport, model="shop") as client:
            found.append(client.model.fingerprint)
            assert {client.follow().fingerprint for _ in range(4)} == {found[-1]}
    assert set(found) == {OLD, NEW}


@pytest.mark.parametrize(("share", "fingerprint"), [("0.0", OLD), ("1.0", NEW)])
def test_a_canarys_share(share: str, fingerprint: str) -> None:
    for _ in range(8):
        with Client(transport=_shop(canary="shop_ffffff", canary_share=share)) as client:
            assert client.model.fingerprint == fingerprint


def test_other_names_are_still_to_be_named() -> None:
    transport = _shop()
    transport = Aliased(_model("shop", OLD, 0), _model("toys", OTHER, 2), **transport.aliases)
    with Client(transport=transport) as client, pytest.raises(ConfigError, match="serves shop, toys_00ff00: say"):
        _ = client.model
    with Client(transport=transport, model="toys") as client:
        assert client.model.fingerprint == OTHER


def test_a_model_of_others_with_such_a_name_is_no_alias() -> None:
    transport = Aliased(_model("shop", OLD, 0), shop={"fingerprint": NEW})
    with Client(transport=transport) as client:
        assert client.model.fingerprint == OLD


@pytest.mark.parametrize(
    "values", [{}, {"current": "shop_ab12cd", "canary": "shop_ffffff", "canary_share": "many"}]
)
def test_an_alias_that_does_not_say_what_it_stands_for(values: dict[str, str]) -> None:
    transport = Aliased(_model("shop", OLD, 0), shop={"alias": "shop"} | values)
    with (
        Client(transport=transport) as client,
        pytest.raises(ServerError, match="does not say what it stands for"),
    ):
        _ = client.model
