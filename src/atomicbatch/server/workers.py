"""Workers: several server processes on one listening socket."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

_log = logging.getLogger("atomicbatch.server")


def run_workers(
    count: int,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    *,
    ready: Callable[[], None],
) -> None:
    """
    Keep ``count`` processes running until SIGTERM or SIGINT, then stop them cleanly.

    A process that dies is replaced; one that dies before it has served is not, so that a server
    that cannot start does not start forever.

    Args:
        target: What each runs: ``target(*arguments, up)``; it sends ``True`` to the connection
            ``up`` once it serves, and ends on SIGTERM.
        ready: Called once, when the first process serves.

    Raises:
        RuntimeError: A process died before it served.
    """
    # spawn, not fork: the parent has opened the database, whose connections must not be shared.
    context = multiprocessing.get_context("spawn")
    stopped, stop = context.Pipe(duplex=False)

    def start() -> tuple[SpawnProcess, Connection]:
        up, child_up = context.Pipe(duplex=False)
        process = context.Process(target=target, args=(*arguments, child_up))
        process.start()
        child_up.close()
        return process, up

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.send(True))
    running = [start() for _ in range(count)]
    serving: set[int | None] = set()
    try:
        while True:
            starting = {up: process for process, up in running if process.pid not in serving}
            sentinels = {process.sentinel: process for process, _ in running}
            happened = wait([stopped, *starting, *sentinels])
            if stopped in happened:
                return
            for event in happened:
                if event in starting and _is_up(event):
                    if not serving:
                        ready()
                    serving.add(starting[event].pid)
            for dead, up in [pair for pair in running if pair[0].sentinel in happened]:
                if dead.pid not in serving:
                    raise RuntimeError(f"a worker process ended with status {dead.exitcode}")
                _log.error("worker %s died with status %s: replaced", dead.pid, dead.exitcode)
                up.close()
                running.remove((dead, up))
                running.append(start())
    finally:
        for process, _ in running:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)
        for process, _ in running:
            process.join()


def _is_up(up: Any) -> bool:
    try:
        return bool(up.recv())
    except EOFError:
        return False
