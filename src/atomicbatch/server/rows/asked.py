"""Asked: what a block of headers asks, read once for all calls of a batch that share it."""

from __future__ import annotations

from typing import TypeAlias

from atomicbatch.model import Call, Headers
from atomicbatch.server.rows.preconditions import ONLY_JSON, WANTED, Conditions, read_conditions
from atomicbatch.server.rows.refusals import are_watched, refuse_body, refuse_headers


class Asked:
    """
    One block of headers.

    It holds the headers, and with them what their sender signs in with: whoever keeps one lets go
    of it when the batch ends.

    Attributes:
        plain: They ask for nothing.
        plain_json: They ask for nothing, and say that the body is JSON.
    """

    __slots__ = ("_conditions", "_headers", "plain", "plain_json")

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self._conditions: dict[frozenset[bytes], Conditions] = {}
        said = [header for header in headers if header[0] in WANTED]
        self.plain_json = said == ONLY_JSON and not are_watched(headers)
        self.plain = self.plain_json or not (said or are_watched(headers))

    def refuse_unsupported(self, call: Call) -> None:
        """
        Refuse a call that asks for what this server does not do; see ``refusals.py``.

        Args:
            call: It has these headers.

        Raises:
            RowFault: 400, with the name of the header or the method.
        """
        if call.body:
            refuse_body(call)
        if not self.plain:
            refuse_headers(call.method, self._headers)

    def conditions(self, honoured: frozenset[bytes]) -> Conditions:
        """
        What the headers ask of rows; see ``read_conditions``.

        Raises:
            RowFault: 400. A condition or preference is not understood, or cannot be honoured.
        """
        found = self._conditions.get(honoured)
        if found is None:
            found = self._conditions[honoured] = read_conditions(self._headers, honoured)
        return found


Blocks: TypeAlias = dict[int, tuple[Headers, Asked]]
"""The blocks of headers of one batch, by their identity: what is kept keeps its identity."""

# Beyond so many, most calls have a block of their own.
_MOST_KEPT = 64


def asked_by(headers: Headers, blocks: Blocks) -> Asked:
    """What ``headers`` ask. Calls of a batch whose headers are equal have one block of them."""
    found = blocks.get(id(headers))
    if found is not None:
        return found[1]
    if len(blocks) >= _MOST_KEPT:
        blocks.clear()
    asked = Asked(headers)
    blocks[id(headers)] = (headers, asked)
    return asked
