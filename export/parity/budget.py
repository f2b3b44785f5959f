"""How long a comparison takes on this machine, before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence

from protoclip.contract.manifest import Precision
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel, encode_images, encode_texts

from .samples import Samples, sample_pixels, sample_tokens
from .verify import batch_sizes_to

_FIRST_BATCH = 4
# Files of every kind, hostile inputs, and two batches more of each size with other neighbours.
_BESIDES = 1.0
# What is only emulated on a CPU, in units of float32; int8 is faster, and counted like it.
_EMULATED = {"fp16": 3.0, "bf16": 4.0, "fp8": 3.0}


def comparison_budget(
    clip: ClipModel, samples: Samples, precisions: Sequence[Precision], largest_batch: int
) -> tuple[float, str]:
    """Estimated seconds of the comparison, and a line for people that says how many inputs and engines they are.

    Measured on torch's first batch of four pictures and four texts.

    Raises:
        DataError: a sample can't be used.
    """
    import torch

    first = Samples(samples.pictures[:_FIRST_BATCH], samples.texts[:_FIRST_BATCH], samples.origin)
    pixels = torch.from_numpy(sample_pixels(first, clip.pixels))
    tokens = torch.from_numpy(sample_tokens(first, Tokenizer(clip.tokenizer_json, clip.text)))
    started = time.perf_counter()
    with torch.no_grad():
        encode_images(clip, pixels)
        encode_texts(clip, tokens)
    of_a_pair = (time.perf_counter() - started) / len(pixels)
    sizes = batch_sizes_to(largest_batch)
    passes = 1 + sum((len(sizes) + _BESIDES) * _EMULATED.get(precision, 1.0) for precision in precisions)
    seconds = of_a_pair * len(samples.texts) * passes
    engines = "1 engine" if len(precisions) == 1 else f"{len(precisions)} engines"
    *most, last = map(str, sizes)
    batches = f"{', '.join(most)} and {last}" if most else last
    line = (
        f"comparing {engines} on {len(samples.texts)} pictures and texts in batches of {batches}: about "
        f"{shown_time(seconds)} here, by torch's first batch; --samples takes fewer"
    )
    return seconds, line


def shown_time(seconds: float) -> str:
    """`40 s`, `12 min`, `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
