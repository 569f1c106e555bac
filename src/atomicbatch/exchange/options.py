"""Options: what an endpoint can be told, validated once."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypedDict

from atomicbatch.engine.replay import Replay
from atomicbatch.limits import EndpointLimits, Limits
from atomicbatch.wire.rules import Rules


class OptionNames(TypedDict, total=False):
    """The keyword arguments of every ``AtomicBatch``; see :class:`EndpointOptions`."""

    path: str
    limits: Limits | None
    endpoint_limits: EndpointLimits | None
    replay: Replay | None
    rolled_back_status: int
    not_overridable: Collection[str]
    consumed_query: Collection[str]


class EndpointOptions:
    """
    What one batch endpoint has been told.

    Args:
        path: Of the endpoint, without the prefix that the app is mounted at.
        limits: Bounds on one batch.
        endpoint_limits: Bounds on what all batches of this endpoint hold together.
        replay: When to run a batch again after a conflict.
        rolled_back_status: The response's status when the batch was rolled back.
        not_overridable: Header names that calls cannot change, besides those that never can be.
        consumed_query: Names in the outer query that calls do not inherit.
        keeps_underscores: The app can tell ``X_User`` from ``X-User``. WSGI apps cannot, so that a
            call's headers with ``_`` in their name are dropped there.

    Attributes:
        rules: Those of the options that readers of calls go by.

    Raises:
        ValueError: The path does not start with ``/`` or ends with it, or the status is no final
            HTTP status.
    """

    __slots__ = (
        "consumed_query",
        "endpoint_limits",
        "keeps_underscores",
        "limits",
        "not_overridable",
        "path",
        "replay",
        "rolled_back_status",
        "rules",
    )

    def __init__(
        self,
        *,
        path: str = "/v1/api/batch",
        limits: Limits | None = None,
        endpoint_limits: EndpointLimits | None = None,
        replay: Replay | None = None,
        rolled_back_status: int = 200,
        not_overridable: Collection[str] = (),
        consumed_query: Collection[str] = (),
        keeps_underscores: bool = True,
    ) -> None:
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f"path must start with / and must not end with it, unlike {path!r}")
        if not 200 <= rolled_back_status <= 599:
            raise ValueError(f"rolled_back_status is no final HTTP status: {rolled_back_status!r}")
        if isinstance(not_overridable, str) or isinstance(consumed_query, str):
            raise ValueError("not_overridable and consumed_query must be lists of names")
        self.path = path
        self.limits = limits or Limits()
        self.endpoint_limits = endpoint_limits or EndpointLimits()
        self.replay = replay or Replay()
        self.rolled_back_status = rolled_back_status
        self.not_overridable = frozenset(name.lower().encode() for name in not_overridable)
        self.consumed_query = frozenset(consumed_query)
        self.keeps_underscores = keeps_underscores
        self.rules = Rules(
            self.limits,
            not_overridable=self.not_overridable,
            consumed_query=self.consumed_query,
            underscores=keeps_underscores,
        )
