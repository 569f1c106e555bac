"""Running: an application on a listening socket, from the first connection to a bounded end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from atomicbatch.server.http.access_log import LineWriter
from atomicbatch.server.http.app import Application
from atomicbatch.server.http.connection import Connection
from atomicbatch.server.http.replies import STOPPING
from atomicbatch.server.http.traffic import Traffic

try:
    import uvloop

    _new_event_loop: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
except ModuleNotFoundError:  # pragma: no cover - Windows has none
    _new_event_loop = None

_log = logging.getLogger("atomicbatch.server")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOPPED, CUT_OFF = 0, 1
"""Exit statuses: every request under way was answered; some request was cut off."""
_POLL_SECONDS = 0.02
# How long what is cut off may take to roll back. A thread is given up after 0.75 s.
_ROLL_BACK_SECONDS = 1.0
# Work that was cut off is over by now, unless it hangs in COMMIT. Then it is given up as well.
_FINISH_SECONDS = 0.2
_CLOSE_SECONDS = 2.0
STOP_SECONDS = 4.0
"""How much longer than its ``drain_seconds`` a server takes to stop, at most."""
# After that the process ends by force, whatever hangs: the event loop, or a thread in the database.
_LAST_SECONDS = STOP_SECONDS - 0.5


class Server:
    """
    An application on a socket that already listens.

    Args:
        application: Answers the requests.
        listener: The socket.
        traffic: The connections and their bounds.
        drain_seconds: How long requests under way may take when the server is told to stop.
        ready: Called once, when the server answers.
        writer: The log, which is written out at the end.
    """

    def __init__(
        self,
        application: Application,
        listener: socket.socket,
        traffic: Traffic,
        *,
        drain_seconds: float,
        ready: Callable[[], None],
        writer: LineWriter | None = None,
    ) -> None:
        self._application = application
        self._listener = listener
        self._traffic = traffic
        self._drain_seconds = drain_seconds
        self._ready = ready
        self._writer = writer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = threading.Event()
        self._handling = False
        self._deadline = 0.0

    def run(self) -> int:
        """
        Serve until told to stop, by ``stop`` or, in the main thread, by SIGTERM or SIGINT.

        A second signal ends the process at once. As a last resort, a thread that depends on nothing
        else ends it ``drain_seconds`` and four seconds after the first one.

        Returns:
            The exit status: ``STOPPED`` or ``CUT_OFF``.
        """
        self._handling = threading.current_thread() is threading.main_thread()
        if self._handling:
            for number in SIGNALS:
                signal.signal(number, self._on_signal)
        with asyncio.Runner(loop_factory=_new_event_loop) as runner:
            return runner.run(self._serve())

    def stop(self, *, drain_seconds: float | None = None) -> None:
        """
        Refuse new requests, let those under way finish, and end. May be called from any thread.

        Args:
            drain_seconds: How long those may take; None: as long as the server was told at first.
        """
        if drain_seconds is not None:
            self._drain_seconds = drain_seconds
        self._deadline = time.monotonic() + self._drain_seconds
        self._told.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._begin_to_drain)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._told.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        threading.Thread(target=self._end_at_last, daemon=True, name="last").start()
        self.stop()

    def _end_at_last(self) -> None:
        time.sleep(self._drain_seconds + _LAST_SECONDS)
        self._tell("stopped by force: something did not end when its connection was cut")
        os._exit(CUT_OFF)

    def _tell(self, line: str) -> None:
        if self._writer is not None:
            self._writer.put(line)
            self._writer.close(seconds=0.3)

    def _begin_to_drain(self) -> None:
        self._application.draining = True
        if self._handling:
            # From now on a signal makes the kernel end the process, even if this thread is stuck.
            # Not earlier: a signal that comes while its handler is being changed is lost.
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        self._stopping.set()

    async def _serve(self) -> int:
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._loop = loop
        application, traffic = self._application, self._traffic
        server = await loop.create_server(
            lambda: Connection(application, traffic), sock=self._listener
        )
        clock = loop.create_task(traffic.keep_time())
        if self._told.is_set():
            self._begin_to_drain()
        if self._handling:
            # What is there now stays to the end. Long batches would have it looked at again and
            # again, for a tenth of their time.
            gc.collect()
            gc.freeze()
        self._ready()
        try:
            await self._stopping.wait()
            await self._drain()
            server.close()
            cut_off = await self._cut_off()
        finally:
            clock.cancel()
        closed = await self._close_database()
        if cut_off:
            seconds = f"{self._drain_seconds:g} seconds"
            self._tell(f"stopped after {seconds}: {cut_off} requests were cut off")
        if not closed:
            self._tell("stopped by force: the database did not let go of its connections")
            os._exit(CUT_OFF)
        if self._writer is not None:
            self._writer.close()
        return CUT_OFF if cut_off else STOPPED

    async def _drain(self) -> None:
        """Wait until whole requests are answered, and until clients have taken the answers."""
        connections: set[Any] = self._traffic.connections
        while any(connection.busy for connection in connections):
            if time.monotonic() > self._deadline:
                return
            await asyncio.sleep(_POLL_SECONDS)
        while connections and time.monotonic() < self._deadline:
            for connection in list(connections):
                connection.stop(STOPPING)
            await asyncio.sleep(_POLL_SECONDS)

    async def _cut_off(self) -> int:
        """End the requests that are left; return how many there were."""
        running = len(self._traffic.running)
        connections: set[Any] = self._traffic.connections
        unsent = sum(1 for connection in connections if connection.unsent_bytes())
        for connection in list(connections):
            connection.abort()  # which ends its request
        until = time.monotonic() + _ROLL_BACK_SECONDS
        while self._traffic.running and time.monotonic() < until:
            await asyncio.sleep(_POLL_SECONDS)
        return running + unsent

    async def _close_database(self) -> bool:
        """Close the database in a thread; return whether it was done in time."""
        closed = threading.Event()

        def close() -> None:
            self._application.close(_FINISH_SECONDS)
            closed.set()

        threading.Thread(target=close, daemon=True, name="close").start()
        deadline = time.monotonic() + _CLOSE_SECONDS
        while not closed.is_set() and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS / 4)
        return closed.is_set()
