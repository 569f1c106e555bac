"""
One adapter per database library; what unmodified handlers see.

    contract.py  the contract in words
    sqlalchemy/  SQLAlchemyTransaction: handlers that use SQLAlchemy
    drivers.py   DriverTransaction: handlers that use a driver, or a library on one
    sqlite/      the join of sqlite3's connections
    nested/      a transaction inside of a transaction: what a test stores, and batches in a test
    around.py    what batches are inside of
    standstill.py  whether an event loop has stood still since the time limit
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomicbatch.transactions.drivers import DriverTransaction

__all__ = ["DriverTransaction"]


def __getattr__(name: str) -> Any:
    # Late: whoever uses another adapter is spared the doors that this one puts into the drivers.
    if name == "DriverTransaction":
        from atomicbatch.transactions.drivers import DriverTransaction

        return DriverTransaction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
