"""A body that is decoded in one step gives the parameters that the codecs give, or none."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atomicbatch.server.dialect import MARIADB, POSTGRESQL, SQLITE, Dialect
from atomicbatch.server.values.codec import Codec, ValueProblem, decode_json
from atomicbatch.server.values.codecs import codec_for
from atomicbatch.server.values.kinds import Bounds, Kind
from atomicbatch.server.values.typed import TypedObject, can_be_typed

DIALECTS = (SQLITE, POSTGRESQL, MARIADB)
# Of JSON columns, and arrays of JSON, the text is kept: they are not for typed bodies.
KINDS = [kind for kind in Kind if kind is not Kind.JSON]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(
    ["a", "b", "ab", 'a"b', "a\\", "é", ""]
)
BOUNDS = st.builds(
    Bounds,
    length=st.none() | st.integers(0, 4),
    precision=st.none() | st.integers(1, 20),
    scale=st.none() | st.integers(-3, 20),
    fraction_digits=st.none() | st.integers(0, 6),
    minimum=st.sampled_from([None, 0, -5, -(2**31)]),
    maximum=st.sampled_from([None, 5, 2**31 - 1, 2**63 - 1, 2**64 - 1]),
    choices=st.sampled_from([None, None, ("a", "é")]),
    zone=st.booleans(),
    item=st.sampled_from([Kind.INTEGER, Kind.TEXT]),
)
NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
EDGES = st.sampled_from(
    [
        *("0", "-0", "-0.0", "0.0", "1.0", "5.00", "1e2", "1e400", "-1e400", "5e-324", "2e-324"),
        *("9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
        *("18446744073709551615", "18446744073709551616", "1" * 45, "0.1", "128", "-128", "127"),
        *("true", "false", "null", '"\\u0000"', '"a\\u0000b"', '"\\ud83d\\ude00"', '"\\ud83d"'),
        *('"9.99"', '"-0.00"', '"9.999"', '"12"', '"1e3"', '"NaN"', '"Infinity"', '"true"', '"1"'),
        *('"2026-11-24"', '"20261124"', '"2026-11-24T17:45:00Z"', '"17:45:00"', '"0044-03-15 BC"'),
        *('"0b0e1a52-8d8c-4c4f-9d55-0a4c1d6a2a55"', '"0B0E1A528d8c4c4f9d550a4c1d6a2a55"', '"YQ=="'),
        *("[]", "[1,null]", '["a"]', '"{1,2}"', "{}", '{"a":1}', '{"a":[{"b":2}]}', "[" * 2000),
    ]
)
TEXTS = (
    st.text(max_size=6).filter(lambda text: text.isascii() or text.isprintable()).map(json.dumps)
)
RAW_TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6).map(
    lambda text: json.dumps(text, ensure_ascii=False)
)
VALUES = NUMBERS | EDGES | TEXTS | RAW_TEXTS
BLANKS = st.sampled_from(["", "", "", " ", "\n\t"])


@st.composite
def columns(draw: st.DrawFn) -> tuple[Dialect, list[tuple[str, Codec]]]:
    dialect = draw(st.sampled_from(DIALECTS))
    names = draw(st.lists(NAMES.filter(can_be_typed), min_size=1, max_size=4, unique=True))
    return dialect, [
        (name, codec_for(dialect, name, draw(st.sampled_from(KINDS)), draw(BOUNDS)))
        for name in names
    ]


@st.composite
def bodies(draw: st.DrawFn, names: list[str]) -> bytes:
    """An object with about these members, as some client writes it."""
    order = draw(st.just(names) | st.permutations(names))
    if draw(st.integers(0, 4)) == 0:
        order = draw(st.lists(st.sampled_from([*names, "other"]), max_size=5))
    members = []
    for name in order:
        written = json.dumps(name, ensure_ascii=draw(st.booleans()))
        members.append(f"{draw(BLANKS)}{written}{draw(BLANKS)}:{draw(BLANKS)}{draw(VALUES)}")
    text = "{" + ",".join(members) + "}"
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from([*string.punctuation, "\0", ""])) + text[at + 1 :]
    return text.encode()


def by_codecs(members: list[tuple[str, Codec]], body: bytes) -> dict[str, Any] | None:
    """The parameters of a body by name, in its order; None if it is refused."""
    codecs = dict(members)
    try:
        decoded = decode_json(body)
        return {
            name: None if value is None else codecs[name].from_json(value)
            for name, value in decoded.items()
        }
    except (ValueError, AttributeError, KeyError, ValueProblem, RecursionError):
        return None


def in_one_step(
    dialect: Dialect, members: list[tuple[str, Codec]], body: bytes
) -> dict[str, Any] | None:
    typed = TypedObject(members, dialect)
    values = typed.values(body)
    parameters = None if values is None else typed.parameters(values)
    if parameters is None:
        return None
    return {name: parameter for (name, _), parameter in zip(members, parameters, strict=True)}


def exactly(parameters: dict[str, Any] | None) -> dict[str, tuple[type, str]]:
    """With their classes; the text of a zero tells whether it is negative."""
    assert parameters is not None
    return {name: (value.__class__, repr(value)) for name, value in parameters.items()}


@given(st.data())
def test_it_gives_what_the_codecs_give_or_nothing(data: st.DataObject) -> None:
    """The same names, in the same order but on SQLite; parameters of the same class and value."""
    dialect, members = data.draw(columns())
    names = [name for name, _ in members]
    body = data.draw(bodies(names))
    found = in_one_step(dialect, members, body)
    if found is not None:
        expected = by_codecs(members, body)
        assert exactly(found) == exactly(expected)
        assert dialect is SQLITE or names == list(expected or ())


@given(NUMBERS | EDGES, st.sampled_from(DIALECTS))
@example("1.7976931348623158e308", SQLITE)
def test_numbers_are_rounded_alike(number: str, dialect: Dialect) -> None:
    """A double is the nearest one, whoever reads it."""
    members = [("n", codec_for(dialect, "n", Kind.FLOAT, Bounds()))]
    body = b'{"n":%b}' % number.encode()
    found = in_one_step(dialect, members, body)
    if found is not None:
        assert exactly(found) == exactly(by_codecs(members, body))


USUAL: list[tuple[Kind, Bounds, list[str]]] = [
    (Kind.INTEGER, Bounds(), ["0", "-7", "9223372036854775807", "null"]),
    (Kind.INTEGER, Bounds(minimum=0, maximum=2**64 - 1), ["0", "9223372036854775807"]),
    (Kind.FLOAT, Bounds(), ["9.99", "3", "-1.5e300"]),
    (Kind.TEXT, Bounds(), ['""', '"Grüße"', '"\\u00e9"']),
    (Kind.TEXT, Bounds(length=2), ['"ab"', '"👩世"']),
    (Kind.TEXT, Bounds(choices=("a", "b")), ['"a"']),
    (Kind.BOOLEAN, Bounds(), ["true", "false"]),
    (Kind.DECIMAL, Bounds(precision=10, scale=2), ['"9.99"', "9.99", "5"]),
    (Kind.DATE, Bounds(), ['"2026-11-24"']),
    (Kind.TIMESTAMP, Bounds(), ['"2026-11-24T17:45:00Z"']),
    (Kind.UUID, Bounds(), ['"0b0e1a52-8d8c-4c4f-9d55-0a4c1d6a2a55"']),
]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(("kind", "bounds", "written"), USUAL, ids=str)
def test_what_most_clients_send_is_taken(
    dialect: Dialect, kind: Kind, bounds: Bounds, written: list[str]
) -> None:
    """Values in their usual form need no second look."""
    members = [
        ("v", codec_for(dialect, "v", kind, bounds)),
        ("w", codec_for(dialect, "w", kind, bounds)),
    ]
    for value in written:
        for body in (f'{{"v":{value},"w":{value}}}', f'{{ "v": {value},\n "w": {value} }}'):
            found = in_one_step(dialect, members, body.encode())
            assert exactly(found) == exactly(by_codecs(members, body.encode())), body


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"w":1,"v":2}', b'{"v":1}', b'{"v":1,"w":2,"x":3}', b"[]", b"", b"{", b"\xff", b"7"),
        *(b'{"v" :1,"w":2}', b'{"\\u0076":1,"w":2}', b'{"v":1,"w":"x"}', b'{"v":1,"w":2} x'),
    ],
)
def test_other_objects_are_left_to_the_codecs(body: bytes) -> None:
    """Members in another order, missing, unknown, or of another type; and what is no JSON."""
    members = [(name, codec_for(MARIADB, name, Kind.INTEGER, Bounds())) for name in ("v", "w")]
    assert in_one_step(MARIADB, members, body) is None


def test_a_nul_is_left_to_postgresql_s_codecs() -> None:
    """They refuse it; elsewhere a text may hold one."""
    for dialect in DIALECTS:
        members = [("v", codec_for(dialect, "v", Kind.TEXT, Bounds()))]
        found = in_one_step(dialect, members, b'{"v":"a\\u0000b"}')
        assert found == (None if dialect is POSTGRESQL else {"v": "a\0b"})


def test_a_name_with_quotes_cannot_be_told_from_two() -> None:
    """Then the order of members could not be read off their names."""
    assert can_be_typed("name")
    assert can_be_typed("große Zahl")
    assert not can_be_typed('a"b')
    assert not can_be_typed("a\\")
    assert not can_be_typed("a\n")
