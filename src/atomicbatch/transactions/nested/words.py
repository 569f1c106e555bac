"""Words: what is refused is said for batches, by those who know best what it is; here for tests."""

from __future__ import annotations

from atomicbatch.advice import Advice

_LOADED = "the pytest plugin was loaded"
_LOAD_FIRST = (
    "open it in a fixture or a test, or let pytest load the plugin first (-p "
    "atomicbatch.testing.plugin)"
)
IN_TESTS = Advice(
    use_own="let the test open connections by a driver that takes part",
    allow='if it may stay, allow it by name: atomicbatch_outside = ["{name}"]',
    give_other="name the other one in atomicbatch_outside",
    set_level="let the app's connections be opened with {level}",
    watched_since=_LOADED,
    watch_first=_LOAD_FIRST,
    joins_since=_LOADED,
    join_first=_LOAD_FIRST,
)
"""What to do instead of what is refused in a test."""

# The longer ones first.
_FOR_TESTS = (
    ("a call cannot be part of a batch: it", "the test or the app"),
    ("outside of batches", "outside of tests"),
    ("in this batch", "in this test"),
    ("within the call", "within the test"),
    ("handlers use", "the test and the app use"),
    ("the handler", "the app"),
    ("a handler", "the test or the app"),
    ("the batch", "the test"),
    ("a batch", "a test"),
)


def for_tests(text: str) -> str:
    """Say it of a test."""
    for of_batches, of_tests in _FOR_TESTS:
        text = text.replace(of_batches, of_tests)
    return text
