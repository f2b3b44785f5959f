"""Folders of shards as clip_benchmark's exporter writes them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from protoclip.sources import Pairs


def write_shards(folder: Path, pairs: Pairs, beside: Sequence[tuple[str, str]], per_shard: int = 4) -> None:
    """`beside`: for each row the extension and the text of the file beside its picture."""
    (folder / "test").mkdir(parents=True)
    starts = range(0, len(pairs), per_shard)
    for shard, start in enumerate(starts):
        with tarfile.open(folder / "test" / f"{shard}.tar", "w") as tar:
            for row in range(start, min(start + per_shard, len(pairs))):
                extension, text = beside[row]
                for name, content in (("png", pairs.read_image(row)), (extension, text.encode())):
                    member = tarfile.TarInfo(f"s{row:07d}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    (folder / "test" / "nshards.txt").write_text(f"{len(starts)}\n")
