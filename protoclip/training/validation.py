"""Retrieval on held-out pairs during training.

`V` validation pairs, `M` distinct label texts among them, `D` joint embedding. Nothing here uses the global
generators or updates running statistics, so validation does not change training.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from protoclip.config.schema import RunConfig
from protoclip.contract.errors import DataError, ProtoclipError
from protoclip.contract.model_inputs import ModelInputs
from protoclip.contract.pixels import PictureError, PixelSpec, load_pixels
from protoclip.data.random_numbers import generator
from protoclip.distributed import collectives
from protoclip.encoders.precision import computing_in, normalised
from protoclip.evaluation.retrieval import image_to_text_ranks, recall_at, text_to_image_ranks
from protoclip.evaluation.subsets import label_texts
from protoclip.sources import Pairs

logger = logging.getLogger(__name__)
_THREADS = 4
_KS = (1, 5, 10)


@dataclass(frozen=True)
class Best:
    """The best measurement so far and the number of measurements since."""

    step: int
    value: float
    misses: int = 0

    @classmethod
    def of_lines(cls, lines: Iterable[dict[str, Any]]) -> Best | None:
        """From the lines of a run's metrics; None before the first measurement."""
        best: Best | None = None
        for line in lines:
            if line["kind"] == "validation":
                best = cls.after(best, line["step"], line["value"])
        return best

    @classmethod
    def after(cls, best: Best | None, step: int, value: float) -> Best:
        """The best after `value` was measured at `step`; an equal value is not better."""
        if best is None or value > best.value:
            return cls(step, value)
        return cls(best.step, best.value, best.misses + 1)


def shared(best: Best | None) -> Best | None:
    """The first rank's best, on every rank."""
    own = [-1.0, 0.0, 0.0] if best is None else [best.step, best.value, best.misses]
    step, value, misses = collectives.gather_rows(torch.tensor(own, dtype=torch.float64))[0].tolist()
    return None if step < 0 else Best(int(step), value, int(misses))


class Validation:
    """Measures a model on validation pairs; holds their pixels, `[V, H, W, 3]` uint8, in memory.

    The towers compute in `train.precision`.

    Of more than `validation.max_pairs` pairs a random subset of that size is measured, the same one each time.

    Args:
        progress: wraps the iterable of V pictures that are read.

    Raises:
        DataError: none of the pictures can be read.
    """

    def __init__(
        self,
        pairs: Pairs,
        config: RunConfig,
        inputs: ModelInputs,
        progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, total: items,
    ) -> None:
        if len(pairs) > config.validation.max_pairs:
            rng = generator(config.train.seed, "validation pairs")
            pairs = pairs.select(np.sort(rng.permutation(len(pairs))[: config.validation.max_pairs]))
        rows, self._pixels = _read(pairs, inputs.pixels, progress)
        labels = label_texts(pairs.select(rows), config.data.group_column)
        self._owners, self._tokens = labels.owners, torch.from_numpy(inputs.tokenizer.encode(list(labels.texts)))
        self._mean, self._std = (torch.tensor(part).view(1, 3, 1, 1) for part in (inputs.mean, inputs.std))
        self._batch_size, self._precision = config.evaluation.batch_size, config.train.precision

    def measure(self, module: nn.Module) -> dict[str, float]:
        """Recalls in [0, 1], rounded to 6 digits, `mean_recall` over both directions and k = 1, 5, 10.

        Leaves the module in eval mode: the caller must enter its stage again.

        Raises:
            ProtoclipError: an embedding is not finite.
        """
        collectives.share_buffers(module)
        module.eval()
        images, texts = self._embed(module)
        try:
            ranks = {
                "image_to_text": image_to_text_ranks(images, texts, self._owners),
                "text_to_image": text_to_image_ranks(images, texts, self._owners),
            }
        except ValueError as error:
            raise ProtoclipError(f"validation: {error}: lower optim.learning_rate") from error
        found = {f"{way}_r{k}": share for way in ranks for k, share in recall_at(ranks[way], _KS).items()}
        found["mean_recall"] = sum(found.values()) / len(found)
        # Rounded as in the log: a resumed run compares with the values it reads there.
        return {name: float(f"{value:.6g}") for name, value in found.items()}

    @torch.inference_mode()
    def _embed(self, module: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        device, size = next(module.parameters()).device, self._batch_size
        with computing_in(self._precision, device):
            images = _shared_out(
                self._pixels,
                size,
                lambda part: module.encode_image(self._input(part).to(device)),  # type: ignore[operator]
            )
            texts = _shared_out(
                self._tokens,
                size,
                lambda part: module.encode_text(part.long().to(device)),  # type: ignore[operator]
            )
        return images, texts

    def _input(self, pixels: Tensor) -> Tensor:
        return (pixels.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std


def _shared_out(items: Tensor, size: int, encode: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
    """Unit vectors [V, D] of all items; each rank encodes its shard; V is at least 1."""
    own = torch.arange(len(items))[collectives.rank() :: collectives.world_size()]
    # A rank without items encodes one as well: its vector is dropped, but its width and dtype are needed.
    parts = items[own].split(size) if len(own) else (items[:1],)
    vectors = torch.cat([encode(part) for part in parts])[: len(own)]
    return collectives.fill(normalised(vectors), own.to(vectors.device), len(items)).cpu().numpy()


def _read(
    pairs: Pairs, spec: PixelSpec, progress: Callable[[Iterable[Any], int], Iterable[Any]]
) -> tuple[NDArray[np.int64], Tensor]:
    def read(row: int) -> NDArray[np.uint8] | str:
        try:
            return load_pixels(pairs.read_image(row), spec)
        except (PictureError, DataError) as error:
            return str(error)

    with ThreadPoolExecutor(_THREADS) as pool:
        outcomes = list(progress(pool.map(read, range(len(pairs))), len(pairs)))
    broken = [outcome for outcome in outcomes if isinstance(outcome, str)]
    pixels = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    if not pixels:
        raise DataError(f"validation: none of the {len(pairs)} pictures can be read; the first: {broken[0]}")
    if broken:
        logger.warning(
            "%d of %d validation pictures can't be read and are left out: %s", len(broken), len(pairs), broken[0]
        )
    rows = np.array([row for row, outcome in enumerate(outcomes) if not isinstance(outcome, str)])
    return rows, torch.from_numpy(np.stack(pixels))
