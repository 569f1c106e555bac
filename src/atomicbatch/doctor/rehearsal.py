"""Rehearsals: the transaction that an app is examined with. It leaves nothing alone."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from atomicbatch.engine import as_one
from atomicbatch.guard import Allowed
from atomicbatch.guard.places import of_url
from atomicbatch.join.diagnosis import Used
from atomicbatch.transactions import DriverTransaction

_BOTH = "[SQLAlchemyTransaction(), DriverTransaction()]"
_NOTHING = Allowed()


class Rehearsal(NamedTuple):
    """A transaction for batches of which nothing may be stored."""

    transaction: Any
    """Begins it, for sync code and for async code."""
    outside: Collection[object]
    """What the app's own batches leave alone, as ``Used.place`` has it. Here it takes part."""
    named: Allowed = _NOTHING
    """What they leave alone by name, and what takes no part here either."""
    adapters: str = ""
    """What to give AtomicBatch for it; empty: the app's own was used."""

    def leaves_alone(self, used: Used) -> bool:
        """Tell whether the app's own batches leave a database alone."""
        return used.place in self.outside


def rehearsal_of(own: Any) -> Rehearsal:
    """
    Make the transaction to examine an app with.

    Args:
        own: That of the app's own AtomicBatch, or a list of them; None: the app has none. Then
            whatever library it uses takes part, if batches can have it at all.
    """
    transaction = everything() if own is None else as_one(own)
    adapters = ""
    if own is None:
        is_alone = isinstance(transaction, DriverTransaction)
        adapters = "DriverTransaction()" if is_alone else _BOTH
    rehearse = getattr(transaction, "rehearsal", None)
    named = Allowed.of(transaction)
    outside = {*named.places, *_engines(getattr(transaction, "outside", ()))}
    return Rehearsal(transaction if rehearse is None else rehearse(), outside, named, adapters)


def everything() -> Any:
    """Make a transaction that all libraries take part in which the app has imported."""
    drivers = DriverTransaction()
    if "sqlalchemy" not in sys.modules:
        return drivers
    try:
        from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
    except ImportError:  # one that is too old; its engines take part by their drivers
        return drivers
    both: list[Any] = [SQLAlchemyTransaction(), drivers]
    return as_one(both)


def _engines(outside: Collection[Any]) -> Iterator[object]:
    """An engine takes part by itself, known by its URL, or by its driver, known by its place."""
    for one in outside:
        url = getattr(one, "url", None)
        if url is not None:
            yield url
            try:
                yield of_url(url.render_as_string(hide_password=False))
            except ValueError:
                continue  # of a kind whose drivers have no doors
