"""Examination: the name of an app -> a finding for each of its operations."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from atomicbatch.asgi import AtomicBatch
from atomicbatch.doctor import blind_spots, watching
from atomicbatch.doctor.loading import DoctorError, Loaded, load_app, running
from atomicbatch.doctor.operations import (
    from_http_file,
    from_openapi,
    with_headers,
)
from atomicbatch.doctor.report import Finding, Line, Verdict, judge, lines, not_tried
from atomicbatch.doctor.trying import try_call
from atomicbatch.engine import AsyncTransaction
from atomicbatch.limits import Limits
from atomicbatch.openapi.calls import Operation
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction


class Examination(NamedTuple):
    """The findings about one app."""

    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is unsafe."""
        return all(finding.verdict is not Verdict.UNSAFE for finding in self.findings)

    @property
    def judged(self) -> bool:
        """Whether there is a verdict on at least one call."""
        return any(finding.verdict is not Verdict.NOT_JUDGED for finding in self.findings)

    def lines(self) -> Iterator[Line]:
        return lines(self.findings)


def examine(
    name: str,
    *,
    http_file: Path | None = None,
    headers: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    prefix: str | None = None,
    allowed: Collection[str] = (),
) -> Examination:
    """
    Try each operation of an app as a batch that is rolled back.

    Args:
        name: ``module:attribute``; the app is imported, started, and shut down at the end.
        http_file: The calls to try; None: they are made from the app's OpenAPI document.
        headers: Sent with each call that does not have one of that name.
        variables: Values for the variables of the file.
        prefix: Where the paths of the OpenAPI document begin; None: the doctor finds out.
        allowed: Addresses (``host:port``) that handlers may talk to, and files and folders that
            they may change.

    Raises:
        DoctorError: There is no such app, it does not start, or there is nothing to try.
    """
    chosen = from_http_file(http_file, variables or {}) if http_file else None
    watching.install()
    with blind_spots.sqlite_connections():
        loaded = load_app(name)
        _check_transaction(loaded.transaction)
        with blind_spots.postgresql_connections(), _quiet():
            return asyncio.run(_examine(loaded, chosen, headers or {}, prefix, allowed))


@contextmanager
def _quiet() -> Iterator[None]:
    """Log nothing: otherwise every rollback, and every error of a handler, would be logged."""
    logger, before = logging.getLogger("atomicbatch"), logging.getLogger("atomicbatch").disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


async def _examine(
    loaded: Loaded,
    operations: list[Operation] | None,
    headers: Mapping[str, str],
    prefix: str | None,
    allowed: Collection[str],
) -> Examination:
    async with running(loaded.outermost) as state:
        transaction = _transaction(loaded)
        scope: dict[str, Any] = {
            "type": "http",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
            "state": state,
        }
        if operations is None:
            operations = await from_openapi(loaded.inner, scope, prefix=prefix)
        if not operations:
            raise DoctorError("the app's OpenAPI document has no operations: nothing to try")
        findings = []
        for operation in operations:
            if operation.obstacle:
                findings.append(not_tried(operation))
                continue
            # Not earlier: the app may import what is watched while it starts.
            with (
                blind_spots.aiosqlite_connections(),
                blind_spots.processes(),
                blind_spots.tasks(),
                blind_spots.threads(),
            ):
                tried = await try_call(
                    loaded.inner,
                    with_headers(operation, headers),
                    transaction,
                    scope=scope,
                    limits=Limits(),
                    watch=watching.Watch(allowed),
                )
            findings.append(judge(operation, tried))
        return Examination(tuple(findings))


def _check_transaction(transaction: AsyncTransaction[Any] | None) -> None:
    """
    Refuse an adapter whose handlers would all be called unsafe, since they use sqlite3 directly.

    Raises:
        DoctorError: The app has it.
    """
    # Only an app that has one has imported it: the import puts doors into the drivers.
    drivers = sys.modules.get("atomicbatch.transactions.drivers")
    together = sys.modules.get("atomicbatch.transactions.sqlalchemy.together")
    if (drivers is not None and isinstance(transaction, drivers.DriverTransaction)) or (
        together is not None and isinstance(transaction, together.Together)
    ):
        raise DoctorError(
            "the app's batches use DriverTransaction; the doctor examines apps with "
            "SQLAlchemyTransaction only"
        )


def _transaction(loaded: Loaded) -> AsyncTransaction[Any]:
    transaction = loaded.transaction or SQLAlchemyTransaction()
    # Constructed for its side effect: batches follow calls into the threads and background tasks
    # of the app's framework, as they do when the app is served.
    AtomicBatch(loaded.inner, transaction=transaction)
    return transaction
