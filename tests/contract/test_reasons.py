"""Reasons as rows of bytes, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protoclip.contract.reasons import REASON_BYTES, pack_reasons, unpack_reasons


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)))
def test_short_reasons_survive(reasons: list[str]) -> None:
    rows = pack_reasons(reasons)
    assert (rows.shape, rows.dtype) == ((len(reasons), 256), np.uint8)
    assert unpack_reasons(rows) == tuple(reasons)


@given(st.text(min_size=1, max_size=400))
def test_a_reason_is_never_taken_for_none(reason: str) -> None:
    assert unpack_reasons(pack_reasons([reason, ""])) == (unpack_reasons(pack_reasons([reason]))[0], "")
    assert unpack_reasons(pack_reasons([reason])) != ("",)


@pytest.mark.parametrize("character", ["a", "é", "漢", "🙂"])
@pytest.mark.parametrize("offset", range(4))
def test_a_long_reason_is_cut_at_a_character_s_border(character: str, offset: int) -> None:
    reason = "x" * offset + character * 300
    (read,) = unpack_reasons(pack_reasons([reason]))
    assert reason.startswith(read)
    assert REASON_BYTES - len(character.encode()) < len(read.encode()) <= REASON_BYTES


def test_what_utf_8_has_no_bytes_for_is_replaced() -> None:
    assert unpack_reasons(pack_reasons(["a\0b", "c\ud800d"])) == ("a b", "c?d")


def test_a_damaged_row_is_a_bad_item() -> None:
    rows = np.zeros((2, REASON_BYTES), np.uint8)
    rows[1, 0] = 0xFF
    assert unpack_reasons(rows) == ("", "�")
