"""The command line: serve, send, check, doctor, sample."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from atomicbatch import __version__
from atomicbatch.limits import Limits, ServerLimits

try:
    import click
except ModuleNotFoundError:  # pragma: no cover - tested in an environment without it
    # Status 2, as for every other mistake: 1 would say that a batch is not committed.
    sys.stderr.write(
        "Error: the command line needs click: pip install 'atomicbatch[server]',"
        " or 'atomicbatch[client]' for send and check only\n"
    )
    sys.exit(2)


class UsageProblem(click.ClickException):
    """Something that the person at the keyboard can put right; exit status 2."""

    exit_code = 2


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    """Name the extra to install where a third-party package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageProblem(
            f"{error.name} is missing: pip install 'atomicbatch[{extra}]'"
        ) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="atomicbatch %(version)s")
def cli() -> None:
    """Many API calls in one request and one database transaction: all of them, or none."""


def _limits(
    _: click.Context, __: click.Parameter, values: tuple[str, ...]
) -> tuple[Limits, ServerLimits]:
    kinds = {field.name: kind for kind in (Limits, ServerLimits) for field in fields(kind)}
    chosen: dict[type, dict[str, Any]] = {Limits: {}, ServerLimits: {}}
    for value in values:
        name, _equals, number = value.partition("=")
        if name not in kinds:
            raise click.BadParameter(f"no limit {name!r}; there are {', '.join(kinds)}")
        read = float if name.endswith("_seconds") else int
        try:
            chosen[kinds[name]][name] = read(number)
        except ValueError:
            raise click.BadParameter(f"{name} must be a number, not {number!r}") from None
    try:
        return Limits(**chosen[Limits]), ServerLimits(**chosen[ServerLimits])
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@cli.command()
@click.argument("database")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Server processes.",
)
@click.option("--read-only", is_flag=True, help="Serve GET and HEAD only.")
@click.option(
    "--allow-anonymous",
    is_flag=True,
    help="Listen on addresses other than loopback, where anybody may read and change everything.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Take requests for this host too; any port unless one is named. Loopback names and the"
    " address listened on are always taken.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_limits,
    help="Set a bound, e.g. max_calls=5000 or timeout_seconds=60.",
)
@click.option(
    "--drain-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0, 86400),
    help="When told to stop: how long requests under way may take before they are cut off.",
)
@click.option("--quiet", is_flag=True, help="No access log; warnings and errors are still told.")
def serve(
    database: str,
    *,
    host: str,
    port: int,
    workers: int,
    read_only: bool,
    allow_anonymous: bool,
    allowed_hosts: tuple[str, ...],
    limits: tuple[Limits, ServerLimits],
    drain_seconds: float,
    quiet: bool,
) -> None:
    """
    Serve DATABASE as a REST API with atomic batches.

    DATABASE is the name of an SQLite file, or a URL: sqlite:///shop.sqlite,
    postgresql://user:password@host/name, mysql://user:password@host/name.
    """
    try:
        with _needs("server"):
            from atomicbatch.server.http import serve as server
    except KeyboardInterrupt:
        _not_served()
    try:
        status = server.serve(
            database,
            host=host,
            port=port,
            workers=workers,
            read_only=read_only,
            allow_anonymous=allow_anonymous,
            allowed_hosts=allowed_hosts,
            limits=limits[0],
            server_limits=limits[1],
            drain_seconds=drain_seconds,
            quiet=quiet,
        )
    except server.ServeError as error:
        raise UsageProblem(str(error)) from error
    except KeyboardInterrupt:
        _not_served()
    _exit(status)


def _not_served() -> NoReturn:
    """Ctrl-C during start: 128 and the signal's number, as shells have it."""
    click.echo("Stopped before it served.", err=True)
    _exit(128 + signal.SIGINT)


def _pairs(delimiter: str) -> Callable[..., dict[str, str]]:
    of_headers = delimiter == ":"
    fold = str.lower if of_headers else str

    def read(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
        pairs: dict[str, str] = {}
        for value in values:
            name, found, rest = value.partition(delimiter)
            name = name.strip()
            if not found or not name:
                raise click.BadParameter(f"{value!r} is no 'name{delimiter}value'")
            # Only one of two would count.
            if fold(name) in map(fold, pairs):
                raise click.BadParameter(f"{name!r} is given twice")
            pairs[name] = rest.strip() if of_headers else rest
        return pairs

    return read


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", help="Server to send to; default: the one that the file's URLs name.")
@click.option("--path", default="/v1/api/batch", show_default=True, help="The batch endpoint.")
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", callback=_pairs("="),
    help="Set a variable of the file.",
)  # fmt: skip
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", callback=_pairs(":"),
    help="Add a header to the outer request; it applies to every call.",
)  # fmt: skip
@click.option(
    "--timeout", default=60.0, show_default=True, help="Seconds to wait for the answer.",
    type=click.FloatRange(min=0, min_open=True),
)  # fmt: skip
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
    with _needs("client"):
        from atomicbatch.client.send import SendError, send_file
    from atomicbatch.client.http_file import HttpFileError

    try:
        sent = send_file(
            file,
            url=url,
            path_of_endpoint=path,
            variables=variables,
            headers=headers,
            timeout_seconds=timeout,
        )
    except (HttpFileError, SendError) as error:
        raise UsageProblem(str(error)) from error
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        for line in sent.lines(verbose=verbose):
            click.secho(line.text, bold=line.bold, fg=line.colour)
    except OSError:
        # Nobody reads on, as in "send | head". The status still tells what became of the batch,
        # so Python must not fail again when it flushes at its end.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:
        click.echo(f"the replies cannot be shown: {error!r}", err=True)
    _exit(sent.exit_status)


@cli.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--content-type",
    help="Content-Type of the batch; default: the file's own, else guessed from its start.",
)
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", callback=_pairs("="),
    help="Set a variable of an .http file.",
)  # fmt: skip
def check(file: Any, content_type: str | None, variables: dict[str, str]) -> None:
    """
    Say whether FILE is a batch, and if not, what is wrong where.

    FILE holds the body of a batch request, or the whole request with its headers; "-" is standard
    input. A FILE whose name ends in .http or .rest is read as "send" reads it. Nothing is sent. The
    exit status is 0 for a batch, 1 for anything else, 2 if FILE cannot be read.
    """
    from atomicbatch.client.check import check_batch, check_http_file

    if file.name.lower().endswith((".http", ".rest")):
        found = check_http_file(Path(file.name), variables)
    else:
        found = check_batch(file.read(), content_type=content_type)
    click.echo(found.text)
    _exit(0 if found.good else 1)


@cli.command()
@click.argument("app", metavar="MODULE:APP")
@click.option(
    "--http", "http_file", metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Try the requests of an .http file instead of those that the app's OpenAPI document has.",
)  # fmt: skip
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", callback=_pairs(":"),
    help="Add a header to every call that has none of that name itself.",
)  # fmt: skip
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", callback=_pairs("="),
    help="Set a variable of the .http file.",
)  # fmt: skip
@click.option(
    "--prefix", metavar="PATH",
    help="Where the paths of the app's OpenAPI document begin, such as /api; default: found out.",
)  # fmt: skip
@click.option(
    "--allow", "allowed", multiple=True, metavar="HOST:PORT",
    help="Let handlers talk to this address, or change this file or folder; others are refused.",
)  # fmt: skip
def doctor(
    app: str,
    *,
    http_file: Path | None,
    headers: dict[str, str],
    variables: dict[str, str],
    prefix: str | None,
    allowed: tuple[str, ...],
) -> None:
    """
    Tell which handlers of an ASGI app can run in an atomic batch.

    Each operation is tried as a batch that is always rolled back. The exit status is 0 if nothing
    is unsafe, 1 if something is, 2 if the app cannot be tried or no call could be judged.
    """
    with _needs("sqlalchemy"):
        from atomicbatch.doctor import DoctorError, examine
    try:
        examination = examine(
            app,
            http_file=http_file,
            headers=headers,
            variables=variables,
            prefix=prefix,
            allowed=allowed,
        )
    except DoctorError as error:
        raise UsageProblem(str(error)) from error
    for line in examination.lines():
        click.secho(line.coloured, fg=line.colour or None, bold=True, nl=False)
        click.echo(line.rest)
    _exit(2 if not examination.judged else 0 if examination.good else 1)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def sample(file: Path) -> None:
    """Make a sample shop in a new SQLite FILE."""
    with _needs("server"):
        from atomicbatch.server.sample import create_sample
    try:
        create_sample(file)
    except FileExistsError:
        raise UsageProblem(f"{file} exists already; it is left as it is") from None
    except OSError as error:
        raise UsageProblem(f"cannot make {file}: {error.strerror}") from error
    click.echo(f"made {file}; serve it with: atomicbatch serve {file}")


def _exit(status: int) -> NoReturn:
    raise SystemExit(status)


def main() -> None:
    """Entry point of the ``atomicbatch`` command."""
    try:
        cli(prog_name="atomicbatch")
    except KeyboardInterrupt:  # before click, or while it ended
        _exit(128 + signal.SIGINT)
