"""
atomicbatch: many API calls in one HTTP request and one database transaction.

How a batch flows, which is also the order to read the files in::

    request bytes                  asgi/, server/http/          (limits enforced as bytes arrive)
      -> outer request checked     exchange/request.py          (method, media type, encoding)
      -> parts                     wire/multipart.py
      -> calls, as one Batch       wire/call.py, wire/target.py, wire/inherit.py, wire/batch.py
      -> BEGIN                     transactions/contract.py, opened by engine/run.py
         -> next call              engine/execution.py
         -> perform it             asgi/dispatch.py, server/rows/api.py
         -> record its reply       engine/execution.py
      -> seal, right before COMMIT engine/run.py
      -> COMMIT or ROLLBACK        transactions/contract.py, left by engine/run.py
      -> again after a conflict    engine/attempts.py, engine/replay.py, engine/turns.py
      -> replies, as one Outcome   engine/execution.py
      -> a reply for every call    problems.py
      -> response bytes            exchange/response.py, wire/reply.py, wire/batch.py
"""

from __future__ import annotations

# First of all: it takes note whether gevent was here before us.
from atomicbatch import greenlets as greenlets
from atomicbatch.engine.current import inside_batch, on_commit
from atomicbatch.errors import (
    AtomicBatchError,
    BrokenTransactionError,
    BusyError,
    CommitError,
    ConflictError,
    LimitError,
    MalformedError,
    MediaTypeError,
    NotBatchableError,
    TimeoutExceededError,
    TransactionError,
    UnknownOutcomeError,
    UnsupportedError,
    WireError,
)
from atomicbatch.limits import EndpointLimits, Limits
from atomicbatch.model import Batch, Call, Failure, Fate, Header, Headers, Outcome, Reply

__all__ = [
    "AtomicBatchError",
    "Batch",
    "BrokenTransactionError",
    "BusyError",
    "Call",
    "CommitError",
    "ConflictError",
    "EndpointLimits",
    "Failure",
    "Fate",
    "Header",
    "Headers",
    "LimitError",
    "Limits",
    "MalformedError",
    "MediaTypeError",
    "NotBatchableError",
    "Outcome",
    "Reply",
    "TimeoutExceededError",
    "TransactionError",
    "UnknownOutcomeError",
    "UnsupportedError",
    "WireError",
    "inside_batch",
    "on_commit",
]
__version__ = "0.1.0"
