"""What the shop stores."""

from __future__ import annotations

from django.db import models


class Item(models.Model):
    """A thing with a name of its own."""

    name = models.CharField(max_length=100, unique=True)
    stock = models.IntegerField(default=0)

    class Meta:
        ordering = ("name",)
