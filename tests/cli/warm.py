"""
A process that has imported ``atomicbatch`` already, and forks for each command it is asked for.

It reads a line of JSON for each, and answers with a line: the exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys

MODULES = (
    "atomicbatch.cli.commands",
    "atomicbatch.client.send",
    "atomicbatch.server.http.serve",
    "httpx",
)


def become(arguments: list[str], folder: str, files: list[str]) -> None:
    """Be the command from here on: end as it ends."""
    signal.alarm(60)
    os.chdir(folder)
    flags = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
    for number, (file, flag) in enumerate(zip(files, flags, strict=True)):
        os.dup2(os.open(file, flag), number)
    sys.argv = ["atomicbatch", *arguments]
    main = importlib.import_module("atomicbatch.cli").main
    main()


def serve() -> None:
    for name in MODULES:
        importlib.import_module(name)
    # Line by line: what is read ahead would be the command's input.
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            become(**json.loads(line))
            sys.exit(0)
        status = os.waitpid(child, 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
