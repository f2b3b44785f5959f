"""Golden vectors: a few inputs with the embeddings that a served model has to give for them.

`n` inputs, `D` embedding. Vectors are float32 of unit norm, little-endian, in base64.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, Field

Array = NDArray[np.float32]
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
TEXTS = (
    "a photo of red shoes",
    "Two cats & a dog, 3 metres away (at night).",
    "naïve café – 東京 👟",
)
_LOOSER = 2.0
"""How far beyond an engine's own error at its export another machine may be, where that is beyond the gate."""
FARTHEST_DIFFERENCE, LEAST_CENTRED_COSINE = 1e-3, 0.9
"""No bound is looser: two models, even of one training, are farther apart than that."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GoldenBound(_Frozen):
    """How far an engine's answers may be from the golden vectors; None: not checked."""

    max_abs_difference: float | None = Field(default=None, description="of any component")
    min_centred_cosine: float | None = Field(default=None, description="once the centre is taken off both")


class GoldenVectors(_Frozen):
    """What one encoder gives for the golden inputs, `[n, D]`, and the mean of its usual answers, `[D]`."""

    expected: tuple[Base64, ...] = Field(min_length=1)
    centre: Base64 = Field(description="mean of many embeddings: an error shows in the distance from it")

    @staticmethod
    def of(expected: Array, centre: Array) -> GoldenVectors:
        """Packs `[n, D]` and `[D]`."""
        return GoldenVectors(expected=tuple(_pack(row) for row in expected), centre=_pack(centre))

    def misses(self, served: Array, bound: GoldenBound) -> list[str]:
        """What is wrong with `served` `[n, D]`, in words; empty where it is within `bound`."""
        expected, centre = np.stack([_unpack(row) for row in self.expected]), _unpack(self.centre)
        if served.shape != expected.shape:
            return [f"{served.shape[-1]} numbers instead of {expected.shape[-1]}"]
        if not np.isfinite(served).all():
            return ["NaN or infinity"]
        difference, cosine = deviation(expected, served, centre)
        found = []
        if bound.max_abs_difference is not None and difference > bound.max_abs_difference:
            found.append(f"off by {difference:.1e}, allowed {bound.max_abs_difference:.1e}")
        if bound.min_centred_cosine is not None and not cosine >= bound.min_centred_cosine:
            found.append(f"centred cosine {cosine:.5f}, needed {bound.min_centred_cosine:.5f}")
        return found


class Golden(_Frozen):
    """Golden inputs and vectors of an artifact: of the model that it was exported from, for all of its engines."""

    pictures: tuple[Base64, ...] = Field(min_length=1, description="whole PNG files")
    texts: tuple[str, ...] = Field(min_length=1)
    image: GoldenVectors
    text: GoldenVectors
    bounds: dict[str, GoldenBound] = Field(description="by the engine's name")

    def items(self, role: str) -> list[bytes]:
        """The inputs as a server takes them; `role` is "image" or "text"."""
        if role == "image":
            return [base64.b64decode(picture) for picture in self.pictures]
        return [text.encode("utf-8") for text in self.texts]

    def vectors(self, role: str) -> GoldenVectors:
        """What is expected of that encoder."""
        return self.image if role == "image" else self.text


def golden_pictures() -> list[bytes]:
    """Three small pictures as PNG, always the same: colours, transparency, and grey."""
    blocks = np.random.default_rng(20).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    colours = Image.fromarray(blocks).resize((96, 72), Image.Resampling.NEAREST)
    transparent = Image.new("RGBA", (60, 90), (0, 0, 0, 0))
    ImageDraw.Draw(transparent).ellipse((8, 20, 50, 70), fill=(200, 30, 60, 180))
    grey = Image.linear_gradient("L").resize((75, 50))
    return [_png(picture) for picture in (colours, transparent, grey)]


def golden(pictures: Sequence[bytes], image: GoldenVectors, text: GoldenVectors) -> Golden:
    """The golden vectors of `pictures` and `TEXTS`, without a bound for any engine yet."""
    packed = tuple(base64.b64encode(picture).decode("ascii") for picture in pictures)
    return Golden(pictures=packed, texts=TEXTS, image=image, text=text, bounds={})


def loosened(bound: GoldenBound, max_abs_difference: float, centred_cosine: float) -> GoldenBound:
    """`bound`, or twice an engine's own error at its export, where that is larger, but never too loose to tell
    models apart.

    The bound is the verdict's, which measures real pictures; the golden ones are drawn. Only for an engine that
    has passed it: the error of a broken one would excuse itself. NaN loosens nothing.
    """
    difference, cosine = bound.max_abs_difference, bound.min_centred_cosine
    if difference is not None:
        difference = max(difference, min(_LOOSER * max_abs_difference, FARTHEST_DIFFERENCE))
    if cosine is not None:
        cosine = min(cosine, max(1.0 - _LOOSER * (1.0 - centred_cosine), LEAST_CENTRED_COSINE))
    return GoldenBound(max_abs_difference=difference, min_centred_cosine=cosine)


def deviation(expected: Array, served: Array, centre: Array) -> tuple[float, float]:
    """The largest absolute difference of two `[n, D]`, and the least cosine with `centre` `[D]` taken off both.

    The cosine is NaN where a row lies on the centre.
    """
    one, other = expected.astype(np.float64), served.astype(np.float64)
    first, second = one - centre, other - centre
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosines = np.einsum("nd,nd->n", first, second) / norms
    return float(np.abs(one - other).max()), float(cosines.min())


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _pack(vector: Array) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")


def _unpack(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)
