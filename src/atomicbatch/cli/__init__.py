"""
The command line: ``atomicbatch serve | send | check | doctor | sample``, a module for each.

``commands.py`` gathers the commands. ``arguments.py`` reads the options that several of them
share, and ``endings.py`` has the ways in which a command ends.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the ``atomicbatch`` command, and end the process with its exit status."""
    try:
        # Imported here so that Ctrl-C during the import ends like any other Ctrl-C.
        try:
            from atomicbatch.cli.commands import cli
        except ModuleNotFoundError as error:
            if error.name != "click":
                raise
            # Status 2, as for every other mistake: 1 would say that a batch is not committed.
            sys.stderr.write(
                "Error: the command line needs click: pip install 'atomicbatch[server]',"
                " or 'atomicbatch[client]' for send and check only\n"
            )
            sys.exit(2)
        cli(prog_name="atomicbatch")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
