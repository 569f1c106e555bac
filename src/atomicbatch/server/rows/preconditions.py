"""Conditions: what a call's headers ask of the server (RFC 9110 section 13, RFC 7240)."""

from __future__ import annotations

import re
from typing import NamedTuple

from atomicbatch.model import Header, Headers
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.rows.plan import One, Row, Steps
from atomicbatch.server.rows.preferences import NO_PREFERENCES, Preferences, read_preferences
from atomicbatch.server.rows.representation import etag
from atomicbatch.server.rows.resource import Resource


class Conditions(NamedTuple):
    """The headers of a call that matter to rows."""

    content_type: bytes | None = None
    content_encoding: bytes | None = None
    if_match: bytes | None = None
    if_none_match: bytes | None = None
    preferences: Preferences = NO_PREFERENCES

    @property
    def of_row(self) -> bool:
        """Whether there is a condition on the row as it is."""
        return self.if_match is not None or self.if_none_match is not None

    @property
    def prefer(self) -> frozenset[bytes]:
        """The wishes that are honoured, ``name=value``."""
        return self.preferences.wishes


_NONE = Conditions()
# What most calls with a body say, and nothing else.
ONLY_JSON = [(b"content-type", b"application/json")]
_JSON = Conditions(b"application/json")
WANTED = frozenset((b"content-type", b"content-encoding", b"if-match", b"if-none-match", b"prefer"))


def read_conditions(headers: Headers, honoured: frozenset[bytes]) -> Conditions:
    """
    Pick the headers out that matter; repeated ones are joined (RFC 9110 section 5.3).

    Args:
        headers: The call's.
        honoured: The preferences that the kind of call honours, one of ``preferences.ON_...``.

    Raises:
        RowFault: 400. A condition or preference is not understood, or cannot be honoured.
    """
    said = [header for header in headers if header[0] in WANTED]
    if not said:
        return _NONE
    if said == ONLY_JSON:
        return _JSON
    found: dict[bytes, bytes] = {}
    for name, value in said:
        found[name] = found[name] + b", " + value if name in found else value
    prefer = found.get(b"prefer")
    for name in (b"if-match", b"if-none-match"):
        if name in found:
            _check_tags(name, found[name])
    return Conditions(
        found.get(b"content-type"),
        found.get(b"content-encoding"),
        found.get(b"if-match"),
        found.get(b"if-none-match"),
        NO_PREFERENCES if prefer is None else read_preferences(prefer, honoured),
    )


# RFC 9110, section 8.8.3: an entity tag, blanks allowed within. Ours hold no comma. A list may
# have empty elements (section 5.6.1.2).
_TAG = rb'(?:W/)?"[^"\x00-\x1f\x7f]*"'
_TAGS = re.compile(
    rb"[ \t]*\*[ \t]*|[ \t,]*%b(?:[ \t]*,[ \t,]*%b)*[ \t]*(?:,[ \t,]*)?" % (_TAG, _TAG)
)


def _check_tags(name: bytes, value: bytes) -> None:
    # A quoted star, or a tag without quotes, would match nothing: then If-None-Match would hold
    # although its sender meant that it should not.
    if not _TAGS.fullmatch(value):
        said = "If-Match" if name == b"if-match" else "If-None-Match"
        raise RowFault(
            400, "invalid-precondition", f'{said} must be * or a list of quoted tags: "a", "b"'
        )


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


def no_conditions(conditions: Conditions) -> None:
    """
    Refuse If-Match and If-None-Match in a call that is not about one row.

    If they were ignored, the client would believe that they held.
    """
    if conditions.of_row:
        raise RowFault(
            400, "invalid-precondition", "If-Match and If-None-Match work on single rows only"
        )


def check_tag(tag: bytes, conditions: Conditions) -> None:
    """
    Check the conditions of a write against the row as it is.

    Raises:
        RowFault: 412.
    """
    if conditions.if_match is not None and not matches(conditions.if_match, tag, weak=False):
        raise precondition_failed()
    if conditions.if_none_match is not None and matches(conditions.if_none_match, tag, weak=True):
        raise precondition_failed()


def is_unchanged(tag: bytes, conditions: Conditions) -> bool:
    """
    Whether a read is answered with 304, since the client has what it asks for.

    Raises:
        RowFault: 412, of If-Match.
    """
    if conditions.if_match is not None and not matches(conditions.if_match, tag, weak=False):
        raise precondition_failed()
    return conditions.if_none_match is not None and matches(
        conditions.if_none_match, tag, weak=True
    )


def current_row(resource: Resource, conditions: Conditions, key: Row) -> Steps[Row | None]:
    """
    The row as it is, where a condition needs it, and checked against that condition; else None.

    Raises:
        RowFault: There is no such row, or the condition does not hold.
    """
    if not conditions.of_row:
        return None
    row: Row | None = yield One(resource.sql.select_by_key, key)
    if row is None:
        raise resource.no_row()
    check_tag(etag(resource.whole.one(row)), conditions)
    return row


def applied(conditions: Conditions, *kinds: bytes) -> list[Header]:
    """Preference-Applied for the preferences of these kinds (RFC 7240 section 3)."""
    if conditions.preferences is NO_PREFERENCES:
        return []
    applied = conditions.preferences.applied(*kinds)
    return [(b"preference-applied", applied)] if applied else []


def precondition_failed() -> RowFault:
    """The fault of a call whose condition does not hold."""
    return RowFault(
        412,
        "precondition-failed",
        "the row is not in the state that If-Match or If-None-Match asks for",
    )


def is_json(content_type: bytes) -> bool:
    """Whether a Content-Type says JSON in UTF-8."""
    if content_type == b"application/json":
        return True
    media_type, _, parameters = content_type.lower().partition(b";")
    if media_type.strip() != b"application/json":
        return False
    charset = parameters.replace(b" ", b"").replace(b'"', b"").partition(b"charset=")[2]
    return charset.partition(b";")[0] in (b"", b"utf-8", b"utf8", b"us-ascii")
