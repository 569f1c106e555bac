"""Around: what an adapter's batches are nested in, where something keeps all that an app stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atomicbatch.model import Batch

Nest = Callable[[Batch, float], Any]
"""Given a batch and its deadline, makes the block of one attempt; None: it is nested in nothing."""


def _in_nothing(_: Batch, __: float) -> None:
    return None


def _no_layer() -> None:
    return None


class Around:
    """
    Who keeps what the app stores, at the moment: a test's transaction, say.

    Attributes:
        nest: Asked when a batch begins.
        layer: Tells what code that runs now belongs to: what drivers' doors ask, or None.
    """

    __slots__ = ("layer", "nest")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nobody keeps it any more."""
        self.nest: Nest = _in_nothing
        self.layer: Callable[[], Any] = _no_layer


around = Around()
"""That of this process."""
