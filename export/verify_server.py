"""Compares what a running server answers with the model that its artifact was made from.

Pictures go as files and texts as strings through the served models, so that a mistake in the server's own
preprocessing is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from export.parity.detector_agreement import Judges
from export.parity.manifest_fields import check_fields
from export.parity.recorded_verdicts import check_verdicts
from export.parity.reference import Reference, torch_reference
from export.parity.report import EngineReport, Report
from export.parity.samples import Samples, adversarial_texts
from export.parity.served import All, Answers, Embedded, Expected, ServerClient, joined, served_report
from export.parity.tokens import check_tokens
from export.parity.verify import make_report
from protoclip.contract.errors import ItemError
from protoclip.contract.manifest import Manifest
from protoclip.contract.pixels import load_pixels
from protoclip.contract.progress import Progress, silent
from protoclip.contract.served_parameters import MAX_BATCH_SIZE
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel, encode_images, encode_texts
from protoclip.encoders.reference_tokenizer import torture_texts

from .carried_detector import open_carried
from .verify_artifact import open_artifact

Connect = Callable[[str, str, int], ServerClient]
ALONE = 8
"""So many pictures and texts are sent once more, each in a request of its own."""


def verify_server(
    folder: Path,
    clip: ClipModel,
    samples: Samples,
    urls: Sequence[str],
    connect: Connect,
    random_weights: bool = False,
    progress: Progress = silent,
) -> Report:
    """Asks the server at each of `urls`, `grpc://host:port` or `http://host:port`, for the artifact's model.

    The report has an engine for each address, called `served by grpc` or `served by http`, and the checks of the
    manifest; the artifact's engines are not run.

    Args:
        connect: gives the client for an address, a model's name and a batch size.

    Raises:
        ModelError: `folder` is no artifact, a file was changed since, or it was made from another model.
        ServerError: a server can't be reached, does not serve the model, or an answer can't be understood.
        DataError: a sample can't be used.
    """
    manifest = open_artifact(folder, clip)
    for url in urls:  # before torch has worked for minutes
        with connect(url, _prefix(manifest), 1) as client:
            _ = client.model
    reference = torch_reference(clip, samples, progress)
    hostile = _hostile_texts(clip)
    expected = _expected(clip, reference, hostile)
    judges = None
    if manifest.detector is not None:
        judges = open_carried(Path(folder), manifest.detector, manifest.fingerprint)
    files, texts = (*samples.pictures, *reference.files), (*samples.texts, *hostile)
    found = [_ask(url, manifest, connect, expected, files, texts, judges, progress) for url in urls]
    tokens = check_tokens(Path(folder) / manifest.tokenizer_file, manifest.text, clip, samples.texts)
    checks = [*check_fields(manifest, clip), tokens, check_verdicts(folder, manifest)]
    return make_report(reference, found, random_weights, checks)


def _hostile_texts(clip: ClipModel) -> list[str]:
    """With those that tell cleaners apart: the samples may be in lower case, without entities, in one alphabet."""
    both = (*adversarial_texts(clip.text), *torture_texts(clip.text.context_length))
    return [text for text in dict.fromkeys(both) if text.strip()]


def _expected(clip: ClipModel, reference: Reference, texts: Sequence[str]) -> Expected:
    pixels = np.stack([load_pixels(file, clip.pixels) for file in reference.files])
    tokens = Tokenizer(clip.tokenizer_json, clip.text).encode(texts)
    with torch.no_grad():
        hostile = encode_images(clip, torch.from_numpy(pixels)).numpy()
        hostile_texts = encode_texts(clip, torch.from_numpy(tokens)).numpy()
    images = reference.images
    return Expected(
        pictures=np.concatenate([images.expected, hostile]),
        from_files=reference.from_files,
        texts=np.concatenate([reference.texts.expected, hostile_texts]),
        picture_crowd=images.expected,
        text_crowd=reference.texts.expected,
    )


def _ask(
    url: str,
    manifest: Manifest,
    connect: Connect,
    expected: Expected,
    files: Sequence[bytes],
    texts: Sequence[str],
    judges: Judges | None,
    progress: Progress,
) -> EngineReport:
    name = f"served by {url.split(':')[0]}"
    prefix = _prefix(manifest)
    with connect(url, prefix, MAX_BATCH_SIZE) as many, connect(url, prefix, 1) as single:
        answers = Answers(
            pictures=_gather(many.stream_images(files), f"{name}, pictures", len(files), progress),
            texts=_gather(many.stream_texts(texts), f"{name}, texts", len(texts), progress),
            pictures_alone=_gather(single.stream_images(files[:ALONE]), f"{name}, one by one", ALONE, progress),
            texts_alone=_gather(single.stream_texts(texts[:ALONE]), f"{name}, one by one", ALONE, progress),
            judged=None if judges is None else _judged(many, files[: len(expected.picture_crowd)]),
        )
        largest = min(MAX_BATCH_SIZE, many.model.max_batch_size)
        return served_report(name, url, many.model, manifest, expected, answers, largest, judges)


def _judged(client: ServerClient, files: Sequence[bytes]) -> tuple[NDArray[np.bool_], NDArray[np.float32]] | None:
    """What the server's detector says; None where it has none, or a picture was refused."""
    if client.model.detector is None:
        return None
    answers = client.detect(files, "return")
    judged = [answer for answer in answers if not isinstance(answer, ItemError)]
    if len(judged) < len(answers):
        return None
    scores = np.array([answer.score for answer in judged], dtype=np.float32)
    return np.array([answer.known for answer in judged], dtype=np.bool_), scores


def _gather(stream: Iterable[Embedded], what: str, total: int, progress: Progress) -> All:
    parts: list[Embedded] = []
    for part in stream:
        parts.append(part)
        progress(what, sum(len(one.vectors) for one in parts), total)
    return joined(parts)


def _prefix(manifest: Manifest) -> str:
    return manifest.model_name("image").removesuffix("_image")
