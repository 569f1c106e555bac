"""Tortoise wants its models in a module."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class Item(Model):
    """A row of ``item``."""

    name = fields.CharField(60, unique=True)
    n = fields.IntField(default=0)

    class Meta:
        """Of the table."""

        table = "item"
