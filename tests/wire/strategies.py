"""Calls and replies as they come out of our readers, and the bytes around them."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from atomicbatch.model import Call, Headers, Reply

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Properties hold on a busy machine too; time is the matter of ``test_linear.py``."""

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))

# What a reader keeps of a call's headers under any name: neither framing nor of the proxy.
_names = st.sampled_from(
    [b"accept", b"authorization", b"content-type", b"if-match", b"prefer", b"x-request-id", b"x_y"]
) | st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8).map(
    lambda name: b"my-" + name.encode()
)
_values = (
    st.text(VISIBLE + " \t\u00e9\u00ff", max_size=20)
    .map(lambda value: value.encode("latin-1"))
    .map(lambda value: value.strip(b" \t"))
)
_bodies = st.binary(max_size=60) | st.sampled_from([b"", b"\r", b"x\r\n", b"\r\n--b\r\n", b"\n\n"])
_content_ids = st.text(VISIBLE + " ", min_size=1, max_size=20).map(
    lambda text: text.strip(" ").encode() or b"x"
)


def with_length(headers: Headers, body: bytes) -> Headers:
    """Append the Content-Length that every writer and reader of ours puts last."""
    return (*headers, (b"content-length", b"%d" % len(body)))


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """A call as ``read_batch`` returns it where nothing is inherited."""
    path = draw(st.text(VISIBLE.translate({ord(c): None for c in "#?\\%./"}), max_size=12))
    query = draw(st.text(VISIBLE.replace("#", ""), max_size=12))
    headers = tuple(draw(st.lists(st.tuples(_names, _values), max_size=4)))
    body = draw(_bodies)
    return Call(
        method=draw(
            st.text(TOKEN, min_size=1, max_size=8).filter(lambda m: m.upper() != "CONNECT")
        ),
        path=b"/" + path.encode(),
        query=query.encode(),
        headers=with_length(headers, body) if body or draw(st.booleans()) else headers,
        body=body,
    )


@st.composite
def batches(draw: st.DrawFn) -> tuple[Call, ...]:
    """One to six calls with Content-IDs, where they have some, of their own."""
    drawn = draw(st.lists(calls(), min_size=1, max_size=6))
    ids = draw(st.lists(_content_ids, unique=True, min_size=len(drawn), max_size=len(drawn)))
    return tuple(
        call._replace(content_id=draw(st.sampled_from([None, content_id])))
        for call, content_id in zip(drawn, ids, strict=True)
    )


@st.composite
def replies(draw: st.DrawFn, method: str = "GET") -> Reply:
    """A reply to a call of this method, as ``read_replies`` returns it."""
    status = draw(st.integers(200, 599))
    plain = draw(st.lists(st.tuples(_names.filter(lambda n: b"_" not in n), _values.filter(bool))))
    odd = draw(st.lists(st.tuples(st.sampled_from([b"x_y", b"x-1"]), _values.filter(bool))))
    headers: Headers = ((b"date", b"today"), *plain)
    if status in (204, 304) or method == "HEAD":
        return Reply(status, (*headers, *odd), b"")
    body = draw(_bodies)
    return Reply(status, (*with_length(headers, body), *odd), body)
