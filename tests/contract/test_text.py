"""Texts to ids, against open_clip's own tokenizer."""

from __future__ import annotations

import html
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ftfy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protoclip.contract.text import MAX_CHARACTERS, TextError, TextSpec, Tokenizer, check_text, clean
from protoclip.encoders.tokenizer_conversion import text_spec, tokenizer_json
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

CLEANERS = ["lower", "whitespace", "canonicalize"]

TORTURE = [
    "",
    " ",
    "a photo of a cat",
    "A PHOTO\tof  a\r\nCat  ",
    "🙂",
    "👩‍👩‍👧‍👦 👍🏽 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪🇫🇷 ❤️‍🔥 ☕️",
    "漢字かな交じり文　カタカナ ｶﾀｶﾅ ＡＢＣ１２３",
    "한국어 텍스트",
    "مرحبا بالعالم ١٢٣",
    "สวัสดีชาวโลก",
    "नमस्ते दुनिया १२३",
    "𱍐 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀 🯰🯱",
    "x𱍐y",
    "&amp; &lt;b&gt; &quot;q&quot; &#39; &#x1F600; &nbsp; &notanentity;",
    "&amp;lt;b&amp;gt; &amp;amp;amp; &amp;#65;",
    "&EACUTE; &eacute; &copy &#1; &#0; &#xFDD0; &#xD800; &#128;",
    "<p>Tom &amp; Jerry</p>",
    "<b> &amp;amp; &amp;lt;i&amp;gt; &amp;amp;eacute;",
    "ΟΔΥΣΣΕΥΣ Σ ΣΑΣ ΑΣ. Σ'Σ",
    "İstanbul ISPARTA ıI i̇",
    "schÃ¶n â€œquotedâ€\x9d â€™ Ã©tÃ© voilÃ  le travail",
    "ï»¿bom ÐŸÑ€Ð¸Ð²ÐµÑ‚ rÃƒÂ©sumÃƒÂ©",
    "ﬁne ﬂat eﬃcient ﬆop ŉ ĳ",
    "“curly” ‘quotes’ „low“ «guillemets» ‹x› it’s",
    "3.14159 1,000,000 ½ ² Ⅷ ①② 2nd 1st 10³",
    "it's we'll they've I'm he'd you're don't IT'S WE'LL O'Neil 'tis rock'n'roll ''s 's",
    "'\u017f x'\u017fy 'ſt",
    "\x01\x02\x1b[31mred\x1b[0m\x7f a\x0bb\x0cc\x1cd\x85e",
    "non\xa0breaking\u2003em\u2009thin\u3000wide\u202fnarrow\u2028line\u2029paragraph\u180emongol",
    "zero\u200bwidth\u200djoin\ufeffbom\u00adsoft\u2060",
    "a\u0345b \u0345 \u1fb3 \u03b1\u0345",
    "e\u0301 \u00e9 a\u0323\u0302 Z̷̢̛a̸l̶g̷o̴",
    "\ud83d\ude00 half \ud83d pair",
    "\ufffd \ufffe \U0010ffff \ue000",
    "!!! ??? ... --- ___ @#$%^&*() [x] {y} ~`|\\/",
    "snake_case_name camelCase kebab-case http://example.com/a?b=c&d=e#f",
    "ÄÖÜß ẞ ŒŸ Ǆ ǅ ǆ",
    "<start_of_text> a cat <end_of_text>",
    "<start_of_text><end_of_text><START_OF_TEXT>",
    "(<start_of_text>) ?<end_of_text><end_of_text> x<end_of_text>y 's<end_of_text>",
    "<Start_Of_Text> <\u017ftart_of_text> <start_of_text <|endoftext|> </w>",
    "a " * 74 + "b",
    "a " * 75 + "b",
    "a " * 76 + "b",
    "word " * 2000,
    "antidisestablishmentarianism" * 300,
    "1" * 10_000,
    "!" * 10_000,
    "漢" * 10_000,
    "🙂" * 10_000,
]


@pytest.fixture(scope="module")
def open_clip() -> Any:
    make_torchvision_importable()
    import open_clip

    return open_clip


@pytest.fixture(scope="module")
def both(open_clip: Any) -> dict[str, tuple[Any, Tokenizer]]:
    """For each cleaner open_clip's tokenizer and ours, made from it."""
    pairs = {}
    for cleaner in CLEANERS:
        theirs = open_clip.get_tokenizer("ViT-B-32", clean=cleaner)
        pairs[cleaner] = (theirs, Tokenizer(tokenizer_json(theirs), text_spec(theirs)))
    return pairs


def assert_same_ids(pair: tuple[Any, Tokenizer], texts: list[str]) -> None:
    theirs, ours = pair
    expected, ids = np.asarray(theirs(texts)), ours.encode(texts)
    assert ids.dtype == np.int32
    for text, row, expected_row in zip(texts, ids, expected, strict=True):
        np.testing.assert_array_equal(row, expected_row, err_msg=ascii(text[:200]))


@pytest.mark.parametrize("cleaner", CLEANERS)
def test_ids_of_the_torture_set(both: dict[str, Any], cleaner: str) -> None:
    assert_same_ids(both[cleaner], TORTURE)


@pytest.mark.parametrize("cleaner", CLEANERS)
def test_cleaning_of_the_torture_set(open_clip: Any, cleaner: Any) -> None:
    for text in TORTURE:
        assert clean(text, cleaner) == open_clip.tokenizer.get_clean_fn(cleaner)(text)
        assert clean(text, "none") == text


PIECES = st.sampled_from(
    [
        "<start_of_text>",
        "<end_of_text>",
        "<START_of_text>",
        "&amp;",
        "&#233;",
        "&lt",
        "Ã©",
        "â€™",
        "'s",
        "'LL",
        " ",
        "(",
        "Σ",
    ]
)


@pytest.mark.parametrize("cleaner", CLEANERS)
@settings(max_examples=150, deadline=None)
@given(text=st.lists(st.one_of(st.text(max_size=8), PIECES), max_size=12).map("".join))
def test_ids_of_random_texts(both: dict[str, Any], cleaner: str, text: str) -> None:
    assert_same_ids(both[cleaner], [text])


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(categories=["L", "N", "M", "Lm", "Nl", "No", "So"]), max_size=40))
def test_ids_of_random_words(both: dict[str, Any], text: str) -> None:
    assert_same_ids(both["lower"], [text])


def test_characters_fall_into_the_same_words(both: dict[str, Any]) -> None:
    # between a letter, a digit and a mark: each class of characters joins another neighbour
    theirs, ours = both["whitespace"]
    codes = [*range(0x3100), *range(0x3100, 0xD800, 37), *range(0xE000, 0x110000, 37)]
    text = " ".join(f"a{chr(code)}1{chr(code)}," for code in codes)
    words = ours._tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[first:last] for _, (first, last) in words] == theirs.pat.findall(text)


@pytest.mark.parametrize("length", [73, 74, 75, 76, 77, 78, 200])
def test_end_of_text_survives_truncation(both: dict[str, Any], length: int) -> None:
    theirs, ours = both["lower"]
    row = ours.encode(["a " * length])[0]
    kept = min(length, 75)
    assert row.tolist() == [theirs.sot_token_id] + [320] * kept + [theirs.eot_token_id] + [0] * (75 - kept)


def test_shapes(both: dict[str, Any]) -> None:
    ours = both["lower"][1]
    assert ours.encode([]).shape == (0, 77)
    assert ours.encode([""])[0].tolist() == [49406, 49407] + [0] * 75


def test_a_million_characters(both: dict[str, Any]) -> None:
    assert_same_ids(both["lower"], ["hello world " * 90_000])
    theirs, ours = both["lower"]
    np.testing.assert_array_equal(ours.encode(["\n" * 1_000_000 + "Über"]), np.asarray(theirs(["Über"])))


def test_reading_stops_behind_the_limit(both: dict[str, Any]) -> None:
    ours = both["lower"][1]
    blanks = " " * (MAX_CHARACTERS - 2)
    assert ours.encode([f"a{blanks}b"])[0, 1:4].tolist() == [320, 321, 49407]
    assert ours.encode([f"a{blanks} b"])[0, 1:4].tolist() == [320, 49407, 0]
    assert ours.encode([f"   a{blanks}b"])[0, 1:4].tolist() == [320, 321, 49407]


def test_threads_agree(both: dict[str, Any]) -> None:
    ours = both["lower"][1]
    expected = ours.encode(TORTURE[:30])
    with ThreadPoolExecutor(8) as pool:
        for ids in pool.map(ours.encode, [TORTURE[:30]] * 16):
            np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("text", ["a", " a ", "🙂", "<end_of_text>", "x" * 1_000_000, "漢", "\u200b"])
def test_check_text_returns_the_text_as_it_is(text: str) -> None:
    assert check_text(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "not NoneType"),
        (b"bytes", "not bytes"),
        (["a"], "not list"),
        (3.5, "not float"),
        ("", "blank"),
        (" \t\n\u3000\xa0", "blank"),
        ("a\0b", "NUL character at position 1"),
        ("ab\ud800", "surrogate pair at position 2"),
        ("\udc00 ab", "surrogate pair at position 0"),
    ],
)
def test_check_text_refuses(text: object, reason: str) -> None:
    with pytest.raises(TextError, match=reason) as caught:
        check_text(text)
    assert "\n" not in str(caught.value)


def test_numbers_that_python_will_not_read(both: dict[str, Any]) -> None:
    with pytest.raises(TextError, match="HTML entities") as caught:
        both["lower"][1].encode(["a cat", "&#" + "9" * 5000 + ";"])
    assert "\n" not in str(caught.value)


def test_half_a_pair_without_cleaning(both: dict[str, Any]) -> None:
    theirs = both["lower"][0]
    ours = Tokenizer(tokenizer_json(theirs), TextSpec(77, "none"))
    with pytest.raises(TextError, match="can't be tokenized") as caught:
        ours.encode(["a\ud800"])
    assert "\n" not in str(caught.value)


def test_json_that_does_not_fit(both: dict[str, Any]) -> None:
    text = tokenizer_json(both["lower"][0])
    with pytest.raises(ValueError, match=r"can't be read"):
        Tokenizer("{}", TextSpec(77))
    with pytest.raises(ValueError, match="pads to 77 and truncates to 77 tokens, but context_length is 64"):
        Tokenizer(text, TextSpec(64))
    with pytest.raises(ValueError, match="pads to None"):
        Tokenizer(json.dumps({**json.loads(text), "padding": None}), TextSpec(77))


class TestWhatWouldTakeQuadraticTime:
    """Cleaning 16,384 characters took from half a second to three for each of these."""

    @pytest.mark.parametrize("cleaner", CLEANERS)
    @pytest.mark.parametrize("entity", ["amp;", "AMP;", "#38;", "#x26;"])
    def test_deeply_nested_entities_are_refused(self, cleaner: Any, entity: str) -> None:
        assert clean("&" + 7 * entity + "lt;b", cleaner) == clean("&amp;lt;b", cleaner)
        with pytest.raises(TextError, match="HTML entities nested more than 8 deep: resolve them first"):
            clean("&" + 4000 * entity, cleaner)

    @pytest.mark.parametrize("mark", ["\u0323\u0301", "&#x323;&#x301;"])
    def test_long_runs_of_combining_characters_are_refused(self, mark: str) -> None:
        assert clean("a" + 64 * mark, "lower").startswith("\u1ea1\u0323")
        with pytest.raises(TextError, match="more than 128 combining characters in a row: remove them"):
            clean("a" + 65 * mark, "lower")

    @pytest.mark.parametrize("cleaner", CLEANERS)
    @pytest.mark.parametrize(
        "text",
        [
            "a\n\n\nb",
            "\n\n a \r\n\r\n <b> \n\t\n &amp; \n \n",
            "a\n \r\r\n  schÃ¶n\n\n",
            "\n",
            "a&am\n\np;b",
            "\x85\n\n\u2028",
        ],
    )
    def test_blank_lines_are_what_they_were(self, cleaner: Any, text: str) -> None:
        lines = html.unescape(html.unescape(ftfy.fix_text(text)))
        assert clean(text, cleaner).split() == clean(" ".join(lines.split()), cleaner).split()

    def test_thousands_of_blank_lines_are_one_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []
        fix = ftfy.fix_and_explain

        def seeing(line: str, config: Any) -> Any:
            seen.append(line)
            return fix(line, config)

        monkeypatch.setattr(ftfy, "fix_and_explain", seeing)
        assert clean("a" + 5000 * "\r\n" + "b", "lower") == "a b"
        assert len(seen) == 2
