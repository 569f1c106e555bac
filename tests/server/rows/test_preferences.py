"""Prefer: what is honoured, what is refused, and that nothing is stored then."""

from __future__ import annotations

from typing import Any

import pytest

from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.rows.preferences import (
    ON_CHANGES,
    ON_CREATES,
    ON_LISTS,
    ON_ROWS,
    read_preferences,
)
from tests.server.served import Served, call

NEW = [{"sku": f"new {n}", "name": "New"} for n in range(3)]
# Each changes, creates or deletes so many rows: what a write without a limit does.
WRITES: list[tuple[str, str, Any, str, int]] = [
    ("PATCH", "/v1/api/items?id=lte.3", {"stock": 99}, "", 3),
    ("PATCH", "/v1/api/items?id=lte.3", {"stock": 99}, "return=minimal", 3),
    ("PATCH", "/v1/api/items/1", {"stock": 99}, "", 1),
    ("PUT", "/v1/api/items/1", {"sku": "x", "name": "x"}, "return=minimal", 1),
    ("PUT", "/v1/api/items/50", {"sku": "x", "name": "x"}, "", 1),
    ("DELETE", "/v1/api/items?id=gte.2", None, "", 2),
    ("DELETE", "/v1/api/items?id=gte.2", None, "return=representation", 2),
    ("DELETE", "/v1/api/items/3", None, "", 1),
    ("POST", "/v1/api/items", NEW, "", 3),
    ("POST", "/v1/api/items", NEW[0], "return=minimal", 1),
    ("POST", "/v1/api/items", [{"id": 1, "sku": "m", "name": "m"}, NEW[0]],
     "resolution=merge-duplicates", 2),
    ("POST", "/v1/api/items", [{"id": 1, "sku": "m", "name": "m"}, NEW[0]],
     "resolution=ignore-duplicates", 1),
]  # fmt: skip
EVERYTHING = "SELECT * FROM items ORDER BY id"


def test_max_affected(shop: Served) -> None:
    """A write that reaches more rows is 400 and rolled back; one that reaches as many is done."""
    shop.request("DELETE", "/v1/api/items?id=gt.3")
    before = shop.rows(EVERYTHING)
    for method, target, body, prefer, count in WRITES:
        for handling in ("", ", handling=strict"):
            wish = f"{prefer}, max-affected={count - 1}{handling}"
            refused = shop.request(method, target, body, prefer=wish)
            assert refused.status_code == 400, (method, target, prefer)
            assert refused.json()["type"].endswith(":too-many-affected")
            assert f"max-affected={count - 1} " in refused.json()["detail"]
            assert shop.rows(EVERYTHING) == before
    headers = [(b"prefer", b"max-affected=1")]
    response, replies = shop.batch(
        call("POST", "/v1/api/items", NEW[0]),
        call("DELETE", "/v1/api/items?id=lte.2", headers=headers),
    )
    assert response.headers["batch-outcome"] == "rolled-back; failed=2; status=400"
    assert [reply.status for reply in replies] == [424, 400]
    assert shop.rows(EVERYTHING) == before


@pytest.mark.parametrize("write", WRITES, ids=lambda write: f"{write[0]} {write[1]} {write[3]}")
def test_a_write_within_max_affected(write: tuple[str, str, Any, str, int], shop: Served) -> None:
    """It is done, and Preference-Applied says that the limit held."""
    method, target, body, prefer, count = write
    wish = f"{prefer}, max-affected={count}, handling=strict"
    done = shop.request(method, target, body, prefer=wish)
    assert done.is_success, done.text
    applied = done.headers["preference-applied"].split(", ")
    assert {f"max-affected={count}", "handling=strict"} <= set(applied)
    assert set(applied) == {part.strip() for part in wish.split(",") if part.strip()}


def test_lenient_handling_turns_the_limit_off(shop: Served) -> None:
    """As with PostgREST; Preference-Applied does not claim it."""
    done = shop.request(
        "DELETE", "/v1/api/items?id=gte.1", prefer="max-affected=1,handling=lenient"
    )
    assert done.status_code == 204
    assert "preference-applied" not in done.headers


REFUSED = [
    (ON_CHANGES, b"tx=rollback"),
    (ON_CHANGES, b"return=minimal, TX=commit"),
    (ON_CHANGES, b"all-errors"),
    (ON_LISTS, b"diff"),
    (ON_CHANGES, b"max-affected"),
    (ON_CHANGES, b"max-affected="),
    (ON_CHANGES, b"max-affected=-1"),
    (ON_CHANGES, b"max-affected=1.5"),
    (ON_CHANGES, b"max-affected=x, handling=lenient"),
    (ON_CHANGES, b"max-affected=" + b"9" * 19),
    (ON_CHANGES, b"max-affected=1, max-affected=5"),
    (ON_CHANGES, b"return=minimal, return=representation"),
    (ON_CHANGES, b"handling=lenient, handling=strict"),
    (ON_CHANGES, b"handling=strickt"),
    (ON_CREATES, b"resolution=merge"),
    (ON_CREATES, b"resolution=merge-duplicates, resolution=ignore-duplicates"),
    # Nothing but what is honoured:
    (ON_CHANGES, b"handling=strict, foo"),
    (ON_CHANGES, b"foo=bar; x=y, handling=strict"),
    (ON_CHANGES, b"handling=strict, count=exact"),
    (ON_CHANGES, b"handling=strict, resolution=merge-duplicates"),
    (ON_CHANGES, b"handling=strict, return=headers-only"),
    (ON_CHANGES, b"handling=strict, respond-async"),
    (ON_CREATES, b"handling=strict, missing=null"),
    (ON_CREATES, b"handling=strict, timezone=UTC"),
    (ON_LISTS, b"handling=strict, count=planned"),
    (ON_LISTS, b"handling=strict, return=minimal"),
    (ON_ROWS, b"handling=strict, count=exact"),
    # What is behind a quote that does not end may be meant either way.
    (ON_CHANGES, b'foo="bar, max-affected=1'),
    (ON_CHANGES, b'max-affected=1; foo="bar, handling=lenient'),
]


@pytest.mark.parametrize(
    ("honoured", "value"),
    REFUSED,
    ids=lambda given: repr(sorted(given) if isinstance(given, frozenset) else given),
)
def test_what_is_refused(honoured: frozenset[bytes], value: bytes) -> None:
    """400, with the preference's name."""
    with pytest.raises(RowFault) as caught:
        read_preferences(value, honoured)
    assert (caught.value.status, caught.value.slug) == (400, "invalid-preference")


def test_a_refused_preference_stores_nothing(shop: Served) -> None:
    """Not in a plain request, and not in a batch, where it may be in several header lines."""
    before = shop.rows(EVERYTHING)
    for prefer in ("tx=rollback", "handling=strict, foo", "max-affected=one"):
        for method, target, body, _, _ in WRITES:
            assert shop.request(method, target, body, prefer=prefer).status_code == 400
            headers = [(b"prefer", b"return=minimal"), (b"prefer", prefer.encode())]
            response, _ = shop.batch(call(method, target, body, headers=headers))
            assert response.headers["batch-outcome"] == "rolled-back; failed=1; status=400"
    outer, _ = shop.batch(call("DELETE", "/v1/api/items/3"), prefer="handling=strict, foo")
    assert outer.headers["batch-outcome"] == "rolled-back; failed=1; status=400"
    assert shop.rows(EVERYTHING) == before


@pytest.mark.parametrize(
    ("honoured", "value", "applied"),
    [
        (ON_CHANGES, b"", b""),
        (ON_CHANGES, b" , foo; bar, wait=1, wait=2", b""),
        (ON_CHANGES, b'Return="Minimal"; x', b"return=minimal"),
        (ON_CHANGES, b"return=minimal, return = minimal", b"return=minimal"),
        (ON_CHANGES, b"return=headers-only", b""),
        (ON_CHANGES, b"max-affected=007", b"max-affected=7"),
        (ON_CREATES, b"missing=default, handling=strict", b"handling=strict"),
        # What is in quotes is one value, whatever it looks like.
        (ON_CHANGES, b'max-affected=1, foo="a, handling=lenient"', b"max-affected=1"),
        (ON_CHANGES, b'foo="a;, \\", handling=lenient"; b=",", max-affected=1', b"max-affected=1"),
        (ON_CREATES, b'foo="a, resolution=merge-duplicates"', b""),
        (
            ON_LISTS,
            b"return=representation, handling=strict",
            b"handling=strict, return=representation",
        ),
    ],
    ids=lambda given: repr(sorted(given) if isinstance(given, frozenset) else given),
)
def test_what_is_honoured(honoured: frozenset[bytes], value: bytes, applied: bytes) -> None:
    """What was honoured, no more, is told."""
    assert read_preferences(value, honoured).applied(b"return=", b"resolution=") == applied
