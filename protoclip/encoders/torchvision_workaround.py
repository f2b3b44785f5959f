"""Makes torchvision importable beside a CPU build of torch.

The public torchvision wheel is linked against CUDA. Beside a CPU torch its C++ library can't be loaded,
the operators that library would define are missing, and `import torchvision` ends in
"operator torchvision::nms does not exist". We use none of these operators: it is enough that their
schemas exist. Must run before torchvision, timm or open_clip is imported.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def make_torchvision_importable() -> Any:
    """Defines torchvision's operator schemas where its own library can't; a no-op where it can.

    Returns:
        The `torch.library.Library` that holds the schemas, kept alive by the cache, or None.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return None
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        fragment.define(name + _SCHEMA)
    return fragment
