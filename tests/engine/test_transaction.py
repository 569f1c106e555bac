"""Transactions that an endpoint makes one of."""

from __future__ import annotations

from typing import Any

import pytest

from atomicbatch.engine import as_one
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction


@pytest.mark.parametrize("make", [list, tuple])
def test_one_is_what_it_is(make: Any) -> None:
    """Alone or as a sequence."""
    one = DriverTransaction()
    assert as_one(one) is one
    assert as_one(make([one])) is one


def test_two_that_know_each_other() -> None:
    """In either order."""
    pair: list[Any] = [SQLAlchemyTransaction(), DriverTransaction()]
    made = [type(as_one(order)).__name__ for order in (pair, pair[::-1])]
    assert made == ["Together", "Together"]


def test_others_are_a_mistake() -> None:
    """None, two of a kind, or more than two."""
    drivers, engines = DriverTransaction(), SQLAlchemyTransaction()
    for transactions in ([], [drivers, drivers], [engines, engines], [engines, drivers, drivers]):
        given: Any = transactions
        with pytest.raises(TypeError, match="an app has one transaction"):
            as_one(given)


def test_a_class_is_a_mistake() -> None:
    """Alone or in a sequence; the message says what to write instead."""
    for given in (DriverTransaction, [SQLAlchemyTransaction(), DriverTransaction]):
        transaction: Any = given
        with pytest.raises(TypeError, match=r"a class: give what it makes, DriverTransaction\(\)"):
            as_one(transaction)
