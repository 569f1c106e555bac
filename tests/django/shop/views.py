"""Plain views of the shop, as they are written anywhere."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
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


@method_decorator(csrf_exempt, "dispatch")
class Items(View):
    """The same, as a class."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return items(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        return items(request)


@method_decorator(csrf_exempt, "dispatch")
class AsyncItems(View):
    """The same, as a class with async methods."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        return await async_items(request)

    async def post(self, request: HttpRequest) -> HttpResponse:
        return await async_items(request)


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
        "script": request.META.get("SCRIPT_NAME"),
        "target": request.META.get("REQUEST_URI", request.META.get("RAW_URI")),
        "meta": sorted(name for name in request.META if "." in name),
    }
    return JsonResponse(told)


UPLOADED: list[Any] = []


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    """Tell what was uploaded, and store its name."""
    file = request.FILES["file"]
    UPLOADED.append(file)
    Item.objects.create(name=file.name, stock=file.size)
    told = {"kind": type(file).__name__, "size": file.size, "start": file.read(20).decode()}
    return JsonResponse(told | {"form": request.POST["title"]}, status=201)


# Who calls -----------------------------------------------------------------------------------


@login_required
def protected(request: HttpRequest) -> HttpResponse:
    """Add an item, with CsrfViewMiddleware in force, and for whoever has signed in."""
    if request.method == "POST":
        Item.objects.create(name=f"of {request.user}")
    return JsonResponse({"user": str(request.user)})


def visits(request: HttpRequest) -> HttpResponse:
    """Count in the session how often it was here."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse(request.session["visits"], safe=False)


@csrf_exempt
def sign_in(request: HttpRequest) -> HttpResponse:
    name, _, password = request.body.decode().partition(":")
    user = authenticate(request, username=name, password=password)
    if user is None:
        return JsonResponse({}, status=403)
    login(request, user)
    return JsonResponse({"user": name})


@csrf_exempt
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return JsonResponse({})


def messages_(request: HttpRequest) -> HttpResponse:
    """Take the messages that wait; leave another one."""
    waiting = [str(one) for one in messages.get_messages(request)]
    messages.success(request, "come again")
    return JsonResponse(waiting, safe=False)
