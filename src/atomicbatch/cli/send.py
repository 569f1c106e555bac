"""``atomicbatch send``: the requests of an ``.http`` file as one batch."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from atomicbatch.cli.arguments import header_option, variable_option
from atomicbatch.cli.endings import UsageProblem, leave, needs
from atomicbatch.client.answer import Answer, lost_answer
from atomicbatch.client.http_file import HttpFile, HttpFileError, read_http_file
from atomicbatch.client.report import answer_lines
from atomicbatch.model import Fate

EXIT_STATUS = {Fate.COMMITTED: 0, Fate.ROLLED_BACK: 1, Fate.DRY_RUN: 1, Fate.UNKNOWN: 3}
"""What became of the batch, as the shell is told. 2, as for every mistake, says: not sent."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", help="The server. Default: the one that the URLs in FILE name.")
@click.option("--path", default="/v1/api/batch", show_default=True, help="The batch endpoint.")
@variable_option("Set a variable of the file.")
@header_option("Add a header to the batch request. It applies to every call.")
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="How many seconds to wait for the answer.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the headers of each reply.")
def send(
    file: Path,
    *,
    url: str | None,
    path: str,
    variables: dict[str, str],
    headers: dict[str, str],
    timeout: float,
    verbose: bool,
) -> None:
    """
    Send all requests of an .http FILE as one atomic batch.

    Prints each reply, and the outcome on the last line. The exit status is 0 if the batch was
    committed, 1 if it was not, 2 if it was not sent, and 3 if nobody knows: it may be stored.
    """
    with needs("client"):
        from atomicbatch.client.send import SendError, send_calls
    try:
        http_file = read_http_file(file, variables)
    except HttpFileError as error:
        raise UsageProblem(str(error)) from error
    try:
        answer = send_calls(
            http_file.calls,
            server=_server(http_file, file, url),
            batch_path=path,
            headers=headers,
            timeout_seconds=timeout,
        )
    except SendError as error:
        raise UsageProblem(str(error)) from error
    except KeyboardInterrupt:
        answer = lost_answer("nobody waited for the answer")
    _show(http_file, answer, verbose=verbose)
    leave(EXIT_STATUS[answer.fate])


def _server(http_file: HttpFile, path: Path, url: str | None) -> str:
    server = url or http_file.origin
    if server is None:
        raise UsageProblem(f"{path} names no server in its URLs: add --url http://host:port")
    return server


def _show(file: HttpFile, answer: Answer, *, verbose: bool) -> None:
    """Print the answer. Whatever happens here, the exit status still tells the batch's fate."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        for line in answer_lines(file, answer, verbose=verbose):
            click.secho(line.text, bold=line.bold, fg=line.colour)
    except OSError:
        # Nobody reads on, as in "send | head". Python flushes standard output at its end, and
        # would end with another status if that failed.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:
        click.echo(f"the replies cannot be shown: {error!r}", err=True)
