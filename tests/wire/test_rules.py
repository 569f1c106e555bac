"""Rules: what becomes of a header by its name; what they remember is bounded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atomicbatch.wire import rules
from atomicbatch.wire.rules import Fate, Rules


@pytest.mark.parametrize(
    ("name", "fate"),
    [
        (b"authorization", Fate.INHERITED),
        (b"x-forwarded-for", Fate.INHERITED),
        (b"batch-references", Fate.INHERITED),
        (b"accept", Fate.SHARED),
        (b"prefer", Fate.SHARED),
        (b"content-type", Fate.KEPT_OUTSIDE),
        (b"batch-if", Fate.KEPT_OUTSIDE),
        (b"connection", Fate.CONNECTION),
    ],
)
def test_fates(name: bytes, fate: Fate) -> None:
    """A name has the same fate each time it is asked for."""
    own = Rules()
    assert [own.fate_of(name) for _ in range(2)] == [fate, fate]


def test_the_reference_lists_them() -> None:
    """Each name that a call cannot set stands in the reference; prefixes end in a star there."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "wire-format.md"
    listed = {name.lower() for name in re.findall(r"`([A-Za-z0-9-]+\*?)`", page.read_text("utf-8"))}
    names = {name.decode() for name in rules._NOT_OVERRIDABLE}
    prefixes = {f"{prefix.decode()}*" for prefix in rules._NOT_OVERRIDABLE_PREFIXES}
    assert len(names) + len(prefixes) > 60
    assert names | prefixes <= listed


def test_one_endpoint_does_not_change_another() -> None:
    """What one endpoint protects, a call to another one may set."""
    strict, other = Rules(not_overridable=[b"X-Tenant"]), Rules()
    for _ in range(2):
        assert not strict.may_set(b"x_tenant")
        assert other.may_set(b"x_tenant")


def test_names_are_remembered_within_bounds() -> None:
    """A client that makes up names fills no memory, and changes no answer."""
    own = Rules()
    for number in range(5000):
        name = b"remote-%d" % number if number % 2 else b"x-%d" % number
        assert own.may_set(name) is not bool(number % 2)
        assert own.fate_of(name) is Fate.INHERITED
    own.may_set(b"x" * 1_000_000)
    own.fate_of(b"x" * 1_000_000)
    assert sum(map(len, [*own.settable, *own.fates])) < 100_000
