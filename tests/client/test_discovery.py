"""Finding a model by the names and parameters of what a server offers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest

from protoclip.cli.client.server_options import Server
from protoclip.client import Client, InMemoryTransport, MemoryModel, ModelNotFound
from protoclip.client.deadline import Deadline
from protoclip.client.discovery import choose_prefix, complete_prefixes, find_model
from protoclip.client.transport import ModelConfig
from protoclip.contract.errors import ConfigError, ServerError
from protoclip.contract.served_parameters import ALIAS, CANARY, CANARY_SHARE, CURRENT


def _model(name: str, fingerprint: str, **fields: object) -> MemoryModel:
    return MemoryModel(lambda data: np.ones(4), lambda text: np.ones(4), 4, name, fingerprint, **fields)  # type: ignore[arg-type]


def test_only_pairs_of_public_names_count() -> None:
    names = [
        *("emoji_ab12cd_image", "emoji_ab12cd_text", "emoji_ab12cd_image_encoder", "emoji_ab12cd_text_preprocess"),
        *(
            "half_000000_image",
            "resnet50",
            "image",
            "Emoji_ab12cd_text",
            "emoji_ab12cg_image",
            "emoji_ab12cg_text",
        ),
        *("my_shop_2_ffffff_text", "my_shop_2_ffffff_image"),
        *("emoji_ab12cd_onnx_int8_image", "emoji_ab12cd_onnx_int8_text", "emoji_ab12cd_onnx_int8_image_encoder"),
    ]
    assert complete_prefixes(names) == ["emoji_ab12cd", "emoji_ab12cd_onnx_int8", "my_shop_2_ffffff"]


@pytest.mark.parametrize(
    ("prefixes", "wanted", "chosen"),
    [
        (["emoji_ab12cd"], None, "emoji_ab12cd"),
        (["emoji_ab12cd", "shop_ab12cd"], "emoji", "emoji_ab12cd"),
        (["emoji_ab12cd", "emoji_ffffff"], "emoji_ffffff", "emoji_ffffff"),
        (["emoji_ab12cd", "emoji_ab12cd_onnx_int8"], "emoji_ab12cd", "emoji_ab12cd"),
        (["emoji_ab12cd", "emoji_ab12cd_onnx_int8"], "emoji_ab12cd_onnx_int8", "emoji_ab12cd_onnx_int8"),
        (["emoji_ab12cd_onnx_int8", "shop_ffffff"], "emoji_ab12cd", "emoji_ab12cd_onnx_int8"),
        (["emoji_ab12cd_onnx_int8", "shop_ffffff"], "emoji", "emoji_ab12cd_onnx_int8"),
        (["my_ffffff_shop_ab12cd"], "my_ffffff_shop", "my_ffffff_shop_ab12cd"),
    ],
)
def test_a_choice_without_doubt(prefixes: list[str], wanted: str | None, chosen: str) -> None:
    assert choose_prefix("url", prefixes, wanted) == chosen


@pytest.mark.parametrize("wanted", [None, "emoji"])
def test_several_are_named_with_the_way_out(wanted: str | None) -> None:
    transport = InMemoryTransport(_model("emoji", "ab12cd34"), _model("emoji", "ffffff00"))
    expected = "memory:// serves emoji_ab12cd, emoji_ffffff: say which with model='emoji_ab12cd' (--model)"
    with (
        Client(transport=transport, model=wanted) as client,
        pytest.raises(ConfigError, match=re.escape(expected)),
    ):
        _ = client.model


def test_a_missing_one_names_what_is_there() -> None:
    with (
        Client(transport=InMemoryTransport(_model("emoji", "ab12cd")), model="shop") as client,
        pytest.raises(ModelNotFound, match="no model 'shop' that is ready: it serves emoji_ab12cd"),
    ):
        _ = client.model


def test_an_empty_server_is_told_apart() -> None:
    with (
        Client(transport=InMemoryTransport()) as client,
        pytest.raises(ModelNotFound, match="serves no ProtoCLIP model yet: write one with `protoclip repository`"),
    ):
        _ = client.model


def test_parameters_are_read() -> None:
    transport = InMemoryTransport(
        _model("emoji", "ab12cd34", temperature=7.25, logit_bias=-10.5, max_batch_size=8)
    )
    with Client(transport=transport) as client:
        model = client.model
    assert (model.name, model.prefix, model.fingerprint) == ("emoji", "emoji_ab12cd", "ab12cd34")
    assert (model.embedding_dim, model.temperature, model.logit_bias) == (4, 7.25, -10.5)
    assert (model.probabilities, model.sigmoid_bias) == ("sigmoid", -10.5)
    assert (model.precision, model.verdict, model.max_batch_size) == ("fp32", "passed", 8)
    assert (model.image_model, model.text_model) == ("emoji_ab12cd_image", "emoji_ab12cd_text")


class _Altered(InMemoryTransport):
    """Tells other parameters for single models."""

    def __init__(self, model: MemoryModel, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        super().__init__(model)
        self._changes = changes

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        config = super().model_config(model, timeout_s)
        altered = {**config.parameters, **self._changes.get(model, {})}
        kept = {name: value for name, value in altered.items() if value is not None}
        return ModelConfig(config.name, config.max_batch_size, kept)


@pytest.mark.parametrize(
    ("bias", "told", "kind", "taken"),
    [
        (None, None, "softmax", None),
        (-3.0, None, "sigmoid", -3.0),
        (-3.0, "softmax", "softmax", None),
    ],
)
def test_repositories_of_earlier_versions_do_not_tell_probabilities(
    bias: float | None, told: str | None, kind: str, taken: float | None
) -> None:
    change = {"emoji_ab12cd_image": {"probabilities": told}}
    model = find_model(
        _Altered(_model("emoji", "ab12cd", logit_bias=bias), change), None, Deadline(5, "memory://")
    )
    assert (model.probabilities, model.sigmoid_bias) == (kind, taken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emoji_ab12cd_image": {"temperature": None}}, "emoji_ab12cd_image has no parameter 'temperature'"),
        ({"emoji_ab12cd_image": {"embedding_dim": "many"}}, "unreadable parameter .*many"),
        ({"emoji_ab12cd_image": {"probabilities": "softplus"}}, "unreadable parameter .*softplus"),
        ({"emoji_ab12cd_text": {"fingerprint": "ab12cdff"}}, "emoji_ab12cd_text are of two models"),
    ],
)
def test_a_foreign_repository_is_named(changes: dict[str, dict[str, str | None]], message: str) -> None:
    transport = _Altered(_model("emoji", "ab12cd"), changes)
    with pytest.raises(ServerError, match=message):
        find_model(transport, None, Deadline(5, "memory://"))


class _WithCanary(InMemoryTransport):
    """The alias `shop`, whose canary nearly all clients get."""

    def ready_models(self, timeout_s: float | None) -> list[str]:
        return [*super().ready_models(timeout_s), "shop_image", "shop_text"]

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        if model not in ("shop_image", "shop_text"):
            return super().model_config(model, timeout_s)
        facts = {ALIAS: "shop", CURRENT: "shop_aaaaaa", CANARY: "shop_bbbbbb", CANARY_SHARE: "0.999999"}
        return ModelConfig(model, 8, facts)


def test_a_client_without_canary_gets_the_current_model_each_time() -> None:
    for canary, expected in ((False, {"shop_aaaaaa"}), (True, {"shop_bbbbbb"})):
        found = set()
        for _ in range(5):
            transport = _WithCanary(_model("shop", "aaaaaa"), _model("shop", "bbbbbb"))
            with Client(model="shop", transport=transport, canary=canary) as client:
                found |= {client.model.prefix, client.follow().prefix}
        assert found == expected


def test_commands_never_get_a_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes on with what a killed one left would get another model."""
    transport = _WithCanary(_model("shop", "aaaaaa"), _model("shop", "bbbbbb"))
    monkeypatch.setattr("protoclip.client.client.one_transport", lambda url, own, options: transport)
    with Server("grpc://localhost:1", None, 1.0, {}, None, None, None).connected() as client:
        assert client.model.prefix == "shop_aaaaaa"
