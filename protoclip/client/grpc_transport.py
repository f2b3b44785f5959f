"""Triton over gRPC. The stub is used directly, because it takes a deadline for every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from protoclip.contract.errors import ServerError

from .errors import ModelNotFound, Refused, closed, deadline_exceeded, unavailable
from .tensor_bytes import EMBEDDING, ERROR, OutputTensor, pack_bytes, read_answer
from .transport import Answer, ModelConfig, host_and_port

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # During its reconnect backoff gRPC fails calls without trying: the backoff must end within the client's few
    # retries, or a server that is up again would not be reached.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    # As over HTTP: connect to the address itself, and ignore http_proxy.
    ("grpc.enable_http_proxy", 0),
]


class GrpcTransport:
    """Uses one channel, which is thread-safe."""

    def __init__(self, host: str, port: int) -> None:
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self.url = f"grpc://{host_and_port(host, port)}"
        self._messages = service_pb2
        self._channel = grpc.insecure_channel(host_and_port(host, port), options=_CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def infer(self, model: str, input_name: str, items: Sequence[bytes], timeout_s: float | None) -> Answer:
        request = self._messages.ModelInferRequest(model_name=model)
        request.inputs.add(name=input_name, datatype="BYTES", shape=[len(items), 1])
        request.raw_input_contents.append(pack_bytes(items))
        for name in (EMBEDDING, ERROR):
            request.outputs.add(name=name)
        response = self._call(self._stub.ModelInfer, request, timeout_s)
        pairs = zip(response.outputs, response.raw_output_contents, strict=False)
        tensors = {out.name: OutputTensor(out.datatype, out.shape, data) for out, data in pairs}
        return read_answer(self.url, tensors, len(items))

    def ready_models(self, timeout_s: float | None) -> list[str]:
        request = self._messages.RepositoryIndexRequest(ready=True)
        return [model.name for model in self._call(self._stub.RepositoryIndex, request, timeout_s).models]

    def model_config(self, model: str, timeout_s: float | None) -> ModelConfig:
        request = self._messages.ModelConfigRequest(name=model)
        config = self._call(self._stub.ModelConfig, request, timeout_s).config
        parameters = {name: value.string_value for name, value in config.parameters.items()}
        return ModelConfig(config.name, config.max_batch_size, parameters)

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Callable[..., Any], request: object, timeout_s: float | None) -> Any:
        import grpc

        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _translate(self.url, error, timeout_s) from error
        except ValueError as error:
            # gRPC raises this for a call on a closed channel.
            raise closed(self.url) from error


def _translate(url: str, error: grpc.RpcError, timeout_s: float | None) -> ServerError:
    import grpc

    code, details = error.code(), " ".join((error.details() or "").split())
    if code == grpc.StatusCode.CANCELLED:
        return closed(url)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return deadline_exceeded(url, timeout_s)
    if "unknown model" in details or code == grpc.StatusCode.NOT_FOUND:
        return ModelNotFound(f"{url}: {details}: load it, or name another one with model=")
    if code == grpc.StatusCode.UNAVAILABLE:
        return unavailable(url, "connection refused" if "onnection refused" in details else details)
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return Refused(url, details)
    return ServerError(f"{url}: {code.name}: {details}")
