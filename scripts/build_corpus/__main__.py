"""Command line: `python -m scripts.build_corpus`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track

from .concepts import Concept, read_concepts
from .drawings import coded_names, drawings_of
from .rendering import render
from .sources import EMOJI_DATASOURCE, EMOJIBASE, STYLES, SourceError, Style, opened
from .tables import style_table, write_table

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.build_corpus", description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache/corpus", help="where npm's tarballs lie")
    parser.add_argument("--out", type=Path, default=ROOT / "protoclip/demo/corpus", help="where to write")
    options = parser.parse_args()
    try:
        build(options.cache, options.out)
    except SourceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def build(cache: Path, out: Path) -> None:
    """Fetches what is missing in `cache` and writes one parquet file a style to `out`."""
    with opened(EMOJIBASE, cache) as emojibase, opened(EMOJI_DATASOURCE, cache) as datasource:
        concepts = read_concepts(emojibase, datasource)
    print(f"{len(concepts)} concepts", file=sys.stderr)
    for style in STYLES:
        pictures = dict(_pictures(style, cache, concepts))
        path = out / f"{style.name}.parquet"
        write_table(style_table(style, pictures, concepts), path)
        print(f"{path}: {len(pictures)} pictures, {path.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


def _pictures(style: Style, cache: Path, concepts: list[Concept]) -> Iterator[tuple[str, bytes]]:
    if style.published_in is not None:
        with opened(style.published_in, cache) as archive:
            published = coded_names(archive, concepts)
        concepts = [concept for concept in concepts if concept.code in published]
    with opened(style.package, cache) as archive:
        drawings = drawings_of(style.name, archive, concepts)
    for code, drawing in track(drawings.items(), style.name, transient=True, console=Console(stderr=True)):
        yield code, render(drawing)


if __name__ == "__main__":
    raise SystemExit(main())
