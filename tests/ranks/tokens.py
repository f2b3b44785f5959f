"""Tokens of more texts than fit in memory: WORLD_SIZE=2 RANK=0 … python tokens.py FOLDER OUT

FOLDER is the cache; each rank writes to OUT what it got and whether it made them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from protoclip.data import token_cache
from protoclip.data.token_table import TokenTable
from protoclip.distributed import collectives
from protoclip.encoders.trainable import Tokenizer, tokenizer_for


def main() -> None:
    folder, out = map(Path, sys.argv[1:3])
    token_cache.MAX_IN_MEMORY = 3
    texts = tuple((f"pair {number}", "the same") for number in range(20))
    made: list[int] = []

    def progress(items: Iterable[Any], total: int) -> Iterable[Any]:
        made.append(total)
        return items

    with collectives.ranks():
        tokenizer = Tokenizer(*tokenizer_for("ViT-B-32"))
        found = token_cache.load_tokens(texts, tokenizer, folder, progress)
        tokens = found.chosen(np.arange(20), np.zeros(20)).tolist()
        facts = {"made": len(made), "mapped": isinstance(found, TokenTable), "tokens": tokens}
        (out / f"{collectives.rank()}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
