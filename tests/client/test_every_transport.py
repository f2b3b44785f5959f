"""What every transport owes the client: functions, an artifact, and a real Triton over both protocols."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protoclip.client import InMemoryTransport, MemoryModel, ModelNotFound, Refused, Transport
from protoclip.client.connection import connect


class TestTransport:
    """What the transports owe the client, as they stand."""

    @pytest.fixture(params=["memory", "artifact", "grpc", "http"])
    def transport(
        self, request: pytest.FixtureRequest, memory_model: MemoryModel, tiny_artifact: Path
    ) -> Iterator[Transport]:
        if request.param == "memory":
            yield InMemoryTransport(memory_model)
            return
        if request.param == "artifact":
            url = str(tiny_artifact)
        else:
            server = request.getfixturevalue("triton")
            url = server.grpc_url if request.param == "grpc" else server.http_url
        transport = connect(url)
        yield transport
        transport.close()

    def test_a_request_of_one_bad_item_is_refused(self, transport: Transport) -> None:
        with pytest.raises(Refused) as caught:
            transport.infer("tiny_012345_text", "text", [b" "], 20)
        assert caught.value.reason == "the text is blank: give at least one word"

    def test_a_request_with_one_bad_item_is_answered(self, transport: Transport) -> None:
        answer = transport.infer("tiny_012345_text", "text", [b"good", b"\xff"], 20)
        assert answer.embeddings.shape == (2, 16)
        assert answer.errors[0] == ""
        assert answer.errors[1]

    @pytest.mark.parametrize(
        ("model", "input_name", "items", "kind"),
        [
            ("tiny_012345_text", "image", [b"a"], Refused),
            ("tiny_012345_text", "text", [b"a"] * 65, Refused),
            ("tiny_ffffff_text", "text", [b"a"], ModelNotFound),
        ],
    )
    def test_wrong_requests(
        self, transport: Transport, model: str, input_name: str, items: list[bytes], kind: type[Exception]
    ) -> None:
        with pytest.raises(kind):
            transport.infer(model, input_name, items, 20)
        with pytest.raises(ModelNotFound):
            transport.model_config("tiny_ffffff_text", 20)

    def test_large_requests_pass(self, transport: Transport) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).save(stream, "BMP")
        answer = transport.infer("tiny_012345_image", "image", [stream.getvalue()] * 4, 20)
        assert answer.errors == ("",) * 4
