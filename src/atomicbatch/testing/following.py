"""
Context variables that fall back: to the running test, where no context says anything else.

What a test starts, and what it uses, does not share a context with it: threads that were there
before, the portal of a test client, event loops that plugins of pytest's keep for a module. But
only one test runs at a time in a process. So where a variable is not set, it is what the test says.
It is never set for a test, so that nothing that outlives one belongs to it any more.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar, Token
from typing import Any, Final

_NOT_SET: Final = object()


class Following:
    """
    Takes the place of a context variable, for all that asks it.

    Args:
        variable: The variable. Its default must be None.

    Attributes:
        fallback: What it is where it is not set.
    """

    __slots__ = ("_variable", "fallback")

    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable
        self.fallback: Any = None

    def get(self) -> Any:
        """What it is here."""
        value = self._variable.get(_NOT_SET)
        return self.fallback if value is _NOT_SET else value

    def set(self, value: Any) -> Token[Any]:
        """Set it in this context; None: here is nothing, whatever the test says."""
        return self._variable.set(value)

    def reset(self, token: Token[Any]) -> None:
        """Put it back."""
        self._variable.reset(token)

    def put_in_place(self) -> None:
        """Let all of our modules ask it, also those that are imported later."""
        _replace(self._variable, self)

    def take_away(self) -> None:
        """Let them ask the variable again."""
        _replace(self, self._variable)


def _replace(old: object, new: object) -> None:
    # Copies, since other threads may be importing.
    for name, module in sys.modules.copy().items():
        if name.startswith("atomicbatch."):
            for attribute, value in vars(module).copy().items():
                if value is old:
                    setattr(module, attribute, new)
