"""Conditions: what a call's headers ask of the server (RFC 9110 section 13, RFC 7240)."""

from __future__ import annotations

from typing import NamedTuple

from atomicbatch.model import Headers


class Conditions(NamedTuple):
    """The headers of a call that matter to rows."""

    content_type: bytes | None = None
    content_encoding: bytes | None = None
    if_match: bytes | None = None
    if_none_match: bytes | None = None
    prefer: frozenset[bytes] = frozenset()
    """Preferences in lower case, ``name=value``, without spaces and quotes."""


_NONE = Conditions()
_WANTED = frozenset(
    (b"content-type", b"content-encoding", b"if-match", b"if-none-match", b"prefer")
)


def read_conditions(headers: Headers) -> Conditions:
    """Pick the headers out that matter; repeated ones are joined (RFC 9110 section 5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _WANTED:
            found[name] = found[name] + b", " + value if name in found else value
    if not found:
        return _NONE
    prefer = found.get(b"prefer")
    return Conditions(
        found.get(b"content-type"),
        found.get(b"content-encoding"),
        found.get(b"if-match"),
        found.get(b"if-none-match"),
        frozenset() if prefer is None else _preferences(prefer),
    )


def _preferences(value: bytes) -> frozenset[bytes]:
    wishes = (wish.partition(b";")[0] for wish in value.lower().split(b","))
    return frozenset(wish.replace(b" ", b"").replace(b'"', b"") for wish in wishes)


def matches(condition: bytes, tag: bytes, *, weak: bool) -> bool:
    """
    Whether an If-Match (``weak=False``) or If-None-Match (``weak=True``) value names ``tag``.

    RFC 9110 sections 13.1.1 and 13.1.2; a weak tag never matches strongly.
    """
    if condition.strip() == b"*":
        return True
    # Our tags are hexadecimal: no comma within one.
    for listed in condition.split(b","):
        candidate = listed.strip()
        if weak:
            candidate = candidate.removeprefix(b"W/")
        if candidate == tag:
            return True
    return False


def is_json(content_type: bytes) -> bool:
    """Whether a Content-Type says JSON in UTF-8."""
    if content_type == b"application/json":
        return True
    media_type, _, parameters = content_type.lower().partition(b";")
    if media_type.strip() != b"application/json":
        return False
    charset = parameters.replace(b" ", b"").replace(b'"', b"").partition(b"charset=")[2]
    return charset.partition(b";")[0] in (b"", b"utf-8", b"utf8", b"us-ascii")
