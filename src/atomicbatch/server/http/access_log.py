"""
Access log: one line for each request, and every warning, written without making anybody wait.

Whoever reads our standard error may be slow, or may have stopped. So lines go into a buffer, and a
thread of its own writes them. When the buffer is full, lines are dropped and counted.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from datetime import UTC, datetime
from typing import Any

_MAX_BUFFER_BYTES = 1 << 20
_MAX_LINE_CHARS = 500
_MAX_RECORD_CHARS = 16_000
# Writes of up to this many bytes into a pipe are never mixed with others (pipe(7)).
_ATOMIC_BYTES = 4096
_GATHER_SECONDS = 0.05
_UNSAFE = re.compile(r'[^\x21-\x7e]|["\\]')


class LineWriter:
    """
    Lines -> a file descriptor, from any thread, never waiting.

    Args:
        descriptor: Where the lines go; by default standard error.

    Attributes:
        dropped: The number of lines lost since the last one that was written.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._size = 0
        self.dropped = 0
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Take a line, or several; they are written soon, or dropped."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            if self._size + len(data) > _MAX_BUFFER_BYTES:
                self.dropped += 1
                return
            self._lines.append(data)
            self._size += len(data)
            if len(self._lines) > 1:
                return
        self._wake.set()

    def close(self, *, seconds: float = 0.5) -> None:
        """Write what is left, if that takes no longer than ``seconds``."""
        self._ended = True
        self._wake.set()
        self._thread.join(seconds)

    def _write_all(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if not self._ended:
                time.sleep(_GATHER_SECONDS)
            with self._lock:
                lines, self._lines, self._size = self._lines, [], 0
                dropped, self.dropped = self.dropped, 0
            try:
                self._write(lines)
                if dropped:
                    self._write([b"%d lines of the log were dropped here\n" % dropped])
            except OSError:  # nobody reads any more
                pass
            if self._ended and not self._lines:
                return

    def _write(self, lines: list[bytes]) -> None:
        together = b""
        for line in lines:
            if together and len(together) + len(line) > _ATOMIC_BYTES:
                self._write_bytes(together)
                together = b""
            together += line
        if together:
            self._write_bytes(together)

    def _write_bytes(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]


class LogHandler(logging.Handler):
    """Sends warnings and errors through a LineWriter, so that they make nobody wait either."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__(logging.WARNING)
        self._writer = writer
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if len(text) > _MAX_RECORD_CHARS:
            half = _MAX_RECORD_CHARS // 2
            text = f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"
        self._writer.put(text)


ENTRY = "atomicbatch.entry"
"""Where a request's ASGI scope has its ``Entry``."""


class Entry:
    """
    What the log tells of one request besides its response. Whoever knows it fills it in.

    Attributes:
        calls: How many calls a batch has.
        outcome: What became of a batch, also if nobody waits for the answer any more.
        principal: The name of who asks; None: nobody has signed in.
    """

    __slots__ = ("calls", "outcome", "principal")

    def __init__(self) -> None:
        self.calls: int | None = None
        self.outcome: bytes | None = None
        self.principal: str | None = None


class AccessLog:
    """
    One line for each request.

    ::

        2026-11-30T08:00:00.123Z 127.0.0.1 POST /v1/api/batch 200 committed calls=3 4.2ms 912B
        2026-11-30T08:00:01.456Z 127.0.0.1 GET /v1/api/items 200 0.8ms 5120B

    Queries, headers and bodies are never shown: they hold people's data.
    """

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def request(
        self,
        *,
        client: str,
        method: str,
        path: bytes,
        status: int | None,
        seconds: float,
        size: int,
        attempts: bytes | None,
        entry: Entry,
    ) -> None:
        """
        Write the line of one request.

        Args:
            client: The client's address.
            method: As it was sent, or "-".
            path: As it was sent, without the query.
            status: The response's; None: the client hung up before there was one.
            seconds: From the request's head to its response.
            size: Bytes of the response's body.
            attempts: How often a batch was run, if more than once.
            entry: What else is known.
        """
        words = [_now(), client, method, _safe(path), "hung-up" if status is None else str(status)]
        if entry.outcome is not None:
            words.append(entry.outcome.decode("ascii", "replace").replace(";", ""))
        if entry.calls is not None:
            words.append(f"calls={entry.calls}")
        if attempts is not None:
            words.append(f"attempts={_safe(attempts)}")
        if entry.principal is not None:
            words.append(f"user={_safe(entry.principal.encode())}")
        words.append(f"{seconds * 1000:.1f}ms {size}B")
        self._writer.put(" ".join(words)[:_MAX_LINE_CHARS])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _safe(data: bytes) -> str:
    """Keep visible ASCII only: anything else could steer a terminal or forge a line."""
    text = _UNSAFE.sub(_escaped, data[:200].decode("latin-1"))
    return text if len(data) <= 200 else text + "..."


def _escaped(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def configure_logging(writer: LineWriter) -> None:
    """Send everything that this process logs through ``writer``."""
    root: Any = logging.getLogger()
    root.handlers[:] = [LogHandler(writer)]
