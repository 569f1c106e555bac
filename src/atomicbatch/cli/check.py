"""``atomicbatch check``: whether a file is a batch, and if not, what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from atomicbatch.cli.arguments import variable_option
from atomicbatch.cli.endings import leave


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--content-type",
    help="Content-Type of the batch. Default: the one in FILE; if there is none, it is guessed"
    " from the first delimiter.",
)
@variable_option("Set a variable of an .http file.")
def check(file: Any, content_type: str | None, variables: dict[str, str]) -> None:
    """
    Check whether FILE is a batch, and show what is wrong if it is not.

    FILE holds the body of a batch request, or the whole request with its headers; "-" is standard
    input. If its name ends in .http or .rest, it is read as "send" reads it. Nothing is sent. The
    exit status is 0 for a batch, 1 for anything else, and 2 if FILE cannot be read.
    """
    from atomicbatch.client.check import check_batch, check_http_file

    if file.name.lower().endswith((".http", ".rest")):
        found = check_http_file(Path(file.name), variables)
    else:
        found = check_batch(file.read(), content_type=content_type)
    click.echo(found.text)
    leave(0 if found.good else 1)
