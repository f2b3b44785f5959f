"""How a model's pictures are prepared, as options of every command that takes a model by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from protoclip.contract.errors import ConfigError

if TYPE_CHECKING:
    from protoclip.config.schema import PreprocessingConfig

_PANEL = "Preprocessing, where it is not to be the weights' own"
MeanOption = Annotated[
    str | None, typer.Option(help="Mean of the channels, such as 0.48,0.46,0.41 or 0.5.", rich_help_panel=_PANEL)
]
StdOption = Annotated[str | None, typer.Option(help="Their standard deviation.", rich_help_panel=_PANEL)]
InterpolationOption = Annotated[
    Literal["bicubic", "bilinear"] | None, typer.Option(help="Of resizing.", rich_help_panel=_PANEL)
]
ResizeModeOption = Annotated[
    Literal["shortest", "longest", "squash"] | None,
    typer.Option(help="The side fitted to the encoder's; squash: both.", rich_help_panel=_PANEL),
]


@dataclass(frozen=True)
class PreprocessingOptions:
    """What was given, as it was given."""

    mean: str | None = None
    std: str | None = None
    interpolation: str | None = None
    resize_mode: str | None = None

    def config(self) -> PreprocessingConfig:
        """The same, checked.

        Raises:
            ConfigError: `--mean` or `--std` is no number, nor three, or a std is not above 0.
        """
        from pydantic import ValidationError

        from protoclip.config.schema import PreprocessingConfig

        values: dict[str, Any] = {"interpolation": self.interpolation, "resize_mode": self.resize_mode}
        for name in ("mean", "std"):
            if (given := getattr(self, name)) is not None:
                values[name] = _channels(name, given)
        try:
            return PreprocessingConfig.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                f"--{first['loc'][0]} {getattr(self, str(first['loc'][0]))}: {first['msg']}"
            ) from None

    def words(self) -> list[str]:
        """The options that say it in a command."""
        names = ("mean", "std", "interpolation", "resize_mode")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


NO_PREPROCESSING = PreprocessingOptions()


def _channels(name: str, given: str) -> list[float]:
    try:
        values = [float(part) for part in given.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise ConfigError(f"--{name} {given}: must be a number, or three with commas, such as 0.48,0.46,0.41")
    return values * 3 if len(values) == 1 else values
