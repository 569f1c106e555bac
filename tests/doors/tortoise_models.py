"""Tortoise wants its models in a module."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class Row(Model):
    """A row of ``t``."""

    name = fields.CharField(99)

    class Meta:
        """Of the table."""

        table = "t"
