"""
A proxy between a client and a database server that stalls, loses and garbles on command.

::

    with proxied(postgresql_url) as (proxy, url):
        engine = create_engine(url)
        proxy.when(b"COMMIT", Fault.STOP, at=At.ANSWER)
        ...                          # COMMIT is performed, its answer never comes
        assert proxy.happened.wait(10)
        proxy.resume()

At once: ``stop`` (nothing is forwarded, sockets stay open, new connections are not answered),
``resume``, ``drop`` (close), ``reset`` (TCP RST), ``garble`` (the next answer), ``delay`` (all
answers), ``hold`` (all answers, until the client has sent something), ``refuse`` (new connections),
``silence`` (new connections are accepted, never answered).
Or ``when`` the client sends given bytes: instead of the request, or instead of its answer.
Every method returns after it has taken effect. All sockets belong to one thread.
"""

from __future__ import annotations

import contextlib
import math
import queue
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum

import sqlalchemy as sa


class Fault(Enum):
    """What happens to a connection, or to an answer."""

    STOP = "stop"
    DROP = "drop"
    RESET = "reset"
    GARBLE = "garble"


class At(Enum):
    """Where a fault strikes."""

    REQUEST = "request"
    """The bytes that were waited for do not reach the server."""
    ANSWER = "answer"
    """The server has the bytes and has answered; the answer does not reach the client."""


def flipped(data: bytes) -> bytes:
    """Garble an answer: every bit is flipped."""
    return bytes(byte ^ 0xFF for byte in data)


class _Side:
    """One socket of a pair: what it has sent goes out at the other one."""

    def __init__(self, own: socket.socket, *, is_client: bool) -> None:
        self.socket = own
        self.is_client = is_client
        self.other: _Side
        # (not before this time.monotonic(), bytes)
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.last = b""
        self.ended = False
        # Of a client: it has had an answer since it last sent something.
        self.is_answered = True
        # What is to become of the next bytes.
        self.next: Fault | None = None


class Proxy:
    """
    Forwards one port to another, faithfully until told otherwise; a context manager.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        happened: Set when a fault of ``when`` has struck.
        connections: How many connections it has accepted so far.
        trips: How often a client has sent something and then waited for an answer, so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._selector = selectors.DefaultSelector()
        self._sides: set[_Side] = set()
        self._unanswered: list[socket.socket] = []
        self._orders: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]]
        self._orders = queue.SimpleQueue()
        self._bell, self._button = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._triggers: list[tuple[bytes, Fault, At]] = []
        self._garble: Callable[[bytes], bytes] = flipped
        self._garble_next = False
        self._delay_seconds = 0.0
        self._held_until = b""
        self._stopped = self._silent = self._closed = False
        self.happened = threading.Event()
        self.connections = self.trips = 0
        self.port = 0
        self._listener: socket.socket | None = None
        self._listen()
        self._thread = threading.Thread(target=self._work, name="proxy")

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close)
        self._thread.join()

    # Commands ----------------------------------------------------------------------------------

    def when(
        self,
        sent: bytes,
        fault: Fault,
        *,
        at: At,
        garble: Callable[[bytes], bytes] = flipped,
    ) -> None:
        """
        Let a fault strike once, when a client sends ``sent``.

        Args:
            sent: Bytes that may come in several pieces, in any connection.
            fault: What happens; STOP stops the whole proxy, the others one connection.
            at: Instead of forwarding those bytes, or instead of forwarding their answer.
            garble: For GARBLE: what the first bytes of the answer become.
        """

        def order() -> None:
            self.happened.clear()
            self._garble = garble
            self._triggers.append((sent, fault, at))

        self._do(order)

    def stop(self) -> None:
        """Forward nothing more, and answer no new connection, until ``resume``."""
        self._do(lambda: setattr(self, "_stopped", True))

    def resume(self) -> None:
        """Forward again what has come meanwhile, and take new connections; forget triggers."""

        def order() -> None:
            self._stopped = self._silent = self._garble_next = False
            self._delay_seconds = 0.0
            self._triggers.clear()
            self._let_go()
            if self._listener is None:
                self._listen()

        self._do(order)

    def drop(self) -> None:
        """Close all connections."""
        self._do(lambda: self._end_all(reset=False))

    def reset(self) -> None:
        """End all connections by TCP RST."""
        self._do(lambda: self._end_all(reset=True))

    def garble(self, how: Callable[[bytes], bytes] = flipped) -> None:
        """Corrupt the next bytes that a server sends."""

        def order() -> None:
            self._garble, self._garble_next = how, True

        self._do(order)

    def delay(self, seconds: float) -> None:
        """Hold back each answer for so long."""
        self._do(lambda: setattr(self, "_delay_seconds", seconds))

    def hold(self, until: bytes) -> None:
        """Hold back all answers until a client sends ``until``: whoever waits before has lost."""
        self._do(lambda: setattr(self, "_held_until", until))

    def refuse(self) -> None:
        """Refuse new connections; those that there are stay."""

        def order() -> None:
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None

        self._do(order)

    def silence(self) -> None:
        """Accept new connections and never say a word on them; those that there are stay."""
        self._do(lambda: setattr(self, "_silent", True))

    def _let_go(self) -> None:
        self._held_until = b""
        for side in self._sides:
            side.waiting = deque((0.0, data) for _, data in side.waiting)

    # The thread --------------------------------------------------------------------------------

    def _do(self, order: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.put((order, done))
        self._button.send(b"!")
        if not done.wait(30):
            raise TimeoutError("the proxy does not obey")

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)

    def _work(self) -> None:
        try:
            while not self._closed:
                self._look_again()
                for key, events in self._selector.select(self._seconds()):
                    if key.fileobj is self._bell:
                        self._obey()
                    elif key.fileobj is self._listener:
                        self._accept()
                    elif key.data in self._sides:
                        if events & selectors.EVENT_READ:
                            self._receive(key.data)
                        if events & selectors.EVENT_WRITE and key.data in self._sides:
                            self._send(key.data)
        finally:
            self._end_all(reset=False)
            self._selector.close()
            listener = () if self._listener is None else (self._listener,)
            for own in (*self._unanswered, *listener, self._bell, self._button):
                own.close()

    def _close(self) -> None:
        self._closed = True

    def _obey(self) -> None:
        self._bell.recv(1)
        order, done = self._orders.get()
        order()
        done.set()

    def _seconds(self) -> float | None:
        """How long to wait at most: until the next answer that is held back may go."""
        due = [side.waiting[0][0] for side in self._sides if side.waiting]
        due = [at for at in due if at != math.inf]
        return None if self._stopped or not due else max(0.0, min(due) - time.monotonic())

    def _look_again(self) -> None:
        """Choose what to listen to: nothing that could not be passed on."""
        if self._listener is not None:
            self._watch(self._listener, 0 if self._stopped else selectors.EVENT_READ, None)
        now = time.monotonic()
        for side in self._sides:
            events = 0
            if not self._stopped:
                if not side.ended and not side.other.waiting:
                    events |= selectors.EVENT_READ
                if side.waiting and side.waiting[0][0] <= now:
                    events |= selectors.EVENT_WRITE
            self._watch(side.socket, events, side)

    def _watch(self, own: socket.socket, events: int, side: _Side | None) -> None:
        known = self._selector.get_map().get(own)
        if known is None:
            if events:
                self._selector.register(own, events, side)
        elif not events:
            self._selector.unregister(own)
        elif known.events != events:
            self._selector.modify(own, events, side)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            own, _ = self._listener.accept()
        except OSError:
            return
        self.connections += 1
        if self._silent:
            self._unanswered.append(own)
            return
        try:
            target = socket.create_connection(self._target, 10)
        except OSError:
            own.close()
            return
        client, server = _Side(own, is_client=True), _Side(target, is_client=False)
        client.other, server.other = server, client
        for side in (client, server):
            side.socket.setblocking(False)
            side.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sides.add(side)

    def _receive(self, side: _Side) -> None:
        try:
            data = side.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            side.ended = True
            if side.other.waiting:
                side.other.waiting.append((0.0, b""))
            else:
                self._end(side, reset=False)
            return
        due = 0.0
        if side.is_client:
            self.trips += side.is_answered
            side.is_answered = False
            if self._held_until and self._held_until in side.last + data:
                self._let_go()
            if self._strikes_request(side, data):
                return
        else:
            side.other.is_answered = not self._held_until
            due = time.monotonic() + self._delay_seconds if self._delay_seconds else 0.0
            due = math.inf if self._held_until else due
            if side.next is not None or self._garble_next:
                fault = side.next or Fault.GARBLE
                side.next, self._garble_next = None, False
                if fault is Fault.GARBLE:
                    data = self._garble(data)
                # Where it only stops, the answer is there for ``resume``.
                side.other.waiting.append((due, data))
                self._strike(side, fault)
                return
        side.other.waiting.append((due, data))

    def _strikes_request(self, side: _Side, data: bytes) -> bool:
        """Look for what is waited for; tell whether the fault has dealt with the bytes."""
        side.last += data
        for trigger in self._triggers:
            sent, fault, at = trigger
            if sent not in side.last:
                continue
            self._triggers.remove(trigger)
            if at is At.ANSWER:
                side.other.next = fault
                break
            side.other.waiting.append((0.0, data))
            self._strike(side, fault)
            return True
        awaited = [len(sent) for sent, _, _ in self._triggers]
        longest = max([*awaited, len(self._held_until)], default=1)
        side.last = side.last[-(longest - 1) :] if longest > 1 else b""
        return False

    def _strike(self, side: _Side, fault: Fault) -> None:
        self.happened.set()  # before anybody can see it
        if fault is Fault.STOP:
            self._stopped = True
        elif fault is not Fault.GARBLE:
            self._end(side, reset=fault is Fault.RESET)

    def _send(self, side: _Side) -> None:
        _, data = side.waiting[0]
        if not data:
            self._end(side, reset=False)
            return
        try:
            count = side.socket.send(data)
        except BlockingIOError:
            return
        except OSError:
            self._end(side, reset=False)
            return
        if count == len(data):
            side.waiting.popleft()
        else:
            side.waiting[0] = (0.0, data[count:])

    def _end_all(self, *, reset: bool) -> None:
        for side in list(self._sides):
            if side in self._sides:
                self._end(side, reset=reset)

    def _end(self, side: _Side, *, reset: bool) -> None:
        for one in (side, side.other):
            self._watch(one.socket, 0, one)
            self._sides.discard(one)
            if reset:
                linger = struct.pack("ii", 1, 0)  # close() then sends RST
                with contextlib.suppress(OSError):
                    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            one.socket.close()


@contextlib.contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of the server in a database URL, and the URL that goes through it."""
    target = sa.make_url(url)
    assert target.host is not None
    assert target.port is not None
    with Proxy(target.host, target.port) as proxy:
        through = target.set(host="127.0.0.1", port=proxy.port)
        yield proxy, through.render_as_string(hide_password=False)
