"""Policy: whether a batch goes on after a failed call, and whether its work is kept at the end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    The rules by which one batch runs. A batch with a failed call is never kept, whatever they say.

    A dry run has ``keeps=False``; ``goes_on=True`` shows every error of a batch at once (SPEC 6.3
    and 6.4).
    """

    goes_on: bool = False
    """
    After a failed call the next one is performed. The transaction must then protect each call by
    a savepoint of its own. After an error of the transaction itself no batch goes on.
    """
    keeps: bool = True
    """A batch whose calls have all succeeded is committed; else it is undone all the same."""


NORMAL = Policy()
"""The first failed call stops the batch; a batch without one is committed."""
