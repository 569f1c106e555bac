"""The app for INSTALLED_APPS: it puts the doors in early, and brings the system checks."""

from __future__ import annotations

from django.apps import AppConfig


class AtomicBatchConfig(AppConfig):
    """It has no models; without it batches work as well."""

    name = "atomicbatch.django"
    label = "atomicbatch"
    verbose_name = "Batches"

    def ready(self) -> None:
        """Bring the system checks, also where the middleware is not listed."""
        from atomicbatch.django import checks  # noqa: F401  # it registers them
