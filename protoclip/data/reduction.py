"""How much smaller a picture may be kept and decoded than it is, so that training sees the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

from protoclip.config.schema import AugmentationConfig
from protoclip.contract.pixels import PixelSpec

# Where the smallest crop, reduced by a factor, still has so many times the pixels of the model on either side, the
# embeddings of crops pass the gate of 8-bit engines by far: benchmarks/scaled_decode_2cores_202611.md.
MARGINS = {8: 2.0, 4: 2.0, 2: 1.75}


def no_reduction(width: int, height: int) -> int:
    """1: every picture as it is."""
    return 1


@dataclass(frozen=True)
class CropReduction:
    """The factor for a picture's size: a function of the settings alone, so that a cached picture is the read one.

    Attributes:
        height, width: of the model's input.
        area: the smallest crop's, as a part of the picture.
        narrowest, widest: width by height of the crop.
    """

    height: int
    width: int
    area: float
    narrowest: float
    widest: float

    @classmethod
    def of(cls, spec: PixelSpec, augmentation: AugmentationConfig) -> CropReduction:
        return cls(spec.height, spec.width, augmentation.crop_scale[0], *augmentation.crop_ratio)

    def __call__(self, width: int, height: int) -> int:
        """The largest of 8, 4, 2 that leaves the smallest crop its margin on both sides; 1 where none does."""
        area = width * height * self.area
        crop_width = min(math.sqrt(area * self.narrowest), width)
        crop_height = min(math.sqrt(area / self.widest), height)
        largest = min(crop_width / self.width, crop_height / self.height)
        return next((factor for factor, margin in MARGINS.items() if factor * margin <= largest), 1)
