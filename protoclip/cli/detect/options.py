"""The options of every command that takes pictures in place of an index, as one argument `pictures`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protoclip.cli.client.exported import (
    ExportOption,
    SamplesOption,
    ToExport,
    TokenizerOption,
    WeightsOption,
    to_export,
)
from protoclip.cli.client.server_options import Server
from protoclip.cli.option_groups import with_group
from protoclip.cli.pairs import DEFAULT_SAMPLES
from protoclip.cli.preprocessing import NO_PREPROCESSING
from protoclip.cli.reading import (
    DEFAULT_ENCODING,
    DEFAULT_MAX_LEFT_OUT,
    DelimiterOption,
    EncodingOption,
    ImageColumnOption,
    LayoutOption,
    MaxLeftOutOption,
    ReadingOptions,
    SplitOption,
)


@dataclass(frozen=True)
class PictureOptions:
    """How pictures are read, and which model is exported to embed them, where none is served.

    `name` and what follows are as `to_export` takes them.
    """

    reading: ReadingOptions
    name: str | None
    weights: str | None
    tokenizer: Path | None
    samples: int

    def to_export(self, server: Server) -> ToExport | None:
        """As `to_export` of `protoclip.cli.client.exported`, and its errors."""
        return to_export(self.name, self.weights, self.tokenizer, NO_PREPROCESSING, self.samples, server)


def takes_pictures(command: Callable[..., None]) -> Callable[..., None]:
    """Makes of a command's argument `pictures` all options of reading and exporting."""
    return with_group(command, "pictures", _options)


def _options(
    image_column: ImageColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    max_left_out: MaxLeftOutOption = DEFAULT_MAX_LEFT_OUT,
    export: ExportOption = None,
    weights: WeightsOption = None,
    tokenizer: TokenizerOption = None,
    samples: SamplesOption = DEFAULT_SAMPLES,
) -> PictureOptions:
    reading = ReadingOptions(image_column, None, split, encoding, delimiter, layout, max_left_out)
    return PictureOptions(reading, export, weights, tokenizer, samples)
