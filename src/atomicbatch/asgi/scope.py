"""Scope: where the calls of one batch go, and the ASGI scope that each of them gets."""

from __future__ import annotations

from copy import copy
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from atomicbatch.asgi.types import App, Scope
from atomicbatch.model import Call

# What a call takes from the outer request; the rest of its scope is its own. Anything else there
# (router, endpoint, path_params, session, user, ...) belongs to the outer request alone.
_FROM_OUTER = ("http_version", "scheme", "client", "server")


class Target(NamedTuple):
    """Where the calls of one batch go."""

    app: App
    root_path: str
    """The prefix that the app is mounted at, as ASGI's ``root_path``."""
    prefixed: bool
    """The scope's ``path`` holds the prefix: current servers and Starlette; old ones cut it off."""

    def path_of(self, call: Call) -> bytes:
        """Write the call's path in the form that the outer request's path had."""
        if not self.root_path:
            return call.path
        prefix = quote(self.root_path.rstrip("/")).encode()
        inside = call.path.startswith(prefix + b"/") or call.path == prefix
        if self.prefixed:
            return call.path if inside else prefix + call.path
        return call.path[len(prefix) :] or b"/" if inside else call.path


class CallScopes:
    """
    Makes the scopes of the calls of one batch.

    Args:
        target: Where they go.
        outer: The batch request's scope, as it was when it reached us.
    """

    def __init__(self, target: Target, outer: Scope) -> None:
        self._path_of = target.path_of if target.root_path else None
        self._outer = outer
        self._base: dict[str, object] = {
            "type": "http",
            "http_version": "1.1",
            "root_path": target.root_path,
        }
        self._base |= {name: outer[name] for name in _FROM_OUTER if name in outer}

    def scope(self, call: Call) -> Scope:
        """Make a call's scope. All in it that an app may change is the call's own."""
        method, path, query, headers, _, _ = call
        if self._path_of is not None:
            path = self._path_of(call)
        decoded = unquote_to_bytes(path) if b"%" in path else path
        scope: Scope = {
            **self._base,
            # From 2.4 on an app learns of a hang-up from send() and does not poll receive().
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "method": method,
            "path": decoded.decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "headers": [*headers],
            "extensions": {},
        }
        if "state" in self._outer:
            state = self._outer["state"]
            scope["state"] = state.copy() if type(state) is dict else copy(state)
        return scope
