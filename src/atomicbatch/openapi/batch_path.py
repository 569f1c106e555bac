"""The batch endpoint as an OpenAPI document describes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from atomicbatch.limits import Limits

BOUNDARY = "batch"


class ExampleCall(NamedTuple):
    """A call of the example."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    body: str
    """JSON on one line, or empty."""

    @property
    def rest(self) -> str:
        """What follows the request line."""
        return f"Content-Type: application/json\n\n{self.body}\n" if self.body else ""


def example_batch(calls: Iterable[ExampleCall]) -> str:
    """The calls as the body of a batch."""
    parts = "".join(
        f"--{BOUNDARY}\n\n{call.method} {call.target} HTTP/1.1\n{call.rest}" for call in calls
    )
    return f"{parts}--{BOUNDARY}--\n"


def batch_path_item(
    calls: Iterable[ExampleCall], limits: Limits, *, problem: dict[str, Any]
) -> dict[str, Any]:
    """
    Describe the batch endpoint.

    Args:
        calls: The calls of the example.
        limits: Named in the description.
        problem: The response for a batch that did not run.
    """
    replies = (
        "--batchresponse_0a1b\r\nContent-Type: application/http\r\n"
        "Content-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 200 OK\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]\r\n"
        "--batchresponse_0a1b--\r\n"
    )
    return {
        "post": {
            "operationId": "batch",
            "tags": ["batch"],
            "summary": "Many calls in one database transaction: all take effect, or none",
            "description": (
                "Each part is a complete HTTP request with a path only. The calls run in order; the"
                " first status of 400 or more undoes all. Headers and query parameters of this"
                f" request apply to every call. At most {limits.max_calls} calls and"
                f" {limits.max_body_bytes} bytes, in {limits.timeout_seconds:g} seconds."
            ),
            "requestBody": {
                "required": True,
                "content": {
                    f"multipart/mixed; boundary={BOUNDARY}": {
                        "schema": {"type": "string"},
                        "example": example_batch(calls),
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "A reply for each call, in order; Batch-Outcome says whether"
                    " the batch was committed",
                    "headers": {
                        "Batch-Outcome": {
                            "description": "`committed`, or `rolled-back; failed=2; status=409`",
                            "schema": {"type": "string"},
                        },
                        "Batch-Attempts": {
                            "description": "How often it was run, if more than once",
                            "schema": {"type": "integer"},
                        },
                    },
                    "content": {
                        "multipart/mixed": {"schema": {"type": "string"}, "example": replies}
                    },
                },
                "default": problem,
            },
        }
    }
