"""
The outer HTTP exchange, without I/O: the same for every endpoint and every server.

In reading order::

    options.py      what an endpoint can be told, validated once
    formats.py      media type -> what reads and writes such bodies
    preferences.py  what the outer headers ask of the batch as a whole, and what is refused
    request.py      the outer head -> Head; head and body -> Batch
    upload.py       the body as it arrives, within its bounds
    recording.py    what an app answers a call, as it comes -> Reply
    reply_headers.py  its headers, read and checked
    response.py     Outcome -> response; an error -> a refusal
    holding.py      what all batches of an endpoint hold together, and its bounds

An endpoint asks :func:`check_head` before it reads the body, then :func:`read_request`, then runs
the batch, then :func:`write_response`. Where one of them raises, :func:`refusal` says why.
"""

from __future__ import annotations

from atomicbatch.exchange.holding import Held, Holding
from atomicbatch.exchange.options import EndpointOptions, OptionNames
from atomicbatch.exchange.recording import Recording, ReplyBytes, TooLong
from atomicbatch.exchange.reply_headers import ReplyHeaders
from atomicbatch.exchange.request import Head, read_request
from atomicbatch.exchange.response import (
    Response,
    check_head,
    http_date,
    nested_batch,
    refusal,
    response_size,
    write_response,
)
from atomicbatch.exchange.upload import Upload, body_too_slow

__all__ = [
    "EndpointOptions",
    "Head",
    "Held",
    "Holding",
    "OptionNames",
    "Recording",
    "ReplyBytes",
    "ReplyHeaders",
    "Response",
    "TooLong",
    "Upload",
    "body_too_slow",
    "check_head",
    "http_date",
    "nested_batch",
    "read_request",
    "refusal",
    "response_size",
    "write_response",
]
