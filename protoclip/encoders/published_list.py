"""Which published weights there are, and what is known of them without asking anybody, or from the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path

from protoclip.contract.errors import ModelError
from protoclip.contract.progress import Progress, silent

from .hub import CARD_FILE, RepositoryFacts, cached_file, licence_in, repository_facts
from .published import Published, published, published_tags, uses_quick_gelu, with_quick_gelu
from .registry import model_config, register_architectures
from .torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first


@dataclass(frozen=True)
class ListedWeights:
    """One set of published weights, or an architecture for which there are none.

    Attributes:
        tag: None: nothing is published, and the weights are random.
        parameters: of the architecture; None where its text tower is of the hub, whose size is not known here.
        num_bytes: of the weights' file; None: not known.
        licence: as the model's card says it; None: not known.
        path: of the weights in the cache; None: not downloaded yet.
    """

    name: str
    tag: str | None
    repository: str | None
    parameters: int | None
    num_bytes: int | None = None
    licence: str | None = None
    path: Path | None = None


def list_published(pattern: str | None = None) -> list[ListedWeights]:
    """All that open_clip knows, in its order, and ProtoCLIP's own architectures; asks nobody.

    Weights that were trained with QuickGELU are listed under the name that computes it, and there alone.

    Args:
        pattern: part of a name or of a tag, or one of the whole with `*` and `?`; in any case of letters.
    """
    found = [weights for name in _names() for weights in _of_model(name)]
    return [weights for weights in found if pattern is None or _matches(weights, pattern.lower())]


def ask_hub(listed: Sequence[ListedWeights], progress: Progress = silent) -> list[ListedWeights]:
    """The same with what the hub says of licence and size.

    Raises:
        ModelError: the hub can't be reached. A repository that it does not show is left as it is.
    """
    facts: dict[str, RepositoryFacts | None] = {}
    wanted = sorted({weights.repository for weights in listed if weights.repository is not None})
    for number, repository in enumerate(wanted):
        progress("asking the hub", number, len(wanted))
        facts[repository] = repository_facts(repository)
    return [_with_facts(weights, facts.get(weights.repository or "")) for weights in listed]


def _names() -> Iterable[str]:
    register_architectures()
    names: list[str] = open_clip.list_models()
    return names


def _of_model(name: str) -> list[ListedWeights]:
    tags = published_tags(name)
    if not tags:
        return [ListedWeights(name, None, None, parameters_of(name))]
    found = [published(name, tag) for tag in tags]
    computes = uses_quick_gelu(model_config(name))
    return [_listed(one) for one in found if computes or not one.quick_gelu or with_quick_gelu(name) is None]


def _listed(found: Published) -> ListedWeights:
    path = None if found.repository is None else found.cached()
    return ListedWeights(
        name=found.name,
        tag=found.tag,
        repository=found.repository,
        parameters=parameters_of(found.name),
        num_bytes=None if path is None else path.stat().st_size,
        licence=None if found.repository is None else _cached_licence(found.repository),
        path=path,
    )


def _cached_licence(repository: str) -> str | None:
    card = cached_file(repository, CARD_FILE)
    if card is None:
        return None
    with suppress(OSError, UnicodeDecodeError):
        return licence_in(card.read_text(encoding="utf-8"))
    return None


def _with_facts(weights: ListedWeights, facts: RepositoryFacts | None) -> ListedWeights:
    if facts is None or weights.tag is None:
        return weights
    sizes = [facts.sizes[name] for name in published(weights.name, weights.tag).files if name in facts.sizes]
    num_bytes = weights.num_bytes or next(iter(sizes), None)
    return replace(weights, licence=facts.licence or weights.licence, num_bytes=num_bytes)


def _matches(weights: ListedWeights, pattern: str) -> bool:
    words = [word.lower() for word in (weights.name, weights.tag) if word is not None]
    if set(pattern) & set("*?"):
        return any(fnmatchcase(word, pattern) for word in words)
    return any(pattern in word for word in words)


@cache
def _parameters() -> dict[str, int]:
    text = (files("protoclip.encoders") / "parameters.json").read_text(encoding="utf-8")
    counts: dict[str, int] = json.loads(text)
    return counts


def parameters_of(name: str) -> int | None:
    """The number of parameters of an architecture, as `scripts/count_parameters.py` counted them."""
    return _parameters().get(name)


def require_any(listed: Sequence[ListedWeights], pattern: str | None) -> None:
    """Raises ModelError where a pattern matches nothing."""
    if not listed:
        raise ModelError(
            f"{pattern!r} is in the name of no model and in no tag: `protoclip models` lists all of them"
        )
