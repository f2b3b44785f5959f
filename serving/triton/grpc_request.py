"""A request for inference over gRPC, as a client sends it: what answers over HTTP may not do so here."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ServerError

from .catalog import PublicModel


def embed_by_grpc(
    address: str, model: PublicModel, items: Sequence[bytes], timeout_s: float
) -> list[NDArray[np.float32]]:
    """The embedding `[D]` of each item, in a request of its own, by a connection that ends with them.

    Args:
        address: host and port.

    Raises:
        ServerError: no answer, an error, or another number of values.
    """
    import grpc  # type: ignore[import-untyped]
    from tritonclient.grpc import service_pb2_grpc

    # As clients do: to the address itself.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        try:
            answers = [ask(_request(model, item), timeout=timeout_s).raw_output_contents for item in items]
        except grpc.RpcError as error:
            reason = " ".join((error.details() or "").split())
            raise ServerError(
                f"{model.name}: a request for a test over gRPC failed with {error.code().name}: {reason}"
            ) from error
    if any(len(answer) != 1 or len(answer[0]) != 4 * model.embedding_dim for answer in answers):
        raise ServerError(f"{model.name}: the answer over gRPC is not {model.embedding_dim} values")
    return [np.frombuffer(answer[0], dtype="<f4") for answer in answers]


def _request(model: PublicModel, item: bytes) -> object:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model.name)
    request.inputs.add(name=model.role, datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<I", len(item)) + item)
    request.outputs.add(name="embedding")
    return request
