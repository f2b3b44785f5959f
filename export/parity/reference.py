"""The torch model's float32 embeddings of the samples: the reference that every engine is compared with.

Torch runs the model as training and evaluation do (`protoclip.encoders.model`), not the wrapper that was
exported, so that a bug in the wrapper is found. Shapes: `N` inputs, `A` adversarial ones, `D` embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protoclip.contract.pixels import PixelSpec, decode_rgb, load_pixels
from protoclip.contract.progress import Progress
from protoclip.contract.served_parameters import MAX_BATCH_SIZE
from protoclip.contract.text import Tokenizer
from protoclip.contract.zero_shot import class_vectors, fill_templates
from protoclip.encoders.model import ClipModel, encode_images, encode_texts

from .agreement import Embeddings
from .detector_agreement import Judges
from .samples import (
    Samples,
    adversarial_files,
    adversarial_pixels,
    adversarial_texts,
    sample_pixels,
    sample_tokens,
)

Array = NDArray[np.float32]
Encode = Callable[[NDArray[Any]], Array]
LARGEST_BATCH = 32
TEMPLATES = "photo"


@dataclass(frozen=True)
class Inputs:
    """An encoder's inputs, and torch's embeddings of them: `[N, D]` and `[A, D]`."""

    real: NDArray[Any]
    adversarial: NDArray[Any]
    expected: Array
    expected_adversarial: Array


@dataclass(frozen=True)
class Classes:
    """Zero-shot classes: `tokens` `[M, T]` of all texts, each text's class, and the pictures' labels `[N]`."""

    tokens: NDArray[np.int32]
    owners: NDArray[np.int64]
    labels: NDArray[np.int64]
    count: int

    def vectors(self, encode: Encode, size: int, batch: int = LARGEST_BATCH) -> Array:
        """`[C, D]`, `[0, D]` where there are no classes; `batch` texts at a time, `size` is D."""
        if not self.count:
            return np.zeros((0, size), dtype=np.float32)
        rows = in_batches(encode, self.tokens, batch)
        return class_vectors(rows, self.owners, self.count)


@dataclass(frozen=True)
class Reference:
    """All embeddings of the reference, torch or another engine; `described` says which.

    `from_files` `[N + F, D]`: picture files preprocessed by open_clip's own transform: the samples, then `files`.
    `random_weights`: the model is untrained. `largest_batch` is the largest that is going to be served. `judges`:
    the artifact's detector; None where it has none.
    """

    images: Inputs
    texts: Inputs
    from_files: Array
    files: tuple[bytes, ...]
    pixels: PixelSpec
    samples: Samples
    classes: Classes
    answers: Embeddings
    described: str
    random_weights: bool = False
    largest_batch: int = MAX_BATCH_SIZE
    judges: Judges | None = None


def torch_reference(
    clip: ClipModel,
    samples: Samples,
    progress: Progress,
    *,
    random_weights: bool = False,
    largest_batch: int = MAX_BATCH_SIZE,
    judges: Judges | None = None,
) -> Reference:
    """Runs torch on all inputs; raises DataError where a sample can't be used."""
    tokenizer = Tokenizer(clip.tokenizer_json, clip.text)
    images = _inputs(
        _torch(lambda x: encode_images(clip, x)),
        sample_pixels(samples, clip.pixels),
        adversarial_pixels(clip.pixels),
        lambda done, total: progress("image: torch", done, total),
    )
    texts = _inputs(
        _torch(lambda x: encode_texts(clip, x)),
        sample_tokens(samples, tokenizer),
        tokenizer.encode(adversarial_texts(clip.text)),
        lambda done, total: progress("text: torch", done, total),
    )
    classes, files = _classes(samples, tokenizer), adversarial_files()
    vectors = classes.vectors(_torch(lambda x: encode_texts(clip, x)), clip.embedding_dim)
    return Reference(
        images=images,
        texts=texts,
        from_files=_from_files(clip, (*samples.pictures, *files), images),
        files=files,
        pixels=clip.pixels,
        samples=samples,
        classes=classes,
        answers=Embeddings(images.expected, texts.expected, vectors),
        described=f"{clip.source} in torch {torch.__version__} float32 on the CPU",
        random_weights=random_weights,
        largest_batch=largest_batch,
        judges=judges,
    )


def engine_reference(reference: Reference, image: Encode, text: Encode, described: str) -> Reference:
    """The same inputs with another engine's embeddings, so that two builds can be compared.

    Raises:
        ModelError: the engine can't run a batch.
    """
    images, texts = _again(reference.images, image), _again(reference.texts, text)
    files = np.stack([load_pixels(file, reference.pixels) for file in reference.files])
    vectors = reference.classes.vectors(text, images.expected.shape[1])
    return replace(
        reference,
        images=images,
        texts=texts,
        from_files=np.concatenate([images.expected, in_batches(image, files, LARGEST_BATCH)]),
        answers=Embeddings(images.expected, texts.expected, vectors),
        described=described,
    )


def _again(inputs: Inputs, encode: Encode) -> Inputs:
    return replace(
        inputs,
        expected=in_batches(encode, inputs.real, LARGEST_BATCH),
        expected_adversarial=in_batches(encode, inputs.adversarial, LARGEST_BATCH),
    )


def in_batches(
    encode: Encode,
    inputs: NDArray[Any],
    size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Array:
    """All `inputs` `[N, ...]` in batches of `size`: `[N, D]`."""
    rows = []
    for start in range(0, len(inputs), size):
        rows.append(encode(inputs[start : start + size]))
        progress(min(start + size, len(inputs)), len(inputs))
    return np.concatenate(rows)


def _torch(encode: Callable[[torch.Tensor], torch.Tensor]) -> Encode:
    def run(batch: NDArray[Any]) -> Array:
        with torch.no_grad():
            return encode(torch.from_numpy(batch)).numpy()

    return run


def _inputs(
    encode: Encode,
    real: NDArray[Any],
    adversarial: NDArray[Any],
    progress: Callable[[int, int], None],
) -> Inputs:
    return Inputs(real, adversarial, in_batches(encode, real, LARGEST_BATCH, progress), encode(adversarial))


def _from_files(clip: ClipModel, files: Sequence[bytes], images: Inputs) -> Array:
    """Embeddings of the files as open_clip prepares them for this module, by its own transform."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(**open_clip.get_model_preprocess_cfg(clip.module)), False)
    own = torch.stack([transform(decode_rgb(file, clip.pixels)) for file in files])
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (clip.mean, clip.std))
    ours = (torch.from_numpy(images.real).permute(0, 3, 1, 2).float() / 255 - mean) / std
    known = torch.allclose(own[: len(ours)], ours, rtol=0, atol=1e-5)
    # Where the samples' pixels are equal, so are their embeddings: then only the extra files are run.
    rest = in_batches(_torch(lambda x: _embed(clip, x)), own[len(ours) if known else 0 :].numpy(), LARGEST_BATCH)
    return np.concatenate([images.expected, rest]) if known else rest


def _embed(clip: ClipModel, prepared: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(clip.module.encode_image(prepared).float(), dim=-1)  # type: ignore[operator]


def _classes(samples: Samples, tokenizer: Tokenizer) -> Classes:
    names = sorted(set(samples.labels))
    if len(names) < 2:
        nothing = np.zeros(0, dtype=np.int64)
        return Classes(np.zeros((0, 0), dtype=np.int32), nothing, nothing, 0)
    texts = fill_templates(names, TEMPLATES)
    owners = np.repeat(np.arange(len(names)), [len(group) for group in texts])
    tokens = tokenizer.encode([text for group in texts for text in group])
    labels = np.array([names.index(label) for label in samples.labels], dtype=np.int64)
    return Classes(tokens, owners, labels, len(names))
