"""Workers: several server processes on one listening socket, and the parent that keeps them."""

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

_log = logging.getLogger("atomicbatch.server")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A worker that could not be replaced is tried again after this long.
_AGAIN_SECONDS = 1.0


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

    def tell(self, what: bool | str) -> None:
        """Tell the parent that the worker serves (True), or why it cannot."""
        with contextlib.suppress(OSError):  # the parent is gone, which ``watch`` sees
            self.up.send(what)

    def tell_up(self) -> None:
        """Tell the parent that the worker serves."""
        self.tell(True)

    def watch(self, gone: Callable[[], None]) -> None:
        """Call ``gone``, in a thread of its own, when the parent is gone."""

        def wait_for_end() -> None:
            with contextlib.suppress(EOFError, OSError):
                self.parent.recv()
            gone()

        threading.Thread(target=wait_for_end, daemon=True, name="parent").start()


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    up: Connection
    serving: bool = False


class Workers:
    """
    Keeps ``count`` processes running until SIGTERM or SIGINT, then stops them.

    A process that dies is replaced. Where none has served yet, one that dies is not: a server
    that cannot start does not start for ever.

    Args:
        target: What each runs: ``target(*arguments, line)``. It ends on SIGTERM, with status 0
            if it has cut nothing off.
        ready: Called once, when the first process serves.
        stop_seconds: How long they may take to stop before they are killed.
    """

    def __init__(
        self,
        count: int,
        target: Callable[..., None],
        arguments: tuple[Any, ...],
        *,
        ready: Callable[[], None],
        stop_seconds: float,
    ) -> None:
        self._count = count
        self._target = target
        self._arguments = arguments
        self._ready = ready
        self._stop_seconds = stop_seconds
        # spawn, not fork: the parent has opened the database, whose connections are not shared.
        self._context = multiprocessing.get_context("spawn")
        self._stopped, self._stop = self._context.Pipe(duplex=False)
        # Nothing is ever sent: the kernel closes our end when we die, and the workers see it.
        self._parent, self._alive = self._context.Pipe(duplex=False)
        self._workers: list[_Worker] = []
        self._served = False
        self._signal: int | None = None

    def run(self) -> int:
        """
        Run until told to stop. A second signal kills all processes at once.

        Returns:
            0 if every worker has stopped with nothing cut off, else 1; minus the signal if it came
            before the first served.

        Raises:
            StartError: A process could not start, and none had served.
        """
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        try:
            for _ in range(self._count):
                self._start()
            while self._signal is None:
                self._wait()
        finally:
            clean = self._end()
        if not self._served:
            return -int(self._signal or 0)
        return 0 if clean else 1

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._signal is None:
            self._signal = number
            self._stop.send(True)
            return
        self._kill()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _start(self) -> None:
        up, child_up = self._context.Pipe(duplex=False)
        line = Line(child_up, self._parent)
        process = self._context.Process(target=self._target, args=(*self._arguments, line))
        with _without_interrupts():
            process.start()
        child_up.close()
        self._workers.append(_Worker(process, up))

    def _wait(self) -> None:
        """Wait until something happens, and see to it."""
        ups = {worker.up: worker for worker in self._workers if not worker.serving}
        sentinels = [worker.process.sentinel for worker in self._workers]
        again = _AGAIN_SECONDS if len(self._workers) < self._count else None
        happened = wait([self._stopped, *ups, *sentinels], again)
        if self._signal is not None:
            return
        for up in [up for up in ups if up in happened]:
            self._heard(ups[up])
        for dead in [w for w in self._workers if w.process.sentinel in happened]:
            self._bury(dead)
        if not happened:
            self._start()

    def _heard(self, worker: _Worker) -> None:
        try:
            told = worker.up.recv()
        except EOFError:
            return  # it is dead, which its sentinel says too
        if told is not True:
            if not self._served:
                raise StartError(told)
            _log.error("a worker cannot start: %s", told)
            return
        worker.serving = True
        if not self._served:
            self._served = True
            self._ready()

    def _bury(self, dead: _Worker) -> None:
        status = dead.process.exitcode
        if not self._served:
            raise StartError(f"a worker process ended with status {status}")
        dead.up.close()
        self._workers.remove(dead)
        if dead.serving:
            _log.error("worker %s died with status %s: replaced", dead.process.pid, status)
            self._start()

    def _end(self) -> bool:
        """Stop all processes; whether each has stopped by itself with nothing cut off."""
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        self._kill()
        for worker in self._workers:
            worker.process.join()
        return all(worker.process.exitcode == 0 for worker in self._workers if worker.serving)

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.kill()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """
    Start processes that do not see Ctrl-C, which a terminal sends to all processes of a group.

    It is for the parent, which tells them. The mask is inherited, and there from the first moment.
    """
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - Windows
        yield
        return
    # Started with the first process, it would let the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
