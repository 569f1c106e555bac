"""Scope: what a call's scope has, in which form its path is, and that it is the call's own."""

from __future__ import annotations

from typing import Any

import pytest

from atomicbatch import Call
from atomicbatch.asgi.scope import CallScopes, Target
from tests.asgi.asking import call, scope_of


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("target", "path", "expected"),
    [
        (Target(app, "", True), b"/a", b"/a"),
        (Target(app, "/api", True), b"/apia", b"/api/apia"),
        (Target(app, "/api", True), b"/api", b"/api"),
        (Target(app, "/api", False), b"/api", b"/"),
        (Target(app, "/api", False), b"/apia", b"/apia"),
        (Target(app, "/a b", True), b"/a%20b/c", b"/a%20b/c"),
        (Target(app, "/a b", True), b"/c", b"/a%20b/c"),
    ],
)
def test_path_of(target: Target, path: bytes, expected: bytes) -> None:
    """A prefix ends at a slash, and is compared as it is written in a URL."""
    assert target.path_of(Call("GET", path, b"", (), b"")) == expected


def test_what_an_app_changes_does_not_show_in_the_next_call() -> None:
    """Each scope, and each collection in it, is the call's own; so is the outer scope."""
    outer = scope_of("/batch", ())
    before = repr(outer)
    scopes, one = CallScopes(Target(app, "", True), outer), call("GET", "/a")
    first = scopes.scope(one)
    expected = repr(first)
    assert type(first["headers"]) is list
    first["new"] = 1
    for value in first.values():
        if isinstance(value, dict):
            value["changed"] = True
        elif isinstance(value, list):
            value.append((b"x", b"y"))
    assert repr(scopes.scope(one)) == expected
    assert repr(outer) == before


class State:
    """A state of a server's own, which is no dict."""

    def __init__(self, pool: str) -> None:
        self.pool = pool


@pytest.mark.parametrize("state", [{"pool": "shared"}, State("shared"), None])
def test_the_state_is_a_copy(state: Any) -> None:
    """Whatever it is: the same things in it, in a collection of its own."""
    scope = CallScopes(Target(app, "", True), {"type": "http", "state": state}).scope(
        call("GET", "/")
    )
    assert type(scope["state"]) is type(state)
    if state is not None:
        assert scope["state"] is not state
        assert (vars(state) if isinstance(state, State) else state) == (
            vars(scope["state"]) if isinstance(state, State) else scope["state"]
        )


@pytest.mark.parametrize(
    ("path", "decoded"),
    [(b"/a", "/a"), (b"/a%20b", "/a b"), (b"/%C3%A9", "/\xe9"), (b"/\xc3\xa9", "/\xe9")],
)
def test_paths_are_decoded(path: bytes, decoded: str) -> None:
    """Percent-encoded or not, as servers do."""
    scope = CallScopes(Target(app, "", True), {}).scope(Call("GET", path, b"", (), b""))
    assert (scope["path"], scope["raw_path"]) == (decoded, path)
