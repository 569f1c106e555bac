"""
Bytes <-> model. Never waits; knows no framework, no clock and no socket.

In reading order::

    multipart.py   body <-> parts, RFC 2046
    message.py     what calls and replies have in common: the part, where the body ends
    call.py        one part <-> Call, RFC 9112
    target.py      one call's method, path and query, checked
    reply.py       one Reply <-> part
    inherit.py     what the calls of one batch take over from the outer request
    rules.py       which headers are inherited, and which a call may set: told once for an endpoint
    memo.py        what was read before is not read again; within bounds
    batch.py       the front door: read_batch, write_replies and the client's two mirrors
    grammar.py     the few patterns that the others share, each beside its RFC rule

A call says nearly the same as the one before it. So readers know by its bytes what they have read:
header blocks for the rest of the batch, and for the next ones the names of headers, the heads of
parts and the request lines without a query, none of which is a secret. What is not known, or is
wrong, goes to the reader that words the errors.

Every reader has one strict reading of its input and raises a ``WireError`` for all the rest; the
page ``docs/reference/wire-format.md`` lists what is accepted and what is refused.
"""

from __future__ import annotations

from atomicbatch.wire.batch import read_batch, read_replies, write_batch, write_replies

__all__ = ["read_batch", "read_replies", "write_batch", "write_replies"]
