"""Files of the Hugging Face hub: downloaded once, checked, and read from its cache from then on.

The cache is the hub client's own, which open_clip and transformers use as well. Only what the user names is
downloaded.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError
from protoclip.contract.files import sha256_file
from protoclip.distributed import collectives

logger = logging.getLogger(__name__)

# The first is the tokenizer; the others say what surrounds and pads a text.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)
CARD_FILE = "README.md"
_LICENCE = re.compile(r"^(license(?:_name)?):[ ]*['\"]?([^'\"\n]+?)['\"]?[ ]*$", re.MULTILINE)
_LICENCE_TAG = "license:"
_TIMEOUT_S = 10.0
# Of the machine, where another network would not help.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
_SHA256, _GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def hub_file(repository: str, names: Sequence[str]) -> Path:
    """The first of the files that the repository `org/name` has, from the cache or else downloaded.

    A file that is in the cache is taken as it is there, without a request, whatever the hub has meanwhile.

    Raises:
        ModelError: there is no such repository, it has none of the files, it asks for a login, the hub can't be
            reached, or a file is not what the hub says it is.
    """
    for name in names:
        if (found := cached_file(repository, name)) is not None:
            return _checked(found)
    for name in names:
        if (found := _download(repository, name)) is not None:
            return _checked(found)
    raise ModelError(f"{hub_address(repository)}: has no {' or '.join(names)}: is it an open_clip model?")


def hub_weights(repository: str, names: Sequence[str]) -> Path:
    """As `hub_file`, and the model's card along with what is downloaded, from which its licence is known."""
    is_new = all(cached_file(repository, name) is None for name in names)
    if is_new and collectives.is_first():
        # The client's bar is for terminals alone.
        logger.warning("downloading the weights of %s, this once", hub_address(repository))
    found = hub_file(repository, names)
    if is_new:
        with suppress(ModelError):  # the weights are there, and the licence is not needed to go on
            _download(repository, CARD_FILE)
    return found


def cached_file(repository: str, name: str) -> Path | None:
    """The repository's file in the cache, None where it is not there; asks nobody."""
    found = _in_cache(repository, name)
    return Path(found) if isinstance(found, str) else None


def _in_cache(repository: str, name: str) -> Any:
    """As the client answers: a path, that the hub has no such file, or None, not known."""
    from huggingface_hub import try_to_load_from_cache

    try:
        return try_to_load_from_cache(repository, name, cache_dir=_cache_folder())
    except ValueError as error:
        raise _bad_name(repository) from error


def tokenizer_folder(repository: str, *, fetch: bool) -> Path | None:
    """The folder in the cache with the repository's tokenizer; None where it has no tokenizer.json, or not yet.

    Args:
        fetch: download what is not in the cache.

    Raises:
        ModelError: as `hub_file`.
    """
    from huggingface_hub import _CACHED_NO_EXIST

    first, *others = TOKENIZER_FILES
    found = cached_file(repository, first)
    if found is None and fetch and _in_cache(repository, first) is not _CACHED_NO_EXIST:
        # The one that is looked for comes last: after an interruption the others are not taken to be there.
        for name in others:
            _download(repository, name)
        found = _download(repository, first)
    return None if found is None else _checked(found).parent


@dataclass(frozen=True)
class RepositoryFacts:
    """What the hub says of a repository: its licence (None: nothing), and the bytes of its files."""

    licence: str | None
    sizes: Mapping[str, int]


def repository_facts(repository: str) -> RepositoryFacts | None:
    """What the hub says of the repository; None where it shows none of that name.

    Raises:
        ModelError: the hub can't be reached.
    """
    from huggingface_hub import HfApi, errors

    where = hub_address(repository)
    _require_network(where, "its licence")
    try:
        found = HfApi(endpoint=hub_endpoint()).model_info(repository, files_metadata=True, timeout=_TIMEOUT_S)
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        return None
    except Exception as error:  # the client's, and those of its transports
        raise _unreachable(where, "its licence", error) from error
    sizes = {file.rfilename: file.size for file in found.siblings or () if file.size is not None}
    licences = [tag.removeprefix(_LICENCE_TAG) for tag in found.tags or () if tag.startswith(_LICENCE_TAG)]
    return RepositoryFacts(
        _named(next(iter(licences), None), getattr(found.card_data, "license_name", None)), sizes
    )


def licence_in(card: str) -> str | None:
    """The licence that a model's card names between its first two lines of `---`; None where it names none."""
    head = card.removeprefix("---").partition("\n---")[0] if card.startswith("---") else ""
    found = dict(_LICENCE.findall(head))
    return _named(found.get("license"), found.get("license_name"))


def _named(licence: str | None, name: str | None) -> str | None:
    return name or licence if licence == "other" else licence


def hub_address(repository: str) -> str:
    """Where people find the repository."""
    return f"{hub_endpoint()}/{repository}"


def hub_endpoint() -> str:
    """The hub's address: the public one, or that of the variable HF_ENDPOINT, a mirror say."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _cache_folder() -> str | None:
    """What the environment says now; the hub's client reads it when it is imported."""
    home = os.environ.get("HF_HOME")
    return os.environ.get("HF_HUB_CACHE") or (str(Path(home).expanduser() / "hub") if home else None)


def _download(repository: str, name: str) -> Path | None:
    """None where the repository has no such file."""
    from huggingface_hub import errors, hf_hub_download

    where = hub_address(repository)
    _require_network(where, name)
    try:
        return Path(hf_hub_download(repository, name, cache_dir=_cache_folder(), endpoint=hub_endpoint()))
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(where, name, error.__cause__ or error) from error
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{where}: asks for its terms to be accepted: do so there, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{where}: no such repository, or one that needs a login: check its name, or `hf auth login`"
        ) from error
    except errors.HFValidationError as error:
        raise _bad_name(repository) from error
    except Exception as error:  # the client's, those of its transports, and the disk's
        raise _unreachable(where, name, error) from error


def _require_network(where: str, name: str) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelError(f"{where}: {name} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it: unset it")


def _unreachable(where: str, name: str, error: BaseException) -> ModelError:
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return ModelError(
            f"{where}: {name} can't be written to the hub's cache ({error.strerror}): make room for it there, "
            "or set HF_HOME to a folder that takes it"
        )
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return ModelError(
        f"{where}: {name} can't be downloaded ({reason}): try again with a network, set HF_ENDPOINT to a mirror, "
        "or name a local file"
    )


def _bad_name(repository: str) -> ModelError:
    return ModelError(f"{repository!r} is no repository of the hub: write it as org/name")


def _checked(path: Path) -> Path:
    """In the client's cache a file is a link to one whose name is its hash; elsewhere no hash is known."""
    blob = path.resolve()
    if blob.name == path.name:
        return path
    status = blob.stat()
    if not _is_what_it_says(blob, status.st_size, status.st_mtime_ns):
        raise ModelError(f"{path}: is damaged: its hash is not the hub's: remove {blob}, and it is fetched again")
    return path


@cache
def _is_what_it_says(blob: Path, size: int, mtime_ns: int) -> bool:
    if _SHA256.fullmatch(blob.name):
        return sha256_file(blob) == blob.name
    if _GIT_SHA1.fullmatch(blob.name):  # small files, which git keeps itself
        content = b"blob %d\0" % size + blob.read_bytes()
        return hashlib.sha1(content, usedforsecurity=False).hexdigest() == blob.name
    return True
