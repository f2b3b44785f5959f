"""How weights are named: published ones by a word or by a repository of the hub, others by their path."""

from __future__ import annotations

import re

HUB = "hf-hub:"
_WORD = re.compile(r"[A-Za-z0-9_-]+")


def is_published(weights: str) -> bool:
    """Whether `weights` names published ones, `laion2b_s34b_b79k` or `hf-hub:org/name`, and not a path.

    A path has a `.`, `/` or `\\` in it, so that what lies in the working folder says nothing about it: a file
    `openai` is named `./openai`.
    """
    return weights.startswith(HUB) or _WORD.fullmatch(weights) is not None
