"""Where the views are."""

from __future__ import annotations

from django.urls import path

from shop.views import OrdersView, ProductView

urlpatterns = [
    path("products/<sku>", ProductView.as_view()),
    path("orders", OrdersView.as_view()),
]
