"""Plain views of the shop."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from tests.django.shop.models import Item


@csrf_exempt
def items(request: HttpRequest) -> HttpResponse:
    """List the names; or add the one in the body."""
    if request.method == "GET":
        return JsonResponse([item.name for item in Item.objects.all()], safe=False)
    name = request.body.decode()
    try:
        with transaction.atomic():
            Item.objects.create(name=name)
    except IntegrityError:
        return JsonResponse({"taken": name}, status=409)
    return JsonResponse({"name": name}, status=201)


@csrf_exempt
async def async_items(request: HttpRequest) -> HttpResponse:
    """The same, async."""
    if request.method == "GET":
        return JsonResponse([item.name async for item in Item.objects.all()], safe=False)
    name = request.body.decode()
    try:
        await Item.objects.acreate(name=name)
    except IntegrityError:
        return JsonResponse({"taken": name}, status=409)
    return JsonResponse({"name": name}, status=201)


@csrf_exempt
def fail(request: HttpRequest) -> HttpResponse:
    """Write, and raise."""
    Item.objects.create(name="failed")
    raise RuntimeError("on purpose")


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    """Tell what the request is like."""
    told: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "full": request.get_full_path(),
        "uri": request.build_absolute_uri(),
        "class": type(request).__name__,
        "body": request.body.decode(),
        "headers": dict(request.headers),
        "secure": request.is_secure(),
        "address": request.META.get("REMOTE_ADDR"),
    }
    return JsonResponse(told)
