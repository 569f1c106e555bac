"""Creates, as Django REST framework's own tutorial writes them."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework import generics, serializers

from benchmarks.drf_app.models import Item

_ModelSerializer: Any = serializers.ModelSerializer
_ListCreate: Any = generics.ListCreateAPIView


class ItemSerializer(_ModelSerializer):  # type: ignore[misc]  # nor has it
    """An item, as JSON."""

    class Meta:
        model = Item
        fields = ("id", "name", "stock")


class Items(_ListCreate):  # type: ignore[misc]
    """``POST /items`` creates one."""

    queryset: Any = Item.objects.all()
    serializer_class = ItemSerializer


urlpatterns = [path("items", Items.as_view())]
