"""
Inheritance: what the calls of one batch take over from the outer request (SPEC, section 3).

It is made anew for each batch: nothing that one request says outlives it, or reaches another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from atomicbatch.errors import LimitError, UnsupportedError
from atomicbatch.model import Header, Headers
from atomicbatch.wire.grammar import connection_names
from atomicbatch.wire.memo import Memo
from atomicbatch.wire.rules import Fate, Rules

# Preferences (RFC 7240) about the batch as a whole.
BATCH_PREFERENCES = frozenset({
    b"respond-async", b"wait", b"continue-on-error", b"odata.continue-on-error", b"tx",
    b"all-errors", b"diff", b"batch-status",
})  # fmt: skip

# What matters in a list, RFC 9110 section 5.6.1, outside of quotes and inside.
_OUTSIDE = re.compile(rb'[",]')
_INSIDE = re.compile(rb'"|\\.', re.DOTALL)
_QUOTES_END = re.compile(rb'(?:[^"]|"(?:[^"\\]|\\.)*")*', re.DOTALL)
_PREFERENCE_NAME = re.compile(rb"[^=; \t]*")


# Python 3.11 takes 0.2 us for each look at an enum's member.
_INHERITED, _SHARED, _CONNECTION = Fate.INHERITED, Fate.SHARED, Fate.CONNECTION


class Inheritance:
    """
    What all calls of one batch take over.

    Args:
        headers: The outer request's.
        query: The outer request's, without the ``?``.
        rules: The endpoint's. Of its limits, ``max_header_lines`` bounds what is inherited too,
            and ``max_body_bytes`` what the outer query adds to all calls together: otherwise a
            short request could become a batch of any length.

    Attributes:
        rules: The same.
        has_query: The outer query has pairs that calls inherit.

    Raises:
        LimitError: Calls would inherit more than ``max_header_lines`` headers.
    """

    def __init__(self, headers: Headers, query: bytes = b"", rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self._headers = self._inherited(headers)
        self._header_names = {name for name, _ in self._headers}
        limits = self.rules.limits
        if len(self._headers) > limits.max_header_lines:
            raise LimitError(
                f"calls would inherit more than {limits.max_header_lines} headers",
                limit="max_header_lines",
                maximum=limits.max_header_lines,
            )
        self._pairs = self._inherited_pairs(query) if query else []
        self.has_query = bool(self._pairs)
        self._query_names = {name for name, _ in self._pairs}
        self._query = b"&".join([pair for _, pair in self._pairs])
        self._queries: dict[bytes, bytes] = {}
        self._query_bytes_left = limits.max_body_bytes

    def headers_for(self, own: Headers) -> Headers:
        """
        Merge a call's own headers with the inherited ones; own ones come first.

        Args:
            own: As in the call; Content-Length is the caller's business.
        """
        settable, may_set = self.rules.settable, self.rules.may_set
        names = {name for name, _ in own}
        refused = {name for name in names if not (settable.get(name) or may_set(name))}
        if refused:
            own = tuple([header for header in own if header[0] not in refused])
            names -= refused
        if names.isdisjoint(self._header_names):
            return own + self._headers
        return own + tuple([header for header in self._headers if header[0] not in names])

    def query_for(self, own: bytes) -> bytes:
        """
        Append the outer pairs whose decoded name does not occur in the call's own query.

        Args:
            own: The call's query as sent; its bytes stay as they are.

        Raises:
            LimitError: What was added to all calls together exceeds ``max_body_bytes``.
        """
        if not self._pairs:
            return own
        merged = self._queries.get(own)
        if merged is None:
            # The names are compared for each different query, so that this also bounds the time.
            self._query_bytes_left -= len(self._query)
            if self._query_bytes_left < 0:
                maximum = self.rules.limits.max_body_bytes
                raise LimitError(
                    "the outer query, added to every call, makes the batch too long",
                    limit="max_body_bytes",
                    maximum=maximum,
                )
            merged = self._queries[own] = self._merge_query(own)
        return merged

    def _merge_query(self, own: bytes) -> bytes:
        if not own:
            return self._query
        names = set(map(_decoded_name, own.split(b"&")))
        if names.isdisjoint(self._query_names):
            return own + b"&" + self._query
        return b"&".join([own, *(pair for name, pair in self._pairs if name not in names)])

    def _inherited_pairs(self, query: bytes) -> list[tuple[bytes, bytes]]:
        consumed = self.rules.consumed
        return [
            (name, pair)
            for pair in query.split(b"&")
            if (name := _decoded_name(pair)) and name not in consumed
        ]

    def _inherited(self, headers: Headers) -> Headers:
        fates, fate_of = self.rules.fates, self.rules.fate_of
        inherited: list[Header] = []
        named: set[bytes] = set()
        for name, value in headers:
            fate = fates.get(name) or fate_of(name)
            if fate is _INHERITED:
                inherited.append((name, value))
            elif fate is _SHARED:
                value = _for_calls(name, value)
                if value:
                    inherited.append((name, value))
            elif fate is _CONNECTION:
                named |= connection_names(((name, value),))
        if named and (named := named & {name for name, _ in inherited}):
            # A client must not be able to take away what the proxy said by naming it there.
            gone = {name for name in named if not self.rules.is_protected(name)}
            inherited = [header for header in inherited if header[0] not in gone]
        return tuple(inherited)


# By (name, value): clients of one kind send the same each time, and neither is a secret.
_SEEN: Memo[tuple[bytes, bytes], bytes] = Memo(256, 256)


def _for_calls(name: bytes, value: bytes) -> bytes:
    """Keep those elements of Accept or Prefer that mean the calls, or all if all do."""
    kept = _SEEN.get((name, value))
    if kept is None:
        kept = _SEEN.keep((name, value), _elements_for_calls(name, value), len(value))
    return kept


def _elements_for_calls(name: bytes, value: bytes) -> bytes:
    concerns_batch = _is_multipart_range if name == b"accept" else _is_batch_preference
    elements = [element.strip(b" \t") for element in _elements(value)]
    kept = [element for element in elements if element and not concerns_batch(element)]
    return value if len(kept) == len(elements) else b", ".join(kept)


def _elements(value: bytes) -> Iterator[bytes]:
    """Yield the elements of a list; commas in quotes separate nothing."""
    pattern = _OUTSIDE
    start = position = 0
    while found := pattern.search(value, position):
        position = found.end()
        if found[0] == b",":
            yield value[start : position - 1]
            start = position
        elif found[0] == b'"':
            pattern = _OUTSIDE if pattern is _INSIDE else _INSIDE
    yield value[start:]


def _is_multipart_range(element: bytes) -> bool:
    return element[:10].lower() == b"multipart/"


def _is_batch_preference(element: bytes) -> bool:
    found = _PREFERENCE_NAME.match(element)
    return found is not None and found[0].lower() in BATCH_PREFERENCES


def read_preferences(value: bytes) -> list[tuple[bytes, bytes]]:
    """
    Read the value of a Prefer header: names and values in lower case, without quotes.

    Raises:
        UnsupportedError: A quote is not closed, so that it may hide other preferences.
    """
    if not _QUOTES_END.fullmatch(value):
        raise UnsupportedError("a quote in Prefer is not closed")
    wishes = (wish.partition(b";")[0].partition(b"=") for wish in _elements(value.lower()))
    return [(name.strip(b" \t"), what.strip(b' \t"')) for name, _, what in wishes]


def _decoded_name(pair: bytes) -> bytes:
    """Return the name of a query pair, decoded as forms are (``+`` is a space)."""
    name = pair.partition(b"=")[0]
    if b"+" in name:
        name = name.replace(b"+", b" ")
    return unquote_to_bytes(name) if b"%" in name else name
