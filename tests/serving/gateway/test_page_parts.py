"""The parts of the page that are functions: addresses, columns, cards."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protoclip.search import Index
from serving.gateway.errors import Refused
from serving.gateway.page.asked import IS, LEAST, MOST, Asked, Condition, read_asked
from serving.gateway.page.cards import make_card, title_of
from serving.gateway.page.columns import Column, find_columns, where_of
from serving.gateway.page.given import GivenPicture, GivenPictures
from serving.gateway.page.kept import KeptByChange

FINGERPRINT = "0123456789abcdef"
IDS = st.text(min_size=1, max_size=8)


class TestAddresses:
    @given(
        text=st.text(max_size=20).map(str.strip),
        like=st.lists(IDS, max_size=3, unique=True),
        column=st.text(max_size=5),
        value=IDS.filter(lambda value: bool(value.strip())),
        page=st.integers(1, 1000),
    )
    def test_it_is_read_as_it_was_written(
        self, text: str, like: list[str], column: str, value: str, page: int
    ) -> None:
        asked = Asked("search", "shop", text, "word", tuple(like), (), (Condition(column, IS, value),), page)
        assert read_asked(urlsplit(asked.address()).query.encode()) == asked

    def test_ids_that_are_no_utf_8(self) -> None:
        asked = Asked(like=("odd\udcff.jpg",))
        assert read_asked(urlsplit(asked.address()).query.encode()) == asked

    def test_the_start(self) -> None:
        assert Asked().address() == "./"
        assert read_asked(b"") == Asked()
        assert read_asked(b"unknown=1&q=") == Asked()

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            (b"page=0", "page='0' is no number from 1 on"),
            (b"page=-1", "is no number"),
            (b"page=1e3", "is no number"),
            (b"page=" + b"9" * 30, "is no number"),
            (b"cluster=x", "cluster='x' is no number from 0 on"),
            (b"q=" + b"a" * 2001, "the text to look for has 2001 characters, and at most 2000"),
            (b"q=%ff", "no UTF-8"),
            (b"q=caf\xe9", "no UTF-8"),
            (b"&".join(b"x=1" for _ in range(201)), "more than 200 fields"),
            (b"&".join(b"like=%d" % number for number in range(21)), "more than 20 examples"),
        ],
    )
    def test_what_is_refused(self, query: bytes, said: str) -> None:
        with pytest.raises(Refused, match=said) as caught:
            read_asked(query)
        assert caught.value.status == 400

    def test_an_unknown_view(self) -> None:
        with pytest.raises(Refused, match="no view is called 'x'") as caught:
            read_asked(b"view=x")
        assert caught.value.status == 404

    def test_examples_move_between_more_and_less(self) -> None:
        asked = Asked(text="cat", like=("a",), page=3).more_like("b")
        assert (asked.like, asked.page) == (("a", "b"), 1)
        assert asked.less_like("a").like == ("b",)
        assert asked.less_like("a").unlike == ("a",)
        assert asked.less_like("a").more_like("a").unlike == ()
        assert asked.more_like("a").like == ("b", "a")

    def test_labels_are_lines_or_parted_by_commas(self) -> None:
        assert Asked(labels="cat, dog,,cat").label_list == ("cat", "dog")
        assert Asked(labels="red, blue\ngreen\n").label_list == ("red, blue", "green")


class TestColumns:
    def test_kinds(self) -> None:
        metadata: list[dict[str, Any]] = [
            {
                "price": "3",
                "stock": "true",
                "color": "red",
                "title": f"thing {row}",
                "size": 1.5 * row,
                "tags": ["a"],
            }
            for row in range(6)
        ]
        metadata[0] |= {"color": "blue", "price": 12}
        metadata[1]["size"] = None
        assert find_columns(metadata) == (
            Column("price", "number", least=3.0, most=12.0),
            Column("stock", "flag"),
            Column("color", "choice", ("red", "blue")),
            Column("title", "text"),
            Column("size", "number", least=0.0, most=7.5),
        )

    def test_what_conditions_cannot_name(self) -> None:
        assert find_columns([{"and": 1, "or": 2, "": 3}]) == ()

    @pytest.mark.parametrize("name", ["a\nb", "a\0b", " ", "odd\udcff"])
    def test_names_that_a_form_would_send_changed(self, name: str) -> None:
        assert find_columns([{name: 1, "price": 2}]) == (Column("price", "number", least=2, most=2),)

    def test_choices_are_those_that_a_form_sends_as_they_are(self) -> None:
        values = ["a\nb", "", " ", "c", "nul\0", "odd\udcff"] * 3
        assert find_columns([{"kind": value} for value in values]) == (Column("kind", "choice", ("c",)),)

    @pytest.mark.parametrize(
        ("value", "other", "wanted"),
        [
            (True, "maybe", ["true", True]),
            (2**53 + 1, "text", [str(2**53 + 1), 2**53 + 1]),
            (0.1, "x", ["0.1", 0.1]),
        ],
    )
    def test_choices_of_several_types_find_their_entries(
        self, tmp_path: Path, value: Any, other: str, wanted: list[Any]
    ) -> None:
        metadata = [{"kind": value if row % 2 else other} for row in range(8)]
        (column,) = find_columns(metadata)
        (text,) = (one for one in column.values if one != other)
        where = where_of([Condition("kind", IS, text)], [column])
        assert where == {"kind": {"in": wanted}}
        with Index.create(tmp_path / "x.index", FINGERPRINT, 2) as index:
            index.add(np.ones((8, 2)), [str(row) for row in range(8)], metadata)
            assert index.count(where) == 4

    def test_a_text_of_many_brackets_is_a_text(self) -> None:
        assert find_columns([{"a": "[" * 200_000}])[0].kind == "text"

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "007", "1,5", "", " ", "[1]", "1e999", "0x1"])
    def test_texts_that_only_look_like_numbers(self, value: str) -> None:
        assert find_columns([{"a": value}, {"a": "3"}])[0].kind != "number"

    def test_conditions(self) -> None:
        columns = [Column("price", "number"), Column("stock", "flag"), Column("color", "choice", ("red", "7"))]
        conditions = [
            Condition("price", LEAST, "1,5"),
            Condition("price", MOST, "9"),
            Condition("stock", IS, "no"),
            Condition("color", IS, "red"),
            Condition("color", IS, "7"),
        ]
        assert where_of(conditions, columns) == {
            "price": {"ge": 1.5, "le": 9.0},
            "stock": {"in": [False]},
            "color": {"in": ["red", "7", 7.0]},
        }

    @pytest.mark.parametrize(
        ("condition", "said"),
        [
            (Condition("price", LEAST, "cheap"), "price: 'cheap' is no number"),
            (Condition("price", LEAST, "NaN"), "is no number"),
            (Condition("stock", MOST, "3"), "stock: '3' is no number"),
            (Condition("stock", IS, "maybe"), "stock: 'maybe' is neither yes nor no"),
            (Condition("weight", IS, "3"), "'weight' is no column to filter by"),
            (Condition("price", LEAST, "1,500"), "price: '1,500' may be two numbers: write the comma as a point"),
            (Condition("price", LEAST, "1,500,000"), "may be two numbers"),
        ],
    )
    def test_what_is_refused(self, condition: Condition, said: str) -> None:
        with pytest.raises(Refused, match=said):
            where_of([condition], [Column("price", "number"), Column("stock", "flag")])


class TestCards:
    def test_titles(self) -> None:
        assert title_of("a.jpg", {"Title": " Red shoe ", "price": 3}) == "Red shoe"
        assert title_of("a.jpg", {"caption": ["first", "second"]}) == "first"
        assert title_of("a.jpg", {"label": "", "name": 7}) == "a.jpg"
        assert title_of("odd\udcff.jpg", {}) == "odd\ufffd.jpg"
        assert len(title_of("a", {"text": "x" * 1000})) == 120

    def test_a_card(self) -> None:
        card = make_card("warm/a #1.jpg", {"stock": True, "tags": ["x", 1]}, 0.5, Asked(text="red"), "shop")
        assert card.picture == "thumbnails/shop/warm%2Fa%20%231.jpg"
        assert card.facts == (("stock", "yes"), ("tags", "x, 1"))
        assert card.more == "./?q=red&like=warm%2Fa%20%231.jpg"
        assert card.less == "./?q=red&unlike=warm%2Fa%20%231.jpg"
        assert make_card("a", {}, None, Asked(), "shop").less == ""


class TestWhatIsKept:
    def test_one_computation_for_many_until_a_change(self, tmp_path: Path) -> None:
        index = Index.create(tmp_path / "x.index", FINGERPRINT, 2)
        counted: list[int] = []
        kept = KeptByChange(lambda index: counted.append(threading.get_ident()) or len(index))

        async def several() -> list[int]:
            return list(await asyncio.gather(*(kept.of("x", index) for _ in range(4))))

        assert asyncio.run(several()) == [0, 0, 0, 0]
        assert len(counted) == 1
        assert counted[0] != threading.get_ident()
        index.add(np.eye(2), ["a", "b"])
        assert asyncio.run(kept.of("x", index)) == 2
        index.close()

    def test_another_index_in_its_place_is_another_one(self, tmp_path: Path) -> None:
        kept = KeptByChange(lambda index: [entry.id for entry in index.iterate()])
        for names in (["a", "b"], ["c", "d"]):
            shutil.rmtree(tmp_path / "x.index", ignore_errors=True)
            with Index.create(tmp_path / "x.index", FINGERPRINT, 2) as index:
                index.add(np.eye(2), names)
                assert asyncio.run(kept.of("x", index)) == names

    def test_pictures_are_kept_as_long_as_there_is_room(self) -> None:
        pictures = GivenPictures(most=2)
        words = [pictures.keep(GivenPicture(name, np.ones(2), FINGERPRINT, b"")) for name in "ab"]
        assert pictures.get(words[0]).name == "a"
        words.append(pictures.keep(GivenPicture("c", np.ones(2), FINGERPRINT, b"")))
        assert pictures.find(words[1]) is None
        assert pictures.get(words[0]).name == "a"
        with pytest.raises(Refused, match="give it again") as caught:
            pictures.get(words[1])
        assert caught.value.status == 410
