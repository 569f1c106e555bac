"""
Projects: a Django project as a patient. Its calls start where those of a batch start.

That is below BatchMiddleware, or in front of all middleware where the settings do not list it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.base import BaseHandler
from django.http.request import validate_host
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern
from django.utils.module_loading import import_string

from atomicbatch.django.handlers import AsyncCalls, SyncCalls
from atomicbatch.django.middleware import BatchMiddleware
from atomicbatch.django.options import options_of
from atomicbatch.django.outer import CallRequests
from atomicbatch.doctor.interfaces import Interface
from atomicbatch.doctor.loading import DoctorError
from atomicbatch.doctor.operations import operations_in
from atomicbatch.doctor.patients import AsyncPatient, Patient, SyncPatient, environ, scope
from atomicbatch.errors import kind_of
from atomicbatch.openapi.calls import Operation
from atomicbatch.transactions import DriverTransaction

# What the names or the paths of views have in them that give OpenAPI documents: those of Django
# Ninja, drf-spectacular and REST framework's own.
_DOCUMENTS = ("openapi", "schema", "swagger")
_MOST_DOCUMENTS = 10


def patient_of(interface: Interface) -> Patient:
    """
    Make a patient of the project whose settings are in force.

    Args:
        interface: That of the handler that the project gives to its server.

    Raises:
        DoctorError: What it says about batches in its settings is wrong.
    """
    try:
        own = _transaction()
    except ImproperlyConfigured as error:
        raise DoctorError(f"the settings are wrong: {error}") from error
    is_asgi = interface is Interface.ASGI
    get_response = _below(is_asgi)
    scheme, documents = _scheme(), _document_paths()
    if iscoroutinefunction(get_response):
        calls = AsyncCalls(get_response)
        return AsyncPatient(
            calls,
            calls,
            own,
            scheme=scheme,
            host=_host(),
            routes=_operations,
            documents=documents,
        )
    return SyncPatient(
        SyncCalls(get_response),
        own,
        # Below a middleware that is sync only, a project is sync under ASGI too.
        outer=CallRequests(scope(scheme)) if is_asgi else environ(scheme),
        host=_host(),
        routes=_operations,
        documents=documents,
    )


class Probe:
    """Stands where BatchMiddleware would, and keeps what is below."""

    sync_capable = True
    async_capable = True
    found: ClassVar[list[Callable[[Any], Any]]] = []

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self.found.append(get_response)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        return self._get_response(request)


def _below(is_asgi: bool) -> Callable[[Any], Any]:
    """What BatchMiddleware would be given: sync or async, as Django decides."""
    Probe.found.clear()
    with _probing():
        BaseHandler().load_middleware(is_async=is_asgi)
    return Probe.found.pop()


@contextmanager
def _probing() -> Iterator[None]:
    before = settings.MIDDLEWARE
    ours = [place for place, path in enumerate(before) if _is_ours(path)]
    below = before[ours[0] + 1 :] if ours else before
    settings.MIDDLEWARE = [f"{Probe.__module__}.{Probe.__qualname__}", *below]
    try:
        yield
    finally:
        settings.MIDDLEWARE = before


def _is_ours(path: str) -> bool:
    try:
        found = import_string(path)
    except ImportError:
        return False  # Django says so itself
    return isinstance(found, type) and issubclass(found, BatchMiddleware)


def _transaction() -> DriverTransaction:
    return DriverTransaction(outside=options_of().outside)


def _scheme() -> str:
    return "https" if settings.SECURE_SSL_REDIRECT else "http"


def _host() -> str:
    """A host that the project answers to."""
    allowed = settings.ALLOWED_HOSTS
    if not allowed or validate_host("localhost", allowed):
        return "localhost"  # without any, Django knows it while it is debugged
    host: str = allowed[0]
    return host.removeprefix(".")


def _document_paths() -> list[str]:
    """The paths at which the project seems to have an OpenAPI document."""
    found = [
        path
        for path, name in _views(get_resolver(), "/")
        if any(word in f"{path} {name}".lower() for word in _DOCUMENTS)
    ]
    return found[:_MOST_DOCUMENTS]


def _views(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, str]]:
    """The path and the name of each view whose path has no parameters."""
    for one in resolver.url_patterns:
        pattern = one.pattern
        # Expressions are not undone; prefixes of languages are.
        if pattern.converters or (not isinstance(pattern, RoutePattern) and pattern.regex.groups):
            continue
        path = prefix + str(pattern).lstrip("^").rstrip("$")
        if isinstance(one, URLResolver):
            yield from _views(one, path)
        elif isinstance(one, URLPattern):
            yield path, one.name or ""


def _operations() -> list[Operation]:
    """
    Make the calls from the document that REST framework can write by itself.

    A project need not serve it. It describes the views that have a serializer.

    Raises:
        DoctorError: REST framework cannot write it.
    """
    if not apps.is_installed("rest_framework"):
        return []
    try:
        from rest_framework.schemas.openapi import SchemaGenerator

        document = SchemaGenerator(title="").get_schema(request=None, public=True)
    except Exception as error:  # it wants packages that are not there, or cannot describe a view
        raise DoctorError(
            f"the project serves no OpenAPI document, and REST framework cannot write one "
            f"({kind_of(error)}: {error}); install what it asks for, name the path of a document "
            f"with --openapi, or write the calls into an .http file and pass it with --http"
        ) from error
    return operations_in([("", document)], set(), None) if document else []
