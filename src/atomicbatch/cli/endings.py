"""Endings: how a command ends, by its exit status or by a mistake of the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click


class UsageProblem(click.ClickException):
    """A mistake that the user can put right; exit status 2."""

    exit_code = 2


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Name the extra to install when an import inside the block does not find its package."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageProblem(
            f"{error.name} is missing: pip install 'atomicbatch[{extra}]'"
        ) from error


def leave(status: int) -> NoReturn:
    """End the process with this exit status."""
    raise SystemExit(status)
