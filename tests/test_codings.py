"""Codings: Content-Encoding undone within bounds, Accept-Encoding honoured."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch import LimitError, MalformedError, MediaTypeError
from atomicbatch.codings import (
    _zstd_of_package,
    _zstd_of_python,
    choose,
    content_codings,
    decode,
    encode,
    supported,
)

LIMIT = 100_000
ALL = ["gzip", "deflate", "br", "zstd"]


@pytest.fixture(params=ALL)
def coding(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in supported():
        pytest.skip(f"no library for {name} is installed")
    return name


def test_gzip_and_deflate_are_always_there() -> None:
    """Both come with Python."""
    assert {"gzip", "deflate"} <= set(supported())


@given(body=st.binary(max_size=5_000), codings=st.lists(st.sampled_from(supported()), max_size=4))
def test_decode_undoes_encode(body: bytes, codings: list[str]) -> None:
    """Several codings are undone in the reverse of the order they were applied in."""
    encoded = body
    for coding in codings:
        encoded = encode(encoded, coding)
    assert decode(encoded, codings, LIMIT) == body


def test_the_bound_is_exact(coding: str) -> None:
    """A body of exactly the limit is read; one byte more is refused, and the limit named."""
    assert len(decode(encode(bytes(LIMIT), coding), [coding], LIMIT)) == LIMIT
    with pytest.raises(LimitError) as caught:
        decode(encode(bytes(LIMIT + 1), coding), [coding], LIMIT)
    assert (caught.value.limit, caught.value.maximum) == ("max_body_bytes", LIMIT)


@pytest.mark.slow
def test_a_bomb_stays_small(coding: str) -> None:
    """300 MB of zeros in a few bytes never take more memory than a small multiple of the limit."""
    bomb = encode(bytes(300_000_000), coding)
    tracemalloc.start()
    try:
        with pytest.raises(LimitError):
            decode(bomb, [coding], LIMIT)
        # zstd's decoder of the package may overshoot by 8 MiB, see its comment.
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_bomb_in_a_bomb_stays_small() -> None:
    """Each layer is bounded by itself."""
    bomb = encode(encode(bytes(300_000_000), "gzip"), "gzip")
    with pytest.raises(LimitError):
        decode(bomb, ["gzip", "gzip"], LIMIT)


def test_many_members_are_no_bomb_either() -> None:
    """A body of half a million empty gzip members is refused in linear time."""
    body = gzip.compress(b"") * 500_000
    started = time.monotonic()
    with pytest.raises(MalformedError):
        decode(body, ["gzip"], 10_000_000)
    assert time.monotonic() - started < 5


def test_several_members_are_one_body() -> None:
    """gzip members one after the other are one body (RFC 1952, section 2.2)."""
    assert decode(gzip.compress(b"ab") + gzip.compress(b"cd"), ["gzip"], LIMIT) == b"abcd"


@pytest.mark.parametrize("wbits", [15, -15], ids=["zlib", "raw"])
def test_deflate_is_taken_both_ways(wbits: int) -> None:
    """deflate is a zlib stream, but the bare data is taken too (RFC 9110, section 8.4.1.2)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, wbits)
    body = compressor.compress(b"hello" * 100) + compressor.flush()
    assert decode(body, ["deflate"], LIMIT) == b"hello" * 100


DAMAGE: list[Callable[[bytes], bytes]] = [
    lambda body: b"",
    lambda body: body[:1],
    lambda body: body[:-1],
    lambda body: body[: len(body) // 2],
    lambda body: body + b"\0",
    lambda body: body + b"garbage behind it",
    lambda body: b"not compressed at all",
]


@pytest.mark.parametrize("damage", range(len(DAMAGE)))
def test_damaged_bodies_are_malformed(coding: str, damage: int) -> None:
    """Cut off, not compressed, or with something behind the end: 400, never half a body."""
    body = encode(b"0123456789" * 50, coding)
    with pytest.raises(MalformedError):
        decode(DAMAGE[damage](body), [coding], LIMIT)


@given(body=st.binary(max_size=300), coding=st.sampled_from(supported()))
def test_garbage_raises_nothing_else(body: bytes, coding: str) -> None:
    """Whatever the bytes are, they are decoded or refused."""
    with contextlib.suppress(MalformedError, LimitError):
        decode(body, [coding], LIMIT)


@pytest.mark.parametrize(
    ("name", "adapter"),
    [
        ("compression.zstd", _zstd_of_python),
        ("backports.zstd", _zstd_of_python),
        ("zstandard", _zstd_of_package),
    ],
)
def test_each_zstd_library(name: str, adapter: Callable[[Any], Any]) -> None:
    """Whichever library there is, the same comes out."""
    module = pytest.importorskip(name, exc_type=ImportError)
    decompress, compress = adapter(module)
    assert decompress(compress(b"abc" * 100), LIMIT) == b"abc" * 100
    assert decompress(compress(b"ab") + compress(b"cd"), LIMIT) == b"abcd"
    assert len(decompress(compress(bytes(LIMIT * 2)), LIMIT)) == LIMIT


def test_a_window_beyond_the_standard_is_refused() -> None:
    """A zstd frame that wants 64 MiB of memory is refused (RFC 9659)."""
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        pytest.skip("zstandard is not installed")
    parameters = zstandard.ZstdCompressionParameters(window_log=26, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = stream.compress(bytes(1000)) + stream.flush()
    with pytest.raises(MalformedError):
        decode(body, ["zstd"], LIMIT)


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], []),
        ([b""], []),
        ([b"identity"], []),
        ([b"GZip"], ["gzip"]),
        ([b"x-gzip"], ["gzip"]),
        ([b"deflate, gzip"], ["deflate", "gzip"]),
        ([b"deflate", b"gzip"], ["deflate", "gzip"]),
        ([b" gzip ,identity,"], ["gzip"]),
    ],
)
def test_content_codings(values: list[bytes], codings: list[str]) -> None:
    """Names are case-insensitive, a list may be spread over several headers."""
    assert content_codings(values) == codings


@pytest.mark.parametrize("value", [b"compress", b"gzip, rot13", b"gzip;q=1", b"\xff", b"*"])
def test_unknown_codings_are_415(value: bytes) -> None:
    """What we cannot undo is refused, and the answer names what we can."""
    with pytest.raises(MediaTypeError, match="gzip, deflate"):
        content_codings([value])


def test_not_too_many_layers() -> None:
    """Each layer may inflate to the limit, so their number is bounded."""
    with pytest.raises(MediaTypeError):
        content_codings([b"gzip," * 5])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", (None, True)),
        (b"identity", (None, True)),
        (b"gzip", ("gzip", True)),
        (b"x-gzip", ("gzip", True)),
        (b"GZIP", ("gzip", True)),
        (b"deflate", ("deflate", True)),
        (b"deflate, gzip", ("gzip", True)),
        (b"deflate;q=1, gzip;q=0.5", ("deflate", True)),
        (b"gzip;q=0", (None, True)),
        (b"gzip;q=0.000", (None, True)),
        (b"gzip ; q=0.5 ,deflate;q=0.4", ("gzip", True)),
        (b"gzip;q=0.5, identity", (None, True)),
        (b"gzip, identity;q=0.5", ("gzip", True)),
        (b"gzip, identity;q=0", ("gzip", False)),
        (b"gzip, *;q=0", ("gzip", False)),
        (b"gzip, *;q=0, identity", ("gzip", True)),
        (b"*", (supported()[0], True)),
        (b"*;q=0", (None, False)),
        (b"rot13, gzip;q=0.1", ("gzip", True)),
        (b"gzip;q=nan", (None, True)),
        (b"gzip;q=-1", (None, True)),
        (b"gzip;q=x", (None, True)),
        (b"gzip;q=1e9", (None, True)),
        (b";;,,=;q=,\xff;q=1", (None, True)),
    ],
)
def test_choose(value: bytes, expected: tuple[str | None, bool]) -> None:
    """Weights, aliases, ``*`` and ``identity`` are weighed as RFC 9110, section 12.5.3 says."""
    assert choose([value]) == expected


def test_choose_over_several_headers() -> None:
    """Several headers are one list."""
    assert choose([b"deflate;q=0.5", b"gzip"]) == ("gzip", True)
