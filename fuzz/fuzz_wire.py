"""
Feed the wire with bytes that a fuzzer makes up.

Run ``python fuzz/fuzz_wire.py -max_total_time=30``; it starts from ``tests/corpus``. Whatever the
bytes: they are read, or refused with a WireError that says where; what was read is written and
read as the same again; and no byte takes long.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["atomicbatch"]):
    from atomicbatch.errors import WireError
    from atomicbatch.limits import Limits
    from atomicbatch.model import Reply
    from atomicbatch.wire import read_batch, read_replies, write_batch, write_replies

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
BOUNDARY = b"b"
# What a call gains when it is written (a Content-Length) must not exceed the limits.
ROOMY = Limits(
    max_calls=10**6, max_header_bytes=10**7, max_header_lines=10**6, max_body_bytes=10**9
)
# A hundred times what instrumented code takes; a quadratic reader needs minutes for long inputs.
FIXED_SECONDS = 0.5
SECONDS_PER_BYTE = 100e-6


def read_and_write(body: bytes, content_type: bytes) -> None:
    """Read a batch; what can be read survives being written, and so do replies to it."""
    try:
        batch = read_batch(body, content_type=content_type)
    except WireError as error:
        if error.offset is not None and not 0 <= error.offset <= len(body):
            raise AssertionError(f"offset {error.offset} of {len(body)}") from error
        return
    written_type, written = write_batch(batch.calls)
    again = read_batch(written, content_type=written_type, limits=ROOMY)
    if again != batch:
        raise AssertionError(f"{batch} was written and read as {again}")
    outer = ((b"host", b"h"), (b"x-forwarded-for", b"1.2.3.4"))
    for call in read_batch(body, content_type=content_type, headers=outer, query=b"a=b").calls:
        if [header for header in call.headers if header[0] in dict(outer)] != list(outer):
            raise AssertionError(f"{call} is not from where the batch is")
    replies = [Reply(200, call.headers, call.body) for call in batch.calls]
    written_type, written = write_replies(batch.calls, replies, date=b"now")
    answers = read_replies(written, content_type=written_type)
    for call, (content_id, reply) in zip(batch.calls, answers, strict=True):
        body = b"" if call.method == "HEAD" else call.body
        if content_id != call.content_id or reply.body != body:
            raise AssertionError(f"{reply} answers {call}")


def read_response(body: bytes, content_type: bytes) -> None:
    """Read a response, as a client does."""
    try:
        read_replies(body, content_type=content_type)
    except WireError:
        return


def fuzz(data: bytes) -> None:
    """The first byte says what the others are."""
    kind, data = data[:1], data[1:]
    start = time.process_time()
    if kind == b"t":
        content_type, _, body = data.partition(b"\n")
        read_and_write(body, b"multipart/mixed; " + content_type)
    elif kind == b"r":
        read_response(data, b"multipart/mixed; boundary=" + BOUNDARY)
    else:
        read_and_write(data, b"multipart/mixed; boundary=" + BOUNDARY)
    taken = time.process_time() - start
    if taken > FIXED_SECONDS + SECONDS_PER_BYTE * len(data):
        raise AssertionError(f"{len(data)} bytes took {taken:.3f} s")


def main() -> None:
    """Start from the corpus; new inputs are kept in a directory of their own."""
    with tempfile.TemporaryDirectory() as kept:
        for path in CORPUS.glob("*.body"):
            for kind in (b"b", b"r"):
                name = f"{kind.decode()}-{path.stem}"
                (Path(kept) / name).write_bytes(kind + path.read_bytes())
        arguments = (
            sys.argv if any(not a.startswith("-") for a in sys.argv[1:]) else [*sys.argv, kept]
        )
        atheris.Setup([*arguments, "-max_len=8192"], fuzz)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
