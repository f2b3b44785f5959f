"""A transformers folder's tokenizer: open_clip's own, or files that go along with the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError
from protoclip.encoders.tokenizer_lookup import tokenizer_for

from .json_files import read_json, write_json

FILES = ("tokenizer.json", "tokenizer_config.json")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
# Only to see whether the words are open_clip's: letters, digits, signs, several scripts, no upper case.
_PROBES = ("a photo of a cat, isn't it?", "1234 !? ... #tag", "l'été à la plage", "漢字 и кириллица", "zyzzyva")


def is_open_clips(folder: Path, vocab_size: int) -> bool:
    """Whether the folder's words and merges are those of open_clip's SimpleTokenizer, whatever its cleaning.

    Raises:
        ModelError: there is no tokenizer.json, or it can't be read.
    """
    from tokenizers import Tokenizer

    theirs = _read(folder)
    ours: Any = Tokenizer.from_str(tokenizer_for("ViT-B-32")[0])
    if theirs.get_vocab_size(with_added_tokens=True) != ours.get_vocab_size(with_added_tokens=True) or (
        vocab_size != ours.get_vocab_size(with_added_tokens=True)
    ):
        return False
    for fast in (ours, theirs):
        fast.no_padding()
        fast.no_truncation()
    # The names of the special tokens are others ("<|startoftext|>"), their numbers are not.
    return all(ours.encode(probe).ids == theirs.encode(probe).ids for probe in _PROBES)


def copy_tokenizer(folder: Path, target: Path, context_length: int) -> None:
    """Writes what open_clip's HFTokenizer and `--tokenizer` read to `target`.

    Raises:
        ModelError: a file is missing or can't be read, or nothing names the padding.
    """
    _read(folder)
    theirs = read_json(folder / FILES[1])
    names = {name: _name(theirs[name]) for name in _SPECIAL if theirs.get(name)}
    if "pad_token" not in names:
        raise ModelError(f"{folder / FILES[1]}: names no pad_token")
    shutil.copy(folder / FILES[0], target / FILES[0])
    # The class that takes tokenizer.json as it is.
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context_length}
    write_json(target / FILES[1], settings | {"clean_up_tokenization_spaces": False} | names)


def _name(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _read(folder: Path) -> Any:
    from tokenizers import Tokenizer

    path = folder / FILES[0]
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {FILES[0]} here: transformers writes it by "
            f"AutoTokenizer.from_pretrained(…).save_pretrained({str(folder)!r})"
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ModelError(f"{path}: not a tokenizer.json: {' '.join(str(error).split())[:200]}") from error
