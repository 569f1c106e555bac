"""Options: the setting ``ATOMICBATCH``, checked, and what it means for the endpoint."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from atomicbatch.exchange import OptionNames


def options_of() -> OptionNames:
    """
    Read the setting.

    Raises:
        ImproperlyConfigured: It has a key that it cannot have.
    """
    given: dict[str, Any] = getattr(settings, "ATOMICBATCH", {})
    for key in given:
        if key != "PATH":
            raise ImproperlyConfigured(f"ATOMICBATCH has no key {key!r}")
    return {"path": given["PATH"]} if given else {}
