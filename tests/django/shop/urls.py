"""Where the shop's views are."""

from __future__ import annotations

from django.urls import path

from tests.django.shop import views

urlpatterns = [
    path("items", views.items),
    path("async-items", views.async_items),
    path("fail", views.fail),
    path("echo", views.echo),
]
