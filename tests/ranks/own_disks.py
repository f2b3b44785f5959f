"""As train_shapes.py, and only the first rank sees the run folder."""

from __future__ import annotations

import os
from pathlib import Path

import train_shapes


def own_folder(run: Path) -> Path:
    return run if os.environ["RANK"] == "0" else run.with_name("on_another_host")


if __name__ == "__main__":
    train_shapes.main(own_folder)
