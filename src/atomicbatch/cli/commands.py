"""Commands: all that ``atomicbatch`` can be told to do."""

from __future__ import annotations

import click

from atomicbatch import __version__
from atomicbatch.cli.check import check
from atomicbatch.cli.doctor import doctor
from atomicbatch.cli.sample import sample
from atomicbatch.cli.send import send
from atomicbatch.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="atomicbatch %(version)s")
def cli() -> None:
    """Many API calls in one request and one database transaction: all of them, or none."""


for _command in (serve, send, check, doctor, sample):
    cli.add_command(_command)
