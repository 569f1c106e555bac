"""``atomicbatch sample``: a shop to send first batches to."""

from __future__ import annotations

from pathlib import Path

import click

from atomicbatch.cli.endings import UsageProblem, needs


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def sample(file: Path) -> None:
    """Make a sample shop in a new SQLite FILE."""
    with needs("server"):
        from atomicbatch.server.sample import create_sample
    try:
        create_sample(file)
    except FileExistsError:
        raise UsageProblem(f"{file} exists already and was not changed") from None
    except OSError as error:
        raise UsageProblem(f"cannot make {file}: {error.strerror}") from error
    click.echo(f"made {file}; serve it with: atomicbatch serve {file}")
