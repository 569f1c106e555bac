"""The models of the app whose handlers the patterns are."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models

from tests.django.patterns.settings import LABEL


class Item(models.Model):
    """What nearly all handlers write."""

    name = models.CharField(max_length=50, unique=True)
    n = models.IntegerField(default=0)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = LABEL


class Coded(Item):
    """One object in two tables."""

    code = models.CharField(max_length=10, unique=True)

    class Meta:
        app_label = LABEL


class Line(models.Model):
    """What refers to an item; on PostgreSQL and SQLite that is checked at COMMIT."""

    item = models.ForeignKey(Item, models.CASCADE)

    class Meta:
        app_label = LABEL


class Place(models.Model):
    """Items in order. Where the database can, their ranks are compared at COMMIT."""

    name = models.CharField(max_length=50)
    rank = models.IntegerField()

    class Meta:
        app_label = LABEL
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(
                fields=["rank"], name="rank_once", deferrable=models.Deferrable.DEFERRED
            )
        ]


class Value(models.Model):
    """Values of types that drivers convert."""

    data = models.JSONField()
    price = models.DecimalField(max_digits=10, decimal_places=4)
    raw = models.BinaryField()
    day = models.DateField()
    moment = models.DateTimeField()
    key = models.UUIDField()
    length = models.DurationField()

    class Meta:
        app_label = LABEL


class Made(models.Model):
    """A table that a handler makes, and takes away again."""

    name = models.CharField(max_length=10)

    class Meta:
        app_label = LABEL
        managed = False


STORED: tuple[Any, ...] = (Item, Coded, Line, Place, Value)
