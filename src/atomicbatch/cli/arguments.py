"""Arguments: options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def variable_option(help_: str) -> Callable[[Any], Any]:
    """``--var NAME=VALUE``, as often as wanted."""
    return click.option(
        "--var", "variables", multiple=True, metavar="NAME=VALUE", callback=_variables, help=help_
    )


def header_option(help_: str) -> Callable[[Any], Any]:
    """``--header 'NAME: VALUE'``, as often as wanted."""
    return click.option(
        "--header", "headers", multiple=True, metavar="'NAME: VALUE'", callback=_headers, help=help_
    )


def _variables(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return _pairs(values, "=", fold=str)


def _headers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = _pairs(values, ":", fold=str.lower)
    return {name: value.strip() for name, value in pairs.items()}


def _pairs(
    values: tuple[str, ...], delimiter: str, *, fold: Callable[[str], str]
) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        name, found, rest = value.partition(delimiter)
        name = name.strip()
        if not found or not name:
            raise click.BadParameter(f"{value!r} is not of the form 'name{delimiter}value'")
        # Of two values for one name, only one would count.
        if fold(name) in map(fold, pairs):
            raise click.BadParameter(f"{name!r} is given twice")
        pairs[name] = rest
    return pairs
