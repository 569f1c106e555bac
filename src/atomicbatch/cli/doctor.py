"""``atomicbatch doctor``: which handlers of an app can run in a batch."""

from __future__ import annotations

from pathlib import Path

import click

from atomicbatch.cli.arguments import header_option, variable_option
from atomicbatch.cli.endings import UsageProblem, leave


@click.command()
@click.argument("app", metavar="MODULE:APP")
@click.option(
    "--http",
    "http_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Try the requests of an .http file. Default: those of the app's OpenAPI document, or of"
    " its routes.",
)
@header_option("Add a header to every call that does not have one of that name.")
@variable_option("Set a variable of the .http file.")
@click.option(
    "--prefix",
    metavar="PATH",
    help="Where the paths of the app's OpenAPI document begin, such as /api. Default: the doctor"
    " finds out.",
)
@click.option(
    "--openapi",
    "document",
    metavar="PATH",
    help="Where the app has its OpenAPI document, such as /api/schema. Default: the doctor finds"
    " out.",
)
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    metavar="HOST:PORT",
    help="Let handlers connect to this address, or change this file or folder. Everything else is"
    " refused.",
)
def doctor(
    app: str,
    *,
    http_file: Path | None,
    headers: dict[str, str],
    variables: dict[str, str],
    prefix: str | None,
    document: str | None,
    allowed: tuple[str, ...],
) -> None:
    """
    Find out which handlers of an app can run in an atomic batch: ASGI, WSGI or Django.

    The doctor tries each operation in a batch that is always rolled back. The exit status is 0 if
    nothing is unsafe, 1 if something is, and 2 if the app cannot be tried or no call could be
    judged.
    """
    from atomicbatch.doctor import DoctorError, examine

    try:
        examination = examine(
            app,
            http_file=http_file,
            headers=headers,
            variables=variables,
            prefix=prefix,
            document=document,
            allowed=allowed,
        )
    except DoctorError as error:
        raise UsageProblem(str(error)) from error
    for line in examination.lines():
        click.secho(line.coloured, fg=line.colour or None, bold=True, nl=False)
        click.echo(line.rest)
    leave(2 if not examination.judged else 0 if examination.good else 1)
