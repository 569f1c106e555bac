"""One table."""

from __future__ import annotations

from typing import Any

from django.db import models

_Model: Any = models.Model


class Item(_Model):  # type: ignore[misc]  # Django has no types
    """What is created."""

    name = models.CharField(max_length=99)
    stock = models.IntegerField(default=0)
