"""
Principal: who asks for a call.

Nobody can sign in yet: every call is anonymous. What will check tokens and keys is an ``Identify``
that the application is given; statements and the access log see what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from atomicbatch.model import Headers


class Principal(NamedTuple):
    """Somebody who has signed in."""

    name: str
    """For people and for the access log; never a secret."""


Identify = Callable[[Headers], Principal | None]
"""
A request's or call's headers -> who asks; None: nobody has signed in.

What it raises of our errors refuses the request before anything runs.
"""


def anonymous(headers: Headers) -> None:
    """Whatever the headers say, nobody has signed in."""
