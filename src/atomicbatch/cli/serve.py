"""``atomicbatch serve``: a database as a REST API with atomic batches."""

from __future__ import annotations

import signal
from dataclasses import fields
from typing import Any, NoReturn

import click

from atomicbatch.cli.endings import UsageProblem, leave, needs
from atomicbatch.limits import Limits, ServerLimits


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


@click.command()
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
    help="Number of server processes.",
)
@click.option("--read-only", is_flag=True, help="Serve GET and HEAD only.")
@click.option(
    "--allow-anonymous",
    is_flag=True,
    help="Listen on an address that is not loopback. Anybody who reaches it may read and change"
    " everything.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Also accept requests for this host, on any port unless one is named. Loopback names and"
    " the address listened on are always accepted.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_limits,
    help="Set a limit, for example max_calls=5000 or timeout_seconds=60.",
)
@click.option(
    "--drain-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0, 86400),
    help="When told to stop: how long the requests under way may take before they are cut off.",
)
@click.option("--quiet", is_flag=True, help="No access log; warnings and errors are still written.")
def serve(database: str, *, limits: tuple[Limits, ServerLimits], **options: Any) -> None:
    """
    Serve DATABASE as a REST API with atomic batches.

    DATABASE is the name of an SQLite file, or a URL: sqlite:///shop.sqlite,
    postgresql://user:password@host/name, mysql://user:password@host/name.
    """
    try:
        with needs("server"):
            from atomicbatch.server.http import serve as server
    except KeyboardInterrupt:
        _stopped_early()
    try:
        # The other options have the names that the server gives them.
        status = server.serve(database, limits=limits[0], server_limits=limits[1], **options)
    except server.ServeError as error:
        raise UsageProblem(str(error)) from error
    except KeyboardInterrupt:
        _stopped_early()
    leave(status)


def _stopped_early() -> NoReturn:
    """Ctrl-C during the start: 128 plus the number of the signal, as shells have it."""
    click.echo("Stopped before it served.", err=True)
    leave(128 + signal.SIGINT)
