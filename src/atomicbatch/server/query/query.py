"""Query: the query string of a collection, in PostgREST's grammar -> what to select."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from atomicbatch.server.query.filters import Filters
from atomicbatch.server.query.names import QueryProblem, find_column, unescaped
from atomicbatch.server.query.tree import And, Filter, Order
from atomicbatch.server.schema.tables import Column, Table


class Query(NamedTuple):
    """
    What a query string asks for.

    Attributes:
        filter: Which rows; None for all.
        select: Columns and their names in the reply; None for all.
        order: The terms of the order; empty where none is given.
        limit: Most rows, or None.
        offset: Rows to skip.
        on_conflict: The columns that make a row a duplicate, or None.
    """

    filter: And | None = None
    select: tuple[tuple[Column, str], ...] | None = None
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    on_conflict: tuple[str, ...] | None = None


# select and order together count as columns on PostgreSQL, which takes 1,664; SQLite takes 2,000.
MAX_NAMES = 500

# Google's clients add these to every call. They have no meaning here.
_SYSTEM = frozenset({"alt", "prettyPrint", "key", "quotaUser", "userIp"})
# What PostgREST takes as a condition, whether or not we know the operator.
_CONDITION = re.compile(
    r"(?:not\.)?(?:eq|neq|gte?|lte?|i?like|i?match|in|is|isdistinct|(?:pl|ph|w)?fts|c[sd]|ov|s[lr]"
    r"|nx[lr]|adj)(?:\([^()]*\))?\.",
    re.IGNORECASE,
)
_TREES = frozenset({"and", "or", "not.and", "not.or"})


def read_query(table: Table, query: bytes) -> Query:
    """
    Read a query string, without its ``?``.

    Conditions on columns are joined by AND. ``select``, ``order``, ``limit``, ``offset``,
    ``on_conflict``, ``and`` and ``or`` are not columns: a column with such a name is filtered
    inside ``and=(...)``.

    Raises:
        QueryProblem: It is not understood; ``parameter`` names the culprit.
        ValueProblem: An operand does not fit its column.
    """
    reader = Filters(table)
    filters: list[Filter] = []
    once: dict[str, str] = {}
    for name, value in _pairs(query):
        if name in _READERS:
            if name in once:
                raise QueryProblem("is given more than once", name)
            once[name] = value
        elif name in _TREES:
            filters.append(reader.logic(name, value))
        elif not _is_system(name, value, table):
            filters.append(reader.plain(name, value))
        elif name == "alt" and value not in ("", "json"):
            raise QueryProblem("only alt=json is supported", name)
    chosen = {name: _READERS[name](value, table) for name, value in once.items()}
    return Query(filter=And(tuple(filters)) if filters else None, **chosen)


def _is_system(name: str, value: str, table: Table) -> bool:
    """
    Whether a parameter is one that Google's clients add, and is ignored.

    If a condition were taken for one, it would be ignored, and a write would reach more rows. So a
    parameter is not ignored if the table has such a column, in upper or lower case, or if its value
    is a condition.
    """
    if not (name in _SYSTEM or name.startswith("$.")) or _CONDITION.match(value):
        return False
    folded = name.casefold()
    return all(column.casefold() != folded for column in table.by_name)


def _pairs(query: bytes) -> Iterator[tuple[str, str]]:
    """The names and values of a query string, decoded."""
    if query.isascii() and b"%" not in query and b"+" not in query:
        for plain in query.decode().split("&"):
            if plain:
                name, _, value = plain.partition("=")
                yield name, value
        return
    for pair in query.split(b"&"):
        if pair:
            encoded, _, rest = pair.partition(b"=")
            name = _decode(encoded, "")
            yield name, _decode(rest, name)


_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def _decode(text: bytes, parameter: str) -> str:
    """Undo percent-encoding. ``parameter`` is the name, if ``text`` is a value; else empty."""
    if b"+" in text:
        text = text.replace(b"+", b" ")
    if b"%" in text:
        # A guess would find other rows: "%" is a wildcard in a pattern, and "%41" is an "A".
        if _BAD_PERCENT.search(text):
            detail = "'%' is not followed by two hexadecimal digits; '%' itself is written %25"
            raise QueryProblem(detail, parameter or ascii(text[:50]))
        text = unquote_to_bytes(text)
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise QueryProblem("is not valid UTF-8", parameter or ascii(text[:50])) from None


# An item of a list: a name, perhaps in quotes, and what follows it: ``"a,b".desc``.
_ITEM = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",])*', re.DOTALL)
_QUOTED_NAME = re.compile(r'(?:([^"]*):)?"((?:[^"\\]|\\.)*)"([^"]*)', re.DOTALL)


def _items(value: str, parameter: str) -> list[str]:
    """Split at commas that are not in quotes."""
    if value.count(",") >= MAX_NAMES:
        raise QueryProblem(f"there are more than {MAX_NAMES} names", parameter)
    if '"' not in value:
        return value.split(",")
    items: list[str] = []
    end = -1
    while end < len(value):
        match = _ITEM.match(value, end + 1)
        end = len(value) if match is None else match.end()
        items.append("" if match is None else match[0])
        if value[end : end + 1] not in ("", ","):
            raise QueryProblem("a quoted name has no closing quote", parameter)
    return items


def _named(item: str, parameter: str) -> tuple[str | None, str, str] | None:
    """``alias:"name"rest`` -> its three parts; None if nothing is quoted."""
    if '"' not in item:
        return None
    match = _QUOTED_NAME.fullmatch(item)
    if match is None:
        raise QueryProblem(
            "a name that contains quotes must be quoted, with \\ before each", parameter
        )
    return match[1], unescaped(match[2]), match[3]


def _select(value: str, table: Table) -> tuple[tuple[Column, str], ...] | None:
    if value in ("", "*"):
        return None
    chosen: list[tuple[Column, str]] = []
    for item in _items(value, "select"):
        if item == "*":
            chosen += [(column, column.name) for column in table.columns]
            continue
        alias, name = _aliased(item, table)
        chosen.append((find_column(table, name, "select"), name if alias is None else alias))
    if len({name for _, name in chosen}) < len(chosen):
        raise QueryProblem("a name occurs twice", "select")
    return tuple(chosen)


def _aliased(item: str, table: Table) -> tuple[str | None, str]:
    """``alias:name`` -> both; the alias is None if there is none."""
    named = _named(item, "select")
    if named is not None and not named[2]:
        alias, name = named[:2]
    elif item in table.by_name:  # a name may contain a colon
        return None, item
    elif named is not None or "(" in item or "->" in item or "::" in item:
        raise QueryProblem(
            "only columns can be selected: no embedded tables, casts or paths", "select"
        )
    else:
        before, colon, name = item.rpartition(":")
        alias = before if colon else None
    if alias == "":
        raise QueryProblem("an alias is empty", "select")
    return alias, name


_DIRECTIONS: dict[str, Literal["asc", "desc"]] = {"asc": "asc", "desc": "desc"}
_NULLS: dict[str, Literal["first", "last"]] = {"nullsfirst": "first", "nullslast": "last"}
_TERM = "a term is 'column[.asc|.desc][.nullsfirst|.nullslast]'"


def _order(value: str, table: Table) -> tuple[Order, ...]:
    return tuple([_term(item, table) for item in _items(value, "order")]) if value else ()


def _term(item: str, table: Table) -> Order:
    name, words = _ordered(item, table)
    column = find_column(table, name, "order")
    direction = _DIRECTIONS[words.pop(0)] if words and words[0] in _DIRECTIONS else None
    if len(words) > 1 or (words and words[0] not in _NULLS):
        raise QueryProblem(_TERM, "order")
    return Order(column, direction, _NULLS[words[0]] if words else None)


def _ordered(item: str, table: Table) -> tuple[str, list[str]]:
    """``name.desc.nullslast`` -> the name and the words behind it."""
    named = _named(item, "order")
    if named is None:
        name, *words = [item] if item in table.by_name else item.split(".")
        return name, words
    alias, name, rest = named
    if alias is not None or (rest and not rest.startswith(".")):
        raise QueryProblem(_TERM, "order")
    return name, rest.split(".")[1:]


def _count(parameter: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise QueryProblem("must be a whole number", parameter)
    return int(value)


def _on_conflict(value: str, table: Table) -> tuple[str, ...]:
    names = []
    for item in _items(value, "on_conflict"):
        alias, name, rest = _named(item, "on_conflict") or (None, item, "")
        if alias is not None or rest:
            raise QueryProblem("a list of names, separated by commas, is expected", "on_conflict")
        names.append(find_column(table, name, "on_conflict").name)
    return tuple(names)


_READERS: dict[str, Callable[[str, Table], Any]] = {
    "select": _select,
    "order": _order,
    "limit": lambda value, _: _count("limit", value),
    "offset": lambda value, _: _count("offset", value),
    "on_conflict": _on_conflict,
}
