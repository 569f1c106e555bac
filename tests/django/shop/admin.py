"""The shop in Django's admin."""

from __future__ import annotations

from django.contrib import admin

from tests.django.shop.models import Item

admin.site.register(Item)
