"""Arrays: rows as a JSON array, of which no more is ever held than may be sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.server.database.bounds import TooMuchError
from atomicbatch.server.dialect import SQLITE
from atomicbatch.server.rows.arrays import JsonArray, Keys
from atomicbatch.server.rows.representation import Representation
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codecs import codec_for
from atomicbatch.server.values.kinds import Bounds, Kind


def column(name: str, kind: Kind, length: int | None = None) -> Column:
    return Column(
        name=name, kind=kind, length=length, codec=codec_for(SQLITE, name, kind, Bounds())
    )


COLUMNS = [column("id", Kind.INTEGER), column("t", Kind.TEXT)]
ROWS = st.lists(st.tuples(st.integers(-(2**53), 2**53), st.none() | st.text(max_size=20)))


@given(rows=ROWS, typed=st.booleans(), splits=st.integers(1, 4))
def test_the_array_holds_the_rows(rows: list[Any], *, typed: bool, splits: int) -> None:
    """However they come, they are there in order, and the bound is the array's own length."""
    whole = json.dumps([{"id": i, "t": t} for i, t in rows], separators=(",", ":"))
    shown = Representation(COLUMNS, typed=typed)
    array = JsonArray(shown, 10**6)
    for start in range(splits):
        size = len(rows) // splits + 1
        array.extend(rows[start * size : (start + 1) * size])
    assert array.count == len(rows)
    body = array.body()
    assert json.loads(body) == json.loads(whole)
    JsonArray(shown, len(body)).extend(rows)
    if rows:
        with pytest.raises(TooMuchError):
            JsonArray(shown, len(body) - 2).extend(rows)


@given(rows=ROWS, split=st.integers(0, 20))
def test_rows_can_be_added_one_by_one(rows: list[Any], split: int) -> None:
    """Added alone or together, they are the same array within the same bound."""
    shown = Representation(COLUMNS)
    whole = JsonArray(shown, 10**6)
    whole.extend(rows)
    body = whole.body()
    array = JsonArray(shown, max(2, len(body)))
    for row in rows[:split]:
        array.add(row)
    array.extend(rows[split : 2 * split])
    for row in rows[2 * split :]:
        array.add(row)
    assert array.count == len(rows)
    assert array.body() == body
    if rows:
        small = JsonArray(shown, len(body) - 2)
        for row in rows:
            small.add(row)
        with pytest.raises(TooMuchError):
            small.body()


def test_long_rows_that_are_added_do_not_wait() -> None:
    """No more than a few of them are held at a time."""
    array = JsonArray(Representation(COLUMNS), 100_000)
    for number in range(5):
        array.add((number, "x" * 30_000))
    with pytest.raises(TooMuchError):
        array.add((5, "x" * 30_000))


@pytest.mark.parametrize("size", [1, 10_000, 200_000])
def test_no_more_rows_are_taken_than_needed(size: int) -> None:
    """Long rows are written at once, so that a few are held at a time."""
    taken = 0

    def rows() -> Iterator[Any]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield number, "x" * size

    with pytest.raises(TooMuchError):
        JsonArray(Representation(COLUMNS), 100_000).extend(rows())
    assert taken * size < 100_000 + 64 * 1024 + 500 * size * (size < 200) + 2 * size


def test_which_columns_may_be_large() -> None:
    """Where the database keeps to types and lengths, only text and bytes of any length are."""
    columns = [*COLUMNS, column("short", Kind.TEXT, 20), column("b", Kind.BYTES)]
    assert Representation(columns, typed=True).large == (1, 3)
    assert Representation(columns).large == (0, 1, 2, 3)


@given(st.lists(st.tuples(st.integers(), st.text(max_size=5) | st.binary(max_size=5)), max_size=50))
def test_packed_keys_are_the_keys(keys: list[Any]) -> None:
    """Packed and unpacked they are the same, also integers of any size."""
    packed = Keys(iter(keys), most=50)
    assert [tuple(key) for key in packed] == keys
    assert packed.count == len(keys)
    if keys:
        with pytest.raises(TooMuchError):
            Keys(keys, most=len(keys) - 1)
