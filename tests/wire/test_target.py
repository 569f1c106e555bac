"""Targets: the paths that no call may have (SPEC 2.4, 2.6), and lines both ways."""

from __future__ import annotations

import pytest

from atomicbatch.errors import MalformedError
from atomicbatch.wire.target import Target, TargetReader, write_request_line


@pytest.mark.parametrize(
    "path",
    [
        b"/a/b",
        b"/a/b/",
        b"/a/b//",
        b"/a//b",
        b"/a/./b",
        b"/x/../a/b",
        b"/%61/%62",
        b"/a%2Fb",
        b"/a%5cb",
        b"/a/b/.",
        b"/a/b/c/..",
        b"/a/b/%2e",
        b"/%2e/a/b",
        b"/a/b%2F",
        b"/a/x%2f%2e%2e/b",
    ],
)
def test_paths_to_the_batch_endpoint(path: bytes) -> None:
    """However it is spelt, the batch endpoint is no target; and neither if it is mounted oddly."""
    for mounted in (b"/a/b", b"/a/b/", b"/%61/b"):
        with pytest.raises(MalformedError, match="batch endpoint"):
            TargetReader([mounted]).read(b"POST " + path)
    assert TargetReader([b"/a"]).read(b"POST " + path).path == path


@pytest.mark.parametrize(
    "path",
    [b"/..", b"/a/../..", b"/%2E%2e/", b"/a%2f%2e./../b", b"/..%5ca", b"/./..", b"/a//../.."],
)
def test_paths_out_of_the_root(path: bytes) -> None:
    """No spelling of dot segments climbs out of the root."""
    with pytest.raises(MalformedError, match="climbs"):
        TargetReader().read(b"GET " + path)


@pytest.mark.parametrize(
    "target",
    [
        Target("GET", b"/", b""),
        Target("M-SEARCH", b"/a/%2e%2e/b", b"c=d&e"),
        Target("get", b"/a+b;c=d", b"?/../"),
    ],
)
def test_what_is_written_is_read_again(target: Target) -> None:
    """A request line says what its target says, no less and no more."""
    assert TargetReader().read(write_request_line(target)) == target


@pytest.mark.parametrize(
    "target",
    [
        Target("G T", b"/", b""),
        Target("GET", b"//a", b""),
        Target("GET", b"/a?b", b"c"),
        Target("GET", b"/a", b"b HTTP/1.1\r\nX: y"),
    ],
)
def test_what_would_be_read_otherwise_is_not_written(target: Target) -> None:
    """A target that is none, or would become another one, is refused."""
    with pytest.raises(ValueError, match="no request line"):
        write_request_line(target)
