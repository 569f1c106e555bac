"""
A link of a given length to a database server: a proxy in a process of its own.

It holds back what goes either way for so many milliseconds, and counts round trips: how often a
client sends something after it has been answered. ``python -m benchmarks.link`` measures what the
proxy itself adds.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_PR_SET_TIMERSLACK = 29  # <linux/prctl.h>
_BEGUN = "listening on "


class Link:
    """A running proxy: commands are lines on its standard input, answers on its output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._answer().removeprefix(_BEGUN))

    def set_delay(self, milliseconds: float) -> None:
        """Hold back each way for so long."""
        self._ask(f"delay {milliseconds}")

    def trips(self) -> int:
        """How many round trips there have been so far."""
        return int(self._ask("trips"))

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def link(port: int, *, milliseconds: float = 0) -> Iterator[Link]:
    """A proxy in front of a port of this machine."""
    command = [sys.executable, "-m", "benchmarks.link", str(port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_root()
    ) as process:
        made = Link(process)
        made.set_delay(milliseconds)
        try:
            yield made
        finally:
            process.terminate()
            process.wait(10)


def round_trip_ms(milliseconds: float, times: int = 50) -> float:
    """How long a round trip over such a link takes: the median, of an echo in this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := peer.recv(100):
                    peer.sendall(data)

        thread = threading.Thread(target=echo)
        thread.start()
        with (
            link(listener.getsockname()[1], milliseconds=milliseconds) as made,
            socket.create_connection(("127.0.0.1", made.port)) as client,
        ):
            found = [_seconds_of_echo(client) for _ in range(times)]
        thread.join()
    return statistics.median(found) * 1000


def _seconds_of_echo(client: socket.socket) -> float:
    start = time.perf_counter()
    client.sendall(b"x")
    client.recv(100)
    return time.perf_counter() - start


def _root() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _Side:
    """One socket of a pair; ``waiting`` is what the other one has sent, and when it may go."""

    def __init__(self, own: socket.socket, *, is_client: bool) -> None:
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own.setblocking(False)
        self.socket = own
        self.is_client = is_client
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.is_answered = True
        self.is_full = False
        self.other: _Side


class Proxy:
    """The process's work, in one thread. ``select`` waits by the microsecond, epoll does not."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sides: dict[socket.socket, _Side] = {}
        self._seconds = 0.0
        self._trips = 0
        _say(f"{_BEGUN}{self._listener.getsockname()[1]}")

    def run(self) -> None:
        """Work until standard input ends."""
        while True:
            self._send_what_is_due()
            full = [side.socket for side in self._sides.values() if side.is_full]
            sources: list[Any] = [sys.stdin, self._listener, *self._sides]
            readable, _, _ = select.select(sources, full, [], self._next_seconds())
            for source in readable:
                if source is sys.stdin:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    self._obey(line)
                elif source is self._listener:
                    self._accept()
                elif (side := self._sides.get(source)) is not None:
                    self._receive(side)

    def _obey(self, line: str) -> None:
        name, _, value = line.strip().partition(" ")
        if name == "delay":
            self._seconds = float(value) / 1000
        _say(str(self._trips))

    def _accept(self) -> None:
        client = _Side(self._listener.accept()[0], is_client=True)
        server = _Side(socket.create_connection(("127.0.0.1", self._target)), is_client=False)
        client.other, server.other = server, client
        self._sides |= {client.socket: client, server.socket: server}

    def _receive(self, side: _Side) -> None:
        try:
            data = side.socket.recv(262144)
        except OSError:
            data = b""
        if side.is_client and data:
            self._trips += side.is_answered
            side.is_answered = False
        elif data:
            side.other.is_answered = True
        else:
            # Its own ears are closed; what it has sent still goes out.
            self._sides.pop(side.socket)
        side.other.waiting.append((time.monotonic() + self._seconds, data))

    def _send_what_is_due(self) -> None:
        now = time.monotonic()
        for side in list(self._sides.values()):
            side.is_full = False
            while side.waiting and side.waiting[0][0] <= now and not side.is_full:
                self._send(side)

    def _send(self, side: _Side) -> None:
        due, data = side.waiting.popleft()
        if not data:
            self._end(side)
            return
        try:
            count = side.socket.send(data)
        except BlockingIOError:
            count, side.is_full = 0, True
        except OSError:
            self._end(side)
            return
        if count < len(data):
            side.waiting.appendleft((due, data[count:]))

    def _end(self, side: _Side) -> None:
        for one in (side, side.other):
            self._sides.pop(one.socket, None)
            one.waiting.clear()
            with suppress(OSError):
                one.socket.close()

    def _next_seconds(self) -> float | None:
        due = [
            side.waiting[0][0] for side in self._sides.values() if side.waiting and not side.is_full
        ]
        return max(0.0, min(due) - time.monotonic()) if due else None


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    if len(sys.argv) == 2:
        with suppress(AttributeError, OSError):  # not Linux
            # Else the kernel may wake us 50 microseconds late.
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        Proxy(int(sys.argv[1])).run()
        return
    for milliseconds in (0, 1, 10):
        print(f"{milliseconds} ms each way: {round_trip_ms(milliseconds):.2f} ms a round trip")


if __name__ == "__main__":
    main()
