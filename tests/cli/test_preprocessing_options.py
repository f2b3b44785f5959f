from __future__ import annotations

import pytest

from protoclip.cli.pairs import SourceOptions
from protoclip.cli.preprocessing import PreprocessingOptions
from protoclip.contract.errors import ConfigError


def test_one_number_stands_for_three() -> None:
    found = PreprocessingOptions(mean="0.5", std="0.2,0.3,0.4", interpolation="bilinear").config()
    assert (found.mean, found.std, found.interpolation) == ((0.5, 0.5, 0.5), (0.2, 0.3, 0.4), "bilinear")
    assert found.resize_mode is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": "0.5,0.5"}, r"--mean 0\.5,0\.5: must be a number, or three"),
        ({"mean": "half"}, "--mean half: must be a number, or three"),
        ({"std": "0"}, "--std 0: Input should be greater than 0"),
        ({"std": "nan"}, "--std nan: "),
    ],
)
def test_what_is_no_preprocessing_is_named(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PreprocessingOptions(**given).config()


def test_the_next_command_repeats_them() -> None:
    options = SourceOptions("ViT-B-32", "./w.pt", None, PreprocessingOptions(mean="0.5", resize_mode="squash"))
    assert str(options) == "ViT-B-32 --weights ./w.pt --mean 0.5 --resize-mode squash"
