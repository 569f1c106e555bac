"""
Codings: Content-Encoding undone within bounds, Accept-Encoding honoured (RFC 9110, section 8.4).

gzip and deflate come with Python; zstd with Python 3.14 or the package ``zstandard``; br with the
package ``brotli`` (1.2 or later, whose output can be bounded).
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from atomicbatch.big_bytes import concatenated, slices
from atomicbatch.errors import LimitError, MalformedError, MediaTypeError

_Decode = Callable[[bytes, int], bytes]
_Encode = Callable[[bytes], bytes]

MAX_CODINGS = 4
"""Codings of one body. Each may inflate to the whole bound, so they cost as many times that."""
_MAX_MEMBERS = 100
"""Gzip members or zstd frames of one body; what is left is copied once for each."""
_ALIASES = {"x-gzip": "gzip"}


class _Corrupt(Exception):
    """The data is not what its coding says."""


def decode(body: bytes, codings: Sequence[str], max_bytes: int) -> bytes:
    """
    Undo a body's codings, the last applied first.

    Args:
        body: As it came over the wire.
        codings: In the order they were applied, as :func:`content_codings` gives them.
        max_bytes: Nothing longer than this plus one byte is ever inflated.

    Raises:
        LimitError: More than ``max_bytes`` bytes come out of one of them.
        MalformedError: Corrupt or cut off, or something follows the end.
    """
    for coding in reversed(codings):
        try:
            body = _DECODERS[coding](body, max_bytes + 1)
        except _Corrupt as error:
            raise MalformedError(f"the body is not what Content-Encoding {coding} says") from error
        if len(body) > max_bytes:
            raise LimitError(
                f"the body is longer than {max_bytes} bytes once its Content-Encoding is undone",
                limit="max_body_bytes",
                maximum=max_bytes,
            )
    return body


def content_codings(values: Iterable[bytes]) -> list[str]:
    """
    Read the values of Content-Encoding headers, in the order the codings were applied.

    Raises:
        MediaTypeError: A coding that we cannot undo, or more than ``MAX_CODINGS``.
    """
    codings = []
    for token in _tokens(values):
        coding = token.strip().lower()
        coding = _ALIASES.get(coding, coding)
        if coding in ("identity", ""):
            continue
        if coding not in _DECODERS:
            raise MediaTypeError(f"unknown Content-Encoding, use one of: {', '.join(supported())}")
        codings.append(coding)
    if len(codings) > MAX_CODINGS:
        raise MediaTypeError(f"more than {MAX_CODINGS} content codings")
    return codings


def supported() -> tuple[str, ...]:
    """Name the codings that are understood, the one we like best first."""
    return tuple(_DECODERS)


def choose(values: Iterable[bytes]) -> tuple[str | None, bool]:
    """
    Choose a coding from the values of Accept-Encoding headers (RFC 9110, section 12.5.3).

    Returns:
        The best coding that the client takes and we know, or None; and whether the body may just
        as well be sent as it is.
    """
    weights = dict(_weights(values))
    any_other = weights.get("*", 0.0)
    identity = weights.get("identity", weights.get("*", -1.0))
    best, best_weight = None, 0.0
    for coding in _ENCODERS:
        weight = weights.get(coding, any_other)
        if weight > best_weight:
            best, best_weight = coding, weight
    if "identity" in weights and identity > best_weight:
        best = None
    # Not named at all (-1), identity is acceptable; with weight 0 it is not.
    return best, identity != 0.0


def encode(body: bytes, coding: str) -> bytes:
    """Apply a coding that :func:`choose` has chosen; tuned for speed."""
    return _ENCODERS[coding](body)


def _tokens(values: Iterable[bytes]) -> list[str]:
    return b",".join(values).decode("latin-1").split(",")


def _weights(values: Iterable[bytes]) -> Iterator[tuple[str, float]]:
    for token in _tokens(values):
        name, *parameters = (part.strip().lower() for part in token.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if name:
            # NaN and negative numbers are floats too.
            yield _ALIASES.get(name, name), weight if 0.0 <= weight <= 1.0 else 0.0


def _inflate(body: bytes, limit: int, *, wbits: int) -> tuple[bytes, bytes]:
    """Undo one zlib stream: (at most ``limit`` bytes, what follows its end)."""
    stream = zlib.decompressobj(wbits)
    try:
        data = stream.decompress(body, limit)
    except zlib.error as error:
        raise _Corrupt from error
    if len(data) < limit and not stream.eof:
        raise _Corrupt("cut off")
    return data, stream.unused_data


def _members(body: bytes, limit: int, one: Callable[[bytes, int], tuple[bytes, bytes]]) -> bytes:
    """Undo a chain of gzip members (RFC 1952, section 2.2) or zstd frames (RFC 8878, section 3)."""
    data, rest = one(body, limit)
    for _ in range(_MAX_MEMBERS):
        if not rest or len(data) == limit:
            return data
        more, rest = one(rest, limit - len(data))
        data += more
    raise _Corrupt("too many members")


def _gunzip(body: bytes, limit: int) -> bytes:
    return _members(body, limit, lambda rest, left: _inflate(rest, left, wbits=31))


def _inflate_any(body: bytes, limit: int) -> bytes:
    # "deflate" is a zlib stream, but some send the bare DEFLATE data (RFC 9110, section 8.4.1.2).
    try:
        data, rest = _inflate(body, limit, wbits=15)
    except _Corrupt:
        data, rest = _inflate(body, limit, wbits=-15)
    if rest and len(data) < limit:
        raise _Corrupt("something follows the end")
    return data


def _gzip(body: bytes) -> bytes:
    return _compressed(body, zlib.compressobj(1, zlib.DEFLATED, 31))


def _deflate(body: bytes) -> bytes:
    return _compressed(body, zlib.compressobj(1))


def _compressed(body: bytes, compressor: Any) -> bytes:
    # In slices, since zlib puts together what it gives while it holds Python's lock.
    return concatenated([*map(compressor.compress, slices(body)), compressor.flush()])


def _module(*names: str) -> Any:
    """Import the first of the optional modules that there is, or return None."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


# RFC 9659: a zstd decoder for HTTP need not offer more than 8 MiB of window.
_ZSTD_WINDOW_LOG = 23
# What 256 bytes of zstd can become is 8 MiB (a block of 4 bytes gives 128 KiB): the most by which
# the package's decoder, which knows no bound, can overshoot ours.
_ZSTD_PIECE_BYTES = 256


def _zstd_of_python(module: Any) -> tuple[_Decode, _Encode]:
    options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}

    def one(body: bytes, limit: int) -> tuple[bytes, bytes]:
        stream = module.ZstdDecompressor(options=options)
        try:
            data: bytes = stream.decompress(body, limit)
        except module.ZstdError as error:
            raise _Corrupt from error
        if len(data) < limit and not stream.eof:
            raise _Corrupt("cut off")
        return data, stream.unused_data if stream.eof else b""

    def compress(body: bytes) -> bytes:
        compressed: bytes = module.compress(body, 1)
        return compressed

    return lambda body, limit: _members(body, limit, one), compress


def _zstd_of_package(module: Any) -> tuple[_Decode, _Encode]:
    def one(body: bytes, limit: int) -> tuple[bytes, bytes]:
        decompressor = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
        stream = decompressor.decompressobj()
        data = bytearray()
        for start in range(0, len(body), _ZSTD_PIECE_BYTES):
            try:
                data += stream.decompress(body[start : start + _ZSTD_PIECE_BYTES])
            except module.ZstdError as error:
                raise _Corrupt from error
            if len(data) >= limit:
                return bytes(data[:limit]), b""
            if stream.eof:
                return bytes(data), stream.unused_data + body[start + _ZSTD_PIECE_BYTES :]
        raise _Corrupt("cut off")

    def compress(body: bytes) -> bytes:
        compressed: bytes = module.ZstdCompressor(level=1).compress(body)
        return compressed

    return lambda body, limit: _members(body, limit, one), compress


def _brotli_of_package(module: Any) -> tuple[_Decode, _Encode]:
    def decompress(body: bytes, limit: int) -> bytes:
        stream = module.Decompressor()
        data = bytearray()
        try:
            data += stream.process(body, output_buffer_limit=limit)
            while len(data) < limit and not stream.can_accept_more_data():
                data += stream.process(b"", output_buffer_limit=limit - len(data))
        except module.error as error:
            raise _Corrupt from error
        if len(data) < limit and not stream.is_finished():
            raise _Corrupt("cut off")
        return bytes(data[:limit])

    def compress(body: bytes) -> bytes:
        compressed: bytes = module.compress(body, quality=1)
        return compressed

    return decompress, compress


def _known() -> tuple[dict[str, _Decode], dict[str, _Encode]]:
    """Find the codings that can be undone and applied here, the one we like best first."""
    decoders: dict[str, _Decode] = {}
    encoders: dict[str, _Encode] = {}
    if (module := _module("compression.zstd", "backports.zstd")) is not None:
        decoders["zstd"], encoders["zstd"] = _zstd_of_python(module)
    elif (module := _module("zstandard")) is not None:
        decoders["zstd"], encoders["zstd"] = _zstd_of_package(module)
    module = _module("brotli", "brotlicffi")
    if hasattr(getattr(module, "Decompressor", None), "can_accept_more_data"):
        decoders["br"], encoders["br"] = _brotli_of_package(module)
    decoders |= {"gzip": _gunzip, "deflate": _inflate_any}
    encoders |= {"gzip": _gzip, "deflate": _deflate}
    return decoders, encoders


_DECODERS, _ENCODERS = _known()
