"""Embedded colour profiles (ICC): from a picture's own colours to sRGB, by Pillow's LittleCMS.

This file needs NumPy and Pillow: the Triton preprocessing model carries a copy of it, beside `pixels.py`.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageCms, features

Channels: TypeAlias = Literal["L", "RGB", "CMYK"]

# A profile that moves no colour further than this, of 255, is sRGB: programs write its curve with other
# roundings, and such pictures stay as they are.
_SRGB_TOLERANCE = 2
_SPACES: dict[str, Channels] = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
_DEVICES = ("mntr", "scnr", "prtr", "spac")


class ProfileError(ValueError):
    """A profile can't be used for the picture; continues "the picture's colour profile"."""


@lru_cache(maxsize=32)
def conversion(profile: bytes, channels: Channels) -> tuple[Channels, ImageCms.ImageCmsTransform] | None:
    """How pixels of `channels` become sRGB: the channels to give to the transform, and the transform to RGB.

    None where the profile is sRGB, so that nothing is to do. A grey picture may have the profile of a colour
    one: it is given to it as RGB. Perceptual intent, as in browsers and in `ImageCms.profileToProfile`, and black
    stays black, as in browsers too.

    Raises:
        ProfileError: damaged, for other pixels than these, no profile of a device, or there is no LittleCMS.
    """
    if not features.check("littlecms2"):
        raise ProfileError(
            "can't be applied, since this Pillow was built without LittleCMS: install Pillow's own wheel"
        )
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space, device = source.profile.xcolor_space.strip(), source.profile.device_class.strip()
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError) as error:
        raise ProfileError(f"is damaged ({_one_line(error)})") from error
    taken = _SPACES.get(space)
    if taken is None or device not in _DEVICES or (taken != channels and (channels, taken) != ("L", "RGB")):
        raise ProfileError(
            f"is for {space or 'unknown'} colours ({device or 'unknown'}), and its pixels are {channels}"
        )
    try:
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, srgb, taken, "RGB", renderingIntent=_intent(source, device))
        return None if _changes_nothing(transform, taken) else (taken, transform)
    except (OSError, ValueError, ImageCms.PyCMSError) as error:
        raise ProfileError(f"is damaged ({_one_line(error)})") from error


def _intent(source: ImageCms.ImageCmsProfile, device: str) -> ImageCms.Intent:
    """By the perceptual intent LittleCMS takes the black of a version 4 table for that of the standard's paper.

    Of a screen, as in XYB JPEGs, it is not: 10 of 255 would become 3. Its only table is the other intent's too.
    """
    perceptual, relative = ImageCms.Intent.PERCEPTUAL, ImageCms.Intent.RELATIVE_COLORIMETRIC
    tables = {intent for intent, (is_from, _, _) in (source.profile.clut or {}).items() if is_from}
    is_screens = device == "mntr" and source.profile.version >= 4
    return relative if is_screens and perceptual in tables and relative not in tables else perceptual


def _changes_nothing(transform: ImageCms.ImageCmsTransform, channels: Channels) -> bool:
    if channels == "CMYK":
        return False
    colors = _probe() if channels == "RGB" else Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
    plain, managed = (np.asarray(image, dtype=int) for image in (colors.convert("RGB"), transform.apply(colors)))
    return bool(np.abs(managed - plain).max() <= _SRGB_TOLERANCE)


def _probe() -> Image.Image:
    """Colours over the whole cube, 18 steps along each side."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(len(steps), -1, 3))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
