"""Counts the parameters of every architecture that open_clip can build without a network.

    python scripts/count_parameters.py

Writes protoclip/encoders/parameters.json, which `protoclip models` shows. Nothing is computed or allocated: the
modules are built on torch's meta device. About two minutes on two cores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from protoclip.encoders.registry import register_architectures, without_warnings
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

FILE = Path(__file__).parents[1] / "protoclip" / "encoders" / "parameters.json"


def main() -> None:
    register_architectures()
    counts: dict[str, int] = {}
    for name in open_clip.list_models():
        try:
            counts[name] = count(name)
        except Exception as error:  # noqa: BLE001 - text towers of the hub need its files
            print(f"{name} is left out: {' '.join(str(error).split())[:90]}", file=sys.stderr)
    FILE.write_text(json.dumps(counts, indent=0, sort_keys=True) + "\n")
    print(f"{len(counts)} of {len(open_clip.list_models())} written to {FILE}")


def count(name: str) -> int:
    with without_warnings(), torch.device("meta"):
        module = open_clip.create_model(name, device="meta", pretrained_text=False)
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
