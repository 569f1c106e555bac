"""
Supervisor: the parent of several server processes on one listening socket.

It starts the workers, replaces those that die, and stops all of them when it is told to stop.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from atomicbatch.server.http.running import SIGNALS

_log = logging.getLogger("atomicbatch.server")
# A worker that could not be replaced is tried again after this long.
_AGAIN_SECONDS = 1.0
# A dying process closes its files a moment before it has a status; a busy machine adds to it.
_DEATH_SECONDS = 1.0


class StartError(Exception):
    """No worker could start; the message is the first one's."""


@dataclass(slots=True)
class Line:
    """
    A worker's line to its parent.

    Attributes:
        up: Takes True once the worker serves, or a text that says why it cannot.
        parent: Comes to its end when the parent is gone, however it went.
    """

    up: Connection
    parent: Connection

    def report_serving(self) -> None:
        """Tell the parent that the worker serves."""
        self._send(True)

    def report_failure(self, why: str) -> None:
        """Tell the parent why the worker cannot serve."""
        self._send(why)

    def _send(self, report: bool | str) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, which ``watch_parent`` sees
            self.up.send(report)

    def watch_parent(self, gone: Callable[[], None]) -> None:
        """Call ``gone``, in a thread of its own, when the parent is gone."""
        threading.Thread(
            target=self._wait_for_end, args=(gone,), daemon=True, name="parent"
        ).start()

    def _wait_for_end(self, gone: Callable[[], None]) -> None:
        with contextlib.suppress(EOFError, OSError):
            self.parent.recv()
        gone()


@dataclass(slots=True)
class _Worker:
    """A worker, as the parent sees it."""

    process: SpawnProcess
    up: Connection
    serving: bool = False


class Supervisor:
    """
    Keeps ``count`` workers running until SIGTERM or SIGINT, then stops them.

    A worker that dies is replaced. Before the first one has served, it is not: a server that cannot
    start must not try for ever.

    Args:
        count: How many processes.
        work: What each runs: ``work(*arguments, line)``. It ends on SIGTERM, with status 0 if it
            has cut nothing off.
        arguments: They are sent to the processes, and must be picklable.
        ready: Called once, when the first worker serves.
        stop_seconds: How long the workers may take to stop before they are killed.
    """

    def __init__(
        self,
        count: int,
        work: Callable[..., None],
        arguments: tuple[Any, ...],
        *,
        ready: Callable[[], None],
        stop_seconds: float,
    ) -> None:
        self._count = count
        self._work = work
        self._arguments = arguments
        self._ready = ready
        self._stop_seconds = stop_seconds
        # spawn, not fork: the parent has opened the database, whose connections are not shared.
        self._context = multiprocessing.get_context("spawn")
        self._stopped, self._stop = self._context.Pipe(duplex=False)
        # Nothing is ever sent: the kernel closes our end when we die, and the workers see it.
        self._parent, self._alive = self._context.Pipe(duplex=False)
        self._workers: list[_Worker] = []
        self._has_served = False
        self._signal: int | None = None

    def run(self) -> int:
        """
        Run until told to stop. A second signal kills all processes at once.

        Returns:
            0 if every worker has stopped with nothing cut off, else 1; minus the signal if it came
            before the first served.

        Raises:
            StartError: A worker could not start, and none had served.
        """
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        try:
            for _ in range(self._count):
                self._start_worker()
            while self._signal is None:
                self._wait()
        finally:
            clean = self._stop_workers()
        if not self._has_served:
            return -int(self._signal or 0)
        return 0 if clean else 1

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._signal is None:
            self._signal = number
            self._stop.send(True)
            return
        self._kill_workers()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _start_worker(self) -> None:
        up, child_up = self._context.Pipe(duplex=False)
        line = Line(child_up, self._parent)
        process = self._context.Process(target=self._work, args=(*self._arguments, line))
        with _without_interrupts():
            process.start()
        child_up.close()
        self._workers.append(_Worker(process, up))

    def _wait(self) -> None:
        """Wait for a signal, a report or a death, and act on it."""
        starting = {worker.up: worker for worker in self._workers if not worker.serving}
        sentinels = [worker.process.sentinel for worker in self._workers]
        again = _AGAIN_SECONDS if len(self._workers) < self._count else None
        happened = wait([self._stopped, *starting, *sentinels], again)
        if self._signal is not None:
            return
        for up in [up for up in starting if up in happened]:
            self._take_report(starting[up])
        for worker in [w for w in self._workers if w.process.sentinel in happened]:
            self._replace(worker)
        if not happened:
            self._start_worker()

    def _take_report(self, worker: _Worker) -> None:
        try:
            report = worker.up.recv()
        except EOFError:
            return  # it is dead, which its sentinel says too
        if report is not True:
            if not self._has_served:
                raise StartError(report)
            _log.error("a worker cannot start: %s", report)
            return
        worker.serving = True
        if not self._has_served:
            self._has_served = True
            self._ready()

    def _replace(self, dead: _Worker) -> None:
        dead.process.join(_DEATH_SECONDS)
        status = dead.process.exitcode
        if not self._has_served:
            raise StartError(f"a worker process ended with status {status}")
        dead.up.close()
        self._workers.remove(dead)
        if dead.serving:
            _log.error("worker %s died with status %s: replaced", dead.process.pid, status)
            self._start_worker()

    def _stop_workers(self) -> bool:
        """Stop all workers; whether each has stopped by itself with nothing cut off."""
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        self._kill_workers()
        for worker in self._workers:
            worker.process.join()
        return all(worker.process.exitcode == 0 for worker in self._workers if worker.serving)

    def _kill_workers(self) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.kill()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """
    Start processes that do not get Ctrl-C, which a terminal sends to all processes of a group.

    It is meant for the parent, which tells the others. They inherit the signal mask, so that it
    holds from their first moment.
    """
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - Windows
        yield
        return
    # If it were started together with the first process, it would let the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
