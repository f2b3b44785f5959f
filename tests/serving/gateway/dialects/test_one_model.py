"""Texts and pictures of one answer are by one model, also while an alias moves from one to another."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import numpy as np
import pytest

from protoclip.client import AsyncClient, InMemoryTransport, MemoryModel, ServedModel
from protoclip.client.transport import ModelConfig
from serving.gateway.dialects.embedding import embed_both
from serving.gateway.errors import Refused

AXES = {"ab12cd34": 0, "ffffff00": 1}
OLD, NEW = AXES
LIMIT_S = 20
ROUNDS = 200


def _model(fingerprint: str) -> MemoryModel:
    """Its vectors are an axis, so that they show whose they are."""
    vector = np.eye(2)[AXES[fingerprint]]
    return MemoryModel(lambda data: vector, lambda text: vector, 2, "shop", fingerprint)


class Aliased(InMemoryTransport):
    """Two models, and the alias `shop` for one of them."""

    def __init__(self) -> None:
        super().__init__(_model(OLD), _model(NEW))
        self.current = OLD

    def ready_models(self, timeout_s: float | None) -> list[str]:
        return [*super().ready_models(timeout_s), "shop_image", "shop_text"]

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        if model in ("shop_image", "shop_text"):
            return ModelConfig(model, 64, {"alias": "shop", "current": f"shop_{self.current[:6]}"})
        return super().model_config(model, timeout_s)


class Moves:
    """The other model is current from now on, and the client follows at once, as the gateway has it do."""

    def __init__(self) -> None:
        self.transport = Aliased()
        self.client = AsyncClient(transport=self.transport, model="shop")
        self.number = 0

    def __call__(self) -> None:
        self.number += 1
        self.transport.current = NEW if self.transport.current == OLD else OLD
        thread = threading.Thread(target=lambda: asyncio.run(self.client.follow()))
        thread.start()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


@pytest.fixture
def move() -> Moves:
    return Moves()


def test_a_move_between_the_name_and_the_vectors_is_asked_again(move: Moves) -> None:
    asked: list[str] = []

    def check(model: ServedModel) -> None:
        asked.append(model.fingerprint)
        if move.number == 0:
            move()

    found = asyncio.run(embed_both(move.client, ["a"], [b"b"], check))
    assert asked == [OLD, NEW]
    assert found.model.fingerprint == found.texts.fingerprint == found.pictures.fingerprint == NEW
    assert found.texts.vectors.tolist() == found.pictures.vectors.tolist() == [[0, 1]]


def test_an_alias_that_moves_all_the_time_mixes_nothing(move: Moves) -> None:
    """Whatever fell between two moves: the name, the text and the picture are of the same one."""
    ended = threading.Event()

    def move_on() -> None:
        while not ended.is_set():
            move()

    async def ask() -> list[tuple[str, list[list[float]], list[list[float]]]]:
        found = []
        for _ in range(ROUNDS):
            with contextlib.suppress(Refused):
                one = await embed_both(move.client, ["a"], [b"b"])
                found.append((one.model.fingerprint, one.texts.vectors.tolist(), one.pictures.vectors.tolist()))
        return found

    thread = threading.Thread(target=move_on)
    thread.start()
    try:
        found = asyncio.run(ask())
    finally:
        ended.set()
        thread.join(LIMIT_S)
    assert {fingerprint for fingerprint, _, _ in found} == {OLD, NEW}
    for fingerprint, texts, pictures in found:
        assert texts == pictures == [np.eye(2)[AXES[fingerprint]].tolist()]


def test_a_model_that_moves_again_and_again_is_refused(move: Moves) -> None:
    with pytest.raises(Refused, match="being changed") as refused:
        asyncio.run(embed_both(move.client, ["a"], [b"b"], lambda model: move()))
    assert (refused.value.status, refused.value.retry_after_s) == (503, 2)
