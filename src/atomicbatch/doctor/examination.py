"""Examination: the name of an app -> a finding for each of its operations."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from atomicbatch import django, doors
from atomicbatch.doctor import blind_spots, routes, watching
from atomicbatch.doctor.interfaces import Interface
from atomicbatch.doctor.loading import DoctorError, Loaded, load_app
from atomicbatch.doctor.operations import from_http_file, with_headers
from atomicbatch.doctor.patients import Asked, AsyncPatient, Patient, SyncPatient
from atomicbatch.doctor.report import Finding, Line, Verdict, judge, lines, not_tried
from atomicbatch.openapi.calls import Operation


class Examination(NamedTuple):
    """The findings about one app."""

    findings: tuple[Finding, ...]
    adapters: str = ""
    """What to give AtomicBatch for batches as these were; empty: the app's own was used."""

    @property
    def good(self) -> bool:
        """Whether nothing is unsafe."""
        return all(finding.verdict is not Verdict.UNSAFE for finding in self.findings)

    @property
    def judged(self) -> bool:
        """Whether there is a verdict on at least one call."""
        return any(finding.verdict is not Verdict.NOT_JUDGED for finding in self.findings)

    def lines(self) -> Iterator[Line]:
        return lines(self.findings, self.adapters)


def examine(
    name: str,
    *,
    http_file: Path | None = None,
    headers: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    prefix: str | None = None,
    document: str | None = None,
    allowed: Collection[str] = (),
) -> Examination:
    """
    Try each operation of an app as a batch that is rolled back.

    Args:
        name: ``module:attribute``; the app is imported, started, and shut down at the end.
        http_file: The calls to try; None: they are made from the app's OpenAPI document, or from
            its routes.
        headers: Sent with each call that does not have one of that name.
        variables: Values for the variables of the file.
        prefix: Where the paths of the OpenAPI document begin; None: the doctor finds out.
        document: The path of the OpenAPI document; None: the doctor finds out.
        allowed: Addresses (``host:port``) that handlers may talk to, and files and folders that
            they may change.

    Raises:
        DoctorError: There is no such app, it does not start, or there is nothing to try.
    """
    chosen = from_http_file(http_file, variables or {}) if http_file else None
    watching.install()
    # Before the app opens its first connection. The hooks of Django's wait until it is imported.
    doors.install()
    django.hooks.install()
    loaded = load_app(name)
    headers = headers or {}
    with _quiet(), _patient(loaded) as patient:
        if not any(one.lower() == "host" for one in headers):
            headers = {**headers, "Host": patient.host}
        operations = chosen
        if operations is None:
            operations = patient.operations(Asked(prefix, document, headers))
        if not operations:
            raise DoctorError("the app's OpenAPI document has no operations: nothing to try")
        findings = [_finding(patient, one, headers, allowed) for one in operations]
        return Examination(tuple(findings), patient.trial.rehearsal.adapters)


def _patient(loaded: Loaded) -> Patient:
    if loaded.is_project:
        # Late: it imports Django.
        from atomicbatch.doctor import projects

        return projects.patient_of(loaded.interface)
    outermost, inner, own, *_ = loaded
    made, documents = partial(routes.operations_in, outermost), routes.documents_in(outermost)
    if loaded.interface is Interface.WSGI:
        return SyncPatient(inner, own, routes=made, documents=documents)
    return AsyncPatient(outermost, inner, own, routes=made, documents=documents)


def _finding(
    patient: Patient, operation: Operation, headers: Mapping[str, str], allowed: Collection[str]
) -> Finding:
    if operation.obstacle:
        return not_tried(operation)
    doors.begin_batch()
    with ExitStack() as stack:
        # Not earlier: the app may import what is watched while it starts.
        for spot in (blind_spots.processes, blind_spots.threads):
            stack.enter_context(spot())
        call = with_headers(operation, headers)
        return judge(operation, patient.try_call(call, watching.Watch(allowed)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Log nothing: otherwise every rollback, and every error of a handler, would be logged."""
    logger, before = logging.getLogger("atomicbatch"), logging.getLogger("atomicbatch").disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
