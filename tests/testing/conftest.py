"""A database of each kind, as the oracle of libraries has them."""

from tests.transactions.drivers.conftest import store, stores

__all__ = ["store", "stores"]
