"""Words: what is refused is said for batches, by those who know best what it is; here for tests."""

from __future__ import annotations

# The longer ones first.
_FOR_TESTS = (
    ("in this batch", "in this test"),
    ("within the call", "within the test"),
    ("handlers use", "the test and the app use"),
    ("the handler", "the app"),
    ("a handler", "the test or the app"),
    ("the batch", "the test"),
    ("a batch", "a test"),
    ("outside=...", "atomicbatch_outside"),
)


def for_tests(text: str) -> str:
    """Say it of a test."""
    for of_batches, of_tests in _FOR_TESTS:
        text = text.replace(of_batches, of_tests)
    return text
