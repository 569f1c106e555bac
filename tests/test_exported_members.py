"""What users may import is in ``__all__``, sorted, and there."""

from __future__ import annotations

import importlib

import pytest

import atomicbatch


@pytest.mark.parametrize(
    "name",
    [
        "atomicbatch",
        "atomicbatch.asgi",
        "atomicbatch.engine",
        "atomicbatch.exchange",
        "atomicbatch.testing",
    ],
)
def test_all_is_sorted_and_there(name: str) -> None:
    """Every name in ``__all__`` exists, once, in alphabetical order."""
    module = importlib.import_module(name)
    assert sorted(set(module.__all__)) == module.__all__
    assert all(hasattr(module, member) for member in module.__all__)


def test_nothing_public_is_forgotten() -> None:
    """Every class that the front door shows is in its ``__all__``."""
    shown = {name for name, value in vars(atomicbatch).items() if isinstance(value, type)}
    assert shown <= set(atomicbatch.__all__)
