"""What the options of `load-test` say to send, as bytes in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from protoclip.cli.app import console
from protoclip.cli.client.inputs import Inputs as Named
from protoclip.cli.client.inputs import text_inputs
from protoclip.cli.client.pictures import picture_inputs
from protoclip.cli.client.standard_input import StandardInput
from protoclip.cli.reading import DEFAULT_ENCODING, ReadingOptions
from protoclip.client.errors import BadItem
from protoclip.client.inputs import image_bytes, text_bytes
from protoclip.contract.errors import ConfigError, DataError
from protoclip.load_test.inputs import Inputs, made_up_images, made_up_texts

MAX_INPUTS = 1000
MAX_BYTES = 256 * 2**20


def share_of_images(mix: str) -> float:
    """0.7 of `images=0.7` or `texts=0.3`.

    Raises:
        ConfigError: neither, or not from 0 to 1.
    """
    name, _, value = mix.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if name not in ("images", "texts") or not 0 <= share <= 1:
        raise ConfigError(
            f"--mix {mix} is no share of pictures: write images= and a number from 0 to 1: images=0.7"
        )
    return share if name == "images" else 1 - share


def load_inputs(images: Iterable[str] | None, texts: str | None) -> Inputs:
    """Pictures and texts as named, or made-up ones: at most 1,000 and 256 MiB of each. What is left out is told.

    Raises:
        ConfigError, DataError: nothing of what is named can be sent; as `picture_inputs` and `text_inputs`.
    """
    stdin = StandardInput()
    image_items, text_items = made_up_images(), made_up_texts()
    images_from, texts_from = f"{len(image_items)} made up", f"{len(text_items)} made up"
    if images:
        reading = ReadingOptions(None, None, None, DEFAULT_ENCODING, None, None, math.inf)
        image_items = _in_memory(picture_inputs(images, reading, stdin), image_bytes, "--images", "pictures")
        images_from = f"{len(image_items)} of {', '.join(images)}"
    if texts is not None:
        text_items = _in_memory(text_inputs([], texts, stdin), text_bytes, "--texts", "texts")
        texts_from = f"{len(text_items)} of {texts}"
    return Inputs(image_items, text_items, images_from, texts_from)


def _in_memory(named: Named, prepare: Callable[[object], bytes], option: str, items: str) -> tuple[bytes, ...]:
    """The first ones that can be sent."""
    found: list[bytes] = []
    reasons = [f"{skipped.name}: {skipped.reason.removeprefix(f'{skipped.name}: ')}" for skipped in named.failed]
    num_bytes, num_read = 0, 0
    for name, item in zip(named.names, named.opened(0, len(named.items)), strict=True):
        num_read += 1
        try:
            found.append(prepare(item))
        except BadItem as error:
            reasons.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")
            continue
        num_bytes += len(found[-1])
        if len(found) == MAX_INPUTS or num_bytes >= MAX_BYTES:
            break
    if not found:
        raise DataError(f"{option}: nothing that can be sent: {reasons[0] if reasons else 'nothing is there'}")
    if reasons:
        console.print(f"[bold yellow]warning:[/] {len(reasons)} left out, such as", end=" ")
        console.print(reasons[0], markup=False, highlight=False)
    if num_read < len(named.items):
        console.print(f"{option}: sends the first {len(found)} of {len(named.items)} {items}", highlight=False)
    return tuple(found)
