"""Preferences: what the outer headers ask of the batch as a whole, and which of it is refused."""

from __future__ import annotations

from atomicbatch.errors import UnsupportedError
from atomicbatch.model import Headers
from atomicbatch.wire.inherit import BATCH_PREFERENCES, read_preferences

# What the contract has a name for and this version does not do (SPEC 6). Ignored, the batch would
# be kept where it should only be tried, or run twice where it should run once.
_UNSUPPORTED = {
    b"idempotency-key": "Idempotency-Key: a batch that is sent twice runs twice",
    b"repeatability-request-id": "Repeatability-Request-ID: a batch that is sent twice runs twice",
    b"batch-references": "Batch-References: calls cannot refer to earlier replies",
    b"batch-if": "Batch-If: there are no dry runs",
}
_REFUSED_PREFERENCES = frozenset({b"tx", b"all-errors", b"diff"})
_OVERRIDES = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})


def refuse_unsupported(headers: Headers) -> None:
    """
    Refuse what the outer headers ask for and batches do not do.

    Raises:
        UnsupportedError: There is such a header, or a preference about the batch as a whole that
            would decide what is kept; with ``Prefer: handling=strict``, any preference about the
            batch.
    """
    preferences: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name in _UNSUPPORTED:
            raise UnsupportedError(f"{_UNSUPPORTED[name]}. Send the batch without that header")
        if name in _OVERRIDES and value.upper() != b"POST":
            raise UnsupportedError(f"{name.decode().title()}: a batch is sent with POST")
        if name == b"prefer":
            preferences += read_preferences(value)
    is_strict = (b"handling", b"strict") in preferences
    for preference, _ in preferences:
        if preference in _REFUSED_PREFERENCES or (is_strict and preference in BATCH_PREFERENCES):
            raise UnsupportedError(f"Prefer: {preference.decode()} is not supported")
