"""Trains as a configuration says: python train_shapes.py CONFIG ARCHITECTURE RUN [THREADS]

A run that is there goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from protoclip.contract.errors import ProtoclipError
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

make_torchvision_importable()

import open_clip  # noqa: E402  after the cure

from protoclip.config.load import load_config  # noqa: E402
from protoclip.training.train import train  # noqa: E402


def main(find_folder: Callable[[Path], Path] = Path) -> None:
    set_num_threads(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    config, architecture, run = map(Path, sys.argv[1:4])
    open_clip.add_model_config(architecture)
    try:
        train(load_config(config), find_folder(run), quiet=True, resume=(run / "config.json").exists())
    except ProtoclipError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def set_num_threads(count: int) -> None:
    """Of torch and of faiss, which has a library for them of its own."""
    import faiss

    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)


if __name__ == "__main__":
    main()
