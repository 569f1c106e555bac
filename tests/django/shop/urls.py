"""Where the shop's views are."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from tests.django.shop import odd, rest, views
from tests.django.shop.ninjas import api

urlpatterns = [
    path("items", views.items),
    path("async-items", views.async_items),
    path("class-items", views.Items.as_view()),
    path("async-class-items", views.AsyncItems.as_view()),
    path("fail", views.fail),
    path("echo", views.echo),
    path("upload", views.upload),
    path("protected", views.protected),
    path("visits", views.visits),
    path("login", views.sign_in),
    path("logout", views.sign_out),
    path("messages", views.messages_),
    path("odd/", include(odd.urlpatterns)),
    path("rest/", include(rest.urlpatterns)),
    path("ninja/", api.urls),
    path("admin/", admin.site.urls),
    path("slash/", views.items),
]
