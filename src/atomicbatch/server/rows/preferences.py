"""Preferences: what ``Prefer`` asks of a call on rows (RFC 7240, and PostgREST's meanings)."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from atomicbatch.server.database.faults import RowFault

# What each kind of call honours. A read is within any limit on changes.
ON_LISTS = frozenset({b"return=representation", b"count=exact", b"max-affected"})
ON_ROWS = frozenset({b"return=representation", b"max-affected"})
ON_CHANGES = frozenset({b"return=representation", b"return=minimal", b"max-affected"})
ON_CREATES = ON_CHANGES | {
    b"resolution=merge-duplicates",
    b"resolution=ignore-duplicates",
    b"missing=default",
}
# They ask for a write that is undone, or only described. A write that ignores them is final.
_REFUSED = frozenset({b"tx", b"all-errors", b"diff"})
_SAID_ONCE = frozenset(wish.partition(b"=")[0] for wish in ON_LISTS | ON_CREATES | {b"handling"})
_COUNT = re.compile(rb"[0-9]{1,18}")
# An element of the list, and its parameters; commas and semicolons in quotes separate nothing.
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_ELEMENT = re.compile(
    rb'((?:[^",;]|%b)*)(?:;(?:[^",]|%b)*)?(?:,|\Z)' % (_QUOTED, _QUOTED), re.DOTALL
)


class Preferences(NamedTuple):
    """The preferences that are honoured."""

    wishes: frozenset[bytes] = frozenset()
    """In lower case, ``name=value``, without spaces and quotes."""
    max_affected: int | None = None
    """How many rows a write may change at most."""
    strict: bool = False
    """Whether ``handling=strict`` was asked for; then all that was asked for is honoured."""

    def applied(self, *kinds: bytes) -> bytes:
        """The value of Preference-Applied, for wishes that start so; empty where there is none."""
        applied = [wish for wish in self.wishes if wish.startswith(kinds)]
        if self.max_affected is not None:
            applied.append(b"max-affected=%d" % self.max_affected)
        if self.strict:
            applied.append(b"handling=strict")
        return b", ".join(sorted(applied))


NO_PREFERENCES = Preferences()


def read_preferences(value: bytes, honoured: frozenset[bytes]) -> Preferences:
    """
    Read the value of ``Prefer``, several headers joined by commas.

    Args:
        value: As sent.
        honoured: What the kind of call honours, one of ``ON_...``.

    Raises:
        RowFault: 400. A preference would narrow or undo the write, and is not supported or not
            understood; one has two values; or one is not honoured, with ``handling=strict``.
    """
    said = _said(value)
    for name in _REFUSED & said.keys():
        _refuse(name + (b"=" if said[name] else b"") + said[name], "is not supported")
    handling = said.pop(b"handling", b"")
    if handling not in (b"", b"strict", b"lenient"):
        _refuse(b"handling=" + handling, "handling must be strict or lenient")
    most = _max_affected(said.get(b"max-affected"), handling)
    wishes = set()
    for name, wish in said.items():
        whole = name + b"=" + wish
        if whole in honoured:
            wishes.add(whole)
        elif name == b"resolution" and any(known.startswith(b"resolution=") for known in honoured):
            _refuse(whole, "resolution must be merge-duplicates or ignore-duplicates")
        elif handling == b"strict" and name not in honoured:
            _refuse(
                whole.removesuffix(b"="), "is not honoured here, and handling=strict was asked for"
            )
    return Preferences(frozenset(wishes), most, handling == b"strict")


def _max_affected(text: bytes | None, handling: bytes) -> int | None:
    if text is None:
        return None
    if not _COUNT.fullmatch(text):
        _refuse(b"max-affected=" + text, "must be a whole number")
    # As with PostgREST, handling=lenient turns the limit off. Without any handling, PostgREST
    # ignores the limit too. We keep it: nobody asks for a limit to have it ignored.
    return None if handling == b"lenient" else int(text)


def _said(value: bytes) -> dict[bytes, bytes]:
    """Every preference with its value, which may be empty; parameters behind ``;`` are dropped."""
    said: dict[bytes, bytes] = {}
    value = value.lower()
    position = 0
    while position < len(value):
        element = _ELEMENT.match(value, position)
        if element is None:
            _refuse(value[position:], "a quoted string has no closing quote")
        position = element.end()
        name, _, what = element[1].translate(None, b' \t"').partition(b"=")
        if not name:
            continue
        if said.setdefault(name, what) != what and name in _SAID_ONCE:
            _refuse(name, "is given with two values")
    return said


def _refuse(wish: bytes, why: str) -> NoReturn:
    shown = wish[:100].decode("ascii", "replace")
    raise RowFault(400, "invalid-preference", f"Prefer: {shown}: {why}", parameter="Prefer")
