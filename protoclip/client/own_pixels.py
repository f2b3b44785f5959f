"""Pictures that the client decodes itself, where it is known that its pixels are the server's. `n` pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.decoders import RULES, changed_settings, decoder_versions, unpack_decoders
from protoclip.contract.errors import ConfigError, ServerError
from protoclip.contract.pixels import PictureError, PixelSpec
from protoclip.contract.reasons import unpack_reasons
from protoclip.contract.scaled_pixels import LOADERS, Decoding

from .deadline import Deadline, with_retries
from .discovery import ServedModel
from .errors import Refused
from .sample_pictures import sample_pictures
from .tensor_bytes import ERROR, InputTensor, OutputTensor, TensorTransport, items_tensor
from .transport import Answer

Preprocess = Literal["server", "client", "auto"]

Pixels = NDArray[np.uint8]
DECODERS = "decoders"
MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""Of pixels in one request: servers and what stands before them take no larger ones."""


class PixelsDiffer(Exception):
    """This client can't make the server's pixels; the message is the reason."""


@dataclass(frozen=True)
class PixelInput:
    """How a model takes pixels, as its parameter `pixels` says.

    Attributes:
        preprocess: the server's model that makes them.
        encoder: the model that takes them, by its input `input` and output `output`.
        spec: how they are made.
        decoding: from whole pictures, or from ones decoded at a part of their size.
    """

    preprocess: str
    encoder: str
    input: str
    output: str
    spec: PixelSpec
    decoding: Decoding = "whole"

    def __post_init__(self) -> None:
        if self.decoding not in LOADERS:
            raise ValueError(f"decoding {self.decoding!r}")


class OwnPixels:
    """Embeds pictures of `model` by pixels that are made here."""

    def __init__(self, transport: TensorTransport, url: str, model: ServedModel, pixels: PixelInput) -> None:
        self._transport = transport
        self._url = url
        self._dim = model.embedding_dim
        self._pixels = pixels

    def infer(self, payloads: Sequence[bytes], deadline: Deadline) -> Answer:
        """As `Transport.infer` of picture files.

        Raises:
            ConfigError: a setting of Pillow's was changed, so that pixels would be others than the server's.
        """
        _check_settings()
        made = []
        for data in payloads:
            deadline.call.check()
            made.append(_pixels_or_reason(data, self._pixels))
        errors = tuple(item if isinstance(item, str) else "" for item in made)
        if all(errors):
            return Answer(np.zeros((len(payloads), self._dim), dtype=np.float32), errors)
        # Black for bad ones, as the server does: in a smaller batch the others' last bits could be different.
        black = np.zeros((self._pixels.spec.height, self._pixels.spec.width, 3), dtype=np.uint8)
        pixels = np.stack([black if isinstance(item, str) else item for item in made])
        step = max(1, MAX_REQUEST_BYTES // black.nbytes)
        parts = [self._vectors(pixels[start : start + step], deadline) for start in range(0, len(pixels), step)]
        return Answer(np.concatenate(parts), errors)

    def _vectors(self, pixels: Pixels, deadline: Deadline) -> NDArray[np.float32]:
        return with_retries(lambda left_s: self._encode(pixels, left_s), deadline, known=True)

    def _encode(self, pixels: Pixels, timeout_s: float | None) -> NDArray[np.float32]:
        tensor = InputTensor(self._pixels.input, "UINT8", pixels.shape, pixels.tobytes())
        names = (self._pixels.output,)
        answer = self._transport.infer_tensors(self._pixels.encoder, tensor, names, timeout_s)
        try:
            data = _data(answer[self._pixels.output], "FP32")
            return np.frombuffer(data, dtype="<f4").reshape(len(pixels), self._dim).astype(np.float32)
        except (KeyError, ValueError) as error:
            raise ServerError(f"{self._url}: the answer is not one of a ProtoCLIP encoder: {error}") from error


def agree_on_pixels(transport: object, url: str, model: ServedModel, deadline: Deadline) -> OwnPixels:
    """Compares this client's pixels with the server's: versions of all that decodes, and pixels of samples.

    Raises:
        PixelsDiffer: they are not the same, or the server or the transport takes no pixels.
        ConfigError: a setting of Pillow's was changed.
        ServerError: the server can't be asked.
    """
    if not isinstance(transport, TensorTransport):
        raise PixelsDiffer(f"{type(transport).__name__} takes no pixels: it has no infer_tensors")
    pixels = _read_input(model)
    _check_settings()
    samples, versions = sample_pictures(), decoder_versions()
    theirs: list[Pixels | None] = []
    names, files = tuple(samples), tuple(samples.values())
    for start in range(0, len(files), model.bulk_batch_size):
        part = files[start : start + model.bulk_batch_size]
        theirs += _ask(transport, url, pixels, part, versions, deadline)
    for name, data, their in zip(names, files, theirs, strict=True):
        deadline.call.check()
        if not _same(_pixels_or_reason(data, pixels), their):
            raise PixelsDiffer(f"a sample ({name}) has other pixels here, though all versions are the same")
    return OwnPixels(transport, url, model, pixels)


def _check_settings() -> None:
    changed = changed_settings()
    if changed is not None:
        raise ConfigError(
            f"{changed} in this process, so that pictures could have other pixels than the server's: "
            "set it back, or leave preprocess='client' (--preprocess) out"
        )


def _pixels_or_reason(data: bytes, pixels: PixelInput) -> Pixels | str:
    try:
        return LOADERS[pixels.decoding](data, pixels.spec)
    except PictureError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever the error is, it must not affect other pictures
        return f"the picture can't be decoded ({type(error).__name__})"


def _same(ours: Pixels | str, theirs: Pixels | None) -> bool:
    return theirs is None if isinstance(ours, str) else theirs is not None and np.array_equal(ours, theirs)


def _read_input(model: ServedModel) -> PixelInput:
    if not model.pixels:
        raise PixelsDiffer(f"{model.prefix} does not say how its pixels are made: write the repository anew")
    try:
        values = json.loads(model.pixels)
        spec = values["spec"]
        for name in ("fill", "background"):
            spec[name] = tuple(spec[name])
        return PixelInput(**values | {"spec": PixelSpec(**spec)})
    except (KeyError, TypeError, ValueError) as error:
        raise PixelsDiffer(
            f"{model.prefix} says of its pixels what this version does not know ({error}): install a newer one"
        ) from error


def _ask(
    transport: TensorTransport,
    url: str,
    pixels: PixelInput,
    files: Sequence[bytes],
    versions: Mapping[str, str],
    deadline: Deadline,
) -> list[Pixels | None]:
    """The server's pixels of each file, None of one that it can't decode; PixelsDiffer where its decoders do."""
    outputs = (pixels.input, ERROR, DECODERS)
    tensor = items_tensor("image", files)
    try:
        answer = with_retries(
            lambda left_s: transport.infer_tensors(pixels.preprocess, tensor, outputs, left_s),
            deadline,
            known=True,
        )
    except Refused:
        # The way in which a lone bad picture is told.
        if len(files) > 1:
            raise
        return [None]
    try:
        for row in np.unique(_rows(answer[DECODERS], len(files)), axis=0):
            _check_versions(unpack_decoders(row.tobytes()), versions)
        reasons = unpack_reasons(_rows(answer[ERROR], len(files)))
        shape = (pixels.spec.height, pixels.spec.width, 3)
        arrays = _rows(answer[pixels.input], len(files)).reshape(len(files), *shape)
    except KeyError as error:
        raise PixelsDiffer(f"{pixels.preprocess} does not give {error}: write the repository anew") from error
    except ValueError as error:
        raise ServerError(f"{url}: the answer is not one of {pixels.preprocess}: {error}") from error
    return [None if reason else array for array, reason in zip(arrays, reasons, strict=True)]


def _check_versions(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if different == [RULES]:
        raise PixelsDiffer(
            "the repository was written by another version of ProtoCLIP, which makes pixels by other rules: "
            "write it anew with this one"
        )
    if different:
        told = [f"{name} {theirs.get(name) or 'missing'} there, {ours.get(name) or 'missing'} here"
                for name in different if name != RULES]  # fmt: skip
        raise PixelsDiffer(f"pictures are decoded by other versions ({'; '.join(told)}): install the server's")


def _rows(tensor: OutputTensor, count: int) -> Pixels:
    return np.frombuffer(_data(tensor, "UINT8"), dtype=np.uint8).reshape(count, -1)


def _data(tensor: OutputTensor, datatype: str) -> bytes:
    if tensor.datatype != datatype:
        raise ValueError(f"{tensor.datatype} in the place of {datatype}")
    return tensor.data
