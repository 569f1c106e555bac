"""Django projects, under WSGI and ASGI: Django's own rules hold, and nothing is stored."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
_FILES = {
    "settings.py": """
SECRET_KEY = "of a test"
ALLOWED_HOSTS = [".shop.example"]
SECURE_SSL_REDIRECT = True
ROOT_URLCONF = "urls"
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions",
    "rest_framework", "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{name}.sqlite"}
    for name in ("default", "other")
}
DATABASES["default"]["ATOMIC_REQUESTS"] = True
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": []}
""",
    "shop/__init__.py": "",
    "shop/models.py": """
from django.db import models

class Item(models.Model):
    name = models.TextField()
""",
    "urls.py": """
import socket, sqlite3
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI, Schema
from shop.models import Item

api = NinjaAPI()
made = HttpResponse(status=201)
ran = []

class NewItem(Schema):
    name: str

@api.post("/items")
def ninja_item(request, new: NewItem):
    return {"id": Item.objects.create(name=new.name).id}

@api.get("/items")
def ninja_items(request):
    return [item.name for item in Item.objects.all()]

@csrf_exempt
def item(request):
    Item.objects.create(name="item")
    transaction.on_commit(lambda: ran.append("item"))
    return made

@csrf_exempt
@transaction.non_atomic_requests
async def async_item(request):
    await Item.objects.acreate(name="async")
    return made

@csrf_exempt
def two(request):
    Item.objects.create(name="two")
    Item.objects.using("other").create(name="two")
    return made

@csrf_exempt
def session(request):
    request.session["visits"] = 1
    return made

@csrf_exempt
def direct(request):
    with sqlite3.connect("other.sqlite") as other:
        other.execute("INSERT INTO shop_item (name) VALUES ('direct')")
    other.close()
    return made

@csrf_exempt
@transaction.non_atomic_requests
def closes(request):
    with transaction.atomic():
        Item.objects.create(name="closes")
        connection.close()
    return made

@csrf_exempt
def raises(request):
    Item.objects.create(name="raises")
    raise RuntimeError("boom")

@csrf_exempt
def outward(request):
    socket.create_connection(("192.0.2.7", 443))

def protected(request):
    Item.objects.create(name="protected")
    return made

urlpatterns = [
    path("api/", api.urls),
    *(path(f"{view.__name__}", view) for view in (
        item, async_item, two, session, direct, closes, raises, outward, protected
    )),
]
""",
    "rest.py": """
from django.urls import include, path
from rest_framework import routers, serializers, viewsets
from shop.models import Item

class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ("id", "name")

class Items(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("id")
    serializer_class = ItemSerializer

router = routers.SimpleRouter()
router.register("items", Items)
urlpatterns = router.urls
""",
    "plain.py": "urlpatterns = []",
    "middleware.py": """
def sees_no_call(get_response):
    def middleware(request):
        raise AssertionError("it comes before BatchMiddleware")
    return middleware

class SyncOnly:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)
""",
    "wsgi.py": """
import os
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
application = get_wsgi_application()
""",
    "asgi.py": """
import os
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
application = get_asgi_application()

class ByProtocol:
    application_mapping = {"http": application}

    async def __call__(self, scope, receive, send):
        await self.application_mapping[scope["type"]](scope, receive, send)

by_protocol = ByProtocol()
""",
    "calls.http": "\n###\n".join(
        f"POST /{name}"
        for name in (
            *("item", "async_item", "two", "session", "direct", "closes", "raises", "outward"),
            "protected",
        )
    ),
    "examine.py": """
import json
from pathlib import Path
from atomicbatch.doctor import DoctorError, examine

def told(name, http_file=None, **options):
    http_file = Path("calls.http") if http_file else None
    try:
        findings = examine(name, http_file=http_file, **options).findings
    except DoctorError as error:
        return str(error)
    return {
        f"{finding.operation.call.method} {finding.operation.path}": [
            finding.verdict.value, *finding.reasons
        ]
        for finding in findings
    }

WSGI, ASGI = "wsgi:application", "asgi:application"
found = {"wsgi": told(WSGI, True), "asgi": told(ASGI, True)}
token = "a" * 32
headers = {"X-CSRFToken": token, "Cookie": f"csrftoken={token}", "Referer": "https://shop.example/"}
found["token"] = told(WSGI, True, headers=headers)
found["by protocol"] = told("asgi:by_protocol", True)
found["document"] = told(WSGI)
import urls
from django.conf import settings
from atomicbatch.django.middleware import BatchMiddleware
below = settings.MIDDLEWARE
class Own(BatchMiddleware):
    pass
import middleware
middleware.Own = Own
settings.MIDDLEWARE = ["middleware.sees_no_call", "middleware.Own", *below]
settings.ATOMICBATCH = {"OUTSIDE": ["other"]}
found["with batches"] = told(WSGI, True)
settings.MIDDLEWARE = [*below, "middleware.SyncOnly"]
found["sync below asgi"] = told(ASGI, True)
settings.ROOT_URLCONF = "rest"
found["rest"] = told(ASGI)
from rest_framework.schemas import openapi
known, openapi.uritemplate = openapi.uritemplate, None
found["rest without uritemplate"] = told(ASGI)
openapi.uritemplate = known
settings.ROOT_URLCONF = "plain"
found["plain"] = told(ASGI)
settings.ATOMICBATCH = {"OUTSIDES": []}
found["misconfigured"] = told(WSGI)
found["ran"] = urls.ran
print(json.dumps(found))
""",
}
_TABLES = """
CREATE TABLE shop_item (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL);
CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
                             expire_date datetime NOT NULL);
"""
SAFE = ["safe"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's folder, with its databases."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in _FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in ("default", "other"):
        with closing(sqlite3.connect(folder / f"{name}.sqlite")) as connection:
            connection.executescript(_TABLES)
    return folder


@pytest.fixture(scope="module")
def found(project: Path) -> Any:
    """What there is to say about the project, in several ways to serve it; nothing is stored."""
    done = subprocess.run(
        [sys.executable, "examine.py"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [*stored(project)] == []
    return json.loads(done.stdout)


def stored(project: Path) -> Iterator[Any]:
    """What connections of our own find."""
    with ExitStack() as stack:
        for name in ("default", "other"):
            connection = stack.enter_context(closing(sqlite3.connect(project / f"{name}.sqlite")))
            for table in ("shop_item", "django_session"):
                yield from connection.execute(f"SELECT * FROM {table}")


_WAYS = ("wsgi", "asgi", "by protocol", "with batches", "sync below asgi")


@pytest.mark.parametrize("way", _WAYS)
def test_views(way: str, found: Any) -> None:
    """Sync and async views, sessions, a driver used directly, by whatever gateway."""
    for path in ("item", "async_item", "session"):
        assert found[way][f"POST /{path}"] == SAFE, path
    assert found[way]["POST /raises"] == ["not judged", "raised RuntimeError: boom"]
    talks = "talks to 192.0.2.7:443 (refused here, see --allow); a rollback does not undo that"
    assert found[way]["POST /outward"] == ["unsafe", talks]
    verdict, reason = found[way]["POST /closes"]
    assert (verdict, reason.partition(",")[0]) == (
        "unsafe",
        "a handler closes its connection inside atomic()",
    )
    assert found["ran"] == []


@pytest.mark.parametrize("way", _WAYS)
def test_csrf_is_judged_for_each_call(way: str, found: Any) -> None:
    """As in a batch."""
    verdict, reason = found[way]["POST /protected"]
    assert verdict == "not judged"
    assert reason.startswith("answered 403 Forbidden, for its CSRF check: send one token of 32 ")


def test_a_csrf_token(found: Any) -> None:
    """As the report says how to give it."""
    assert found["token"]["POST /protected"] == SAFE


@pytest.mark.parametrize("way", ["wsgi", "asgi", "by protocol"])
def test_two_databases(way: str, found: Any) -> None:
    """Both are named."""
    verdict, reason, _ = found[way]["POST /two"]
    both = "sqlite:///default.sqlite, sqlite:///other.sqlite"
    assert (verdict, reason) == (
        "unsafe",
        f"it changes 2 databases, which cannot be committed as one: {both}",
    )
    # ATOMIC_REQUESTS has begun in the one, and sqlite3 has written to the other.
    assert found[way]["POST /direct"] == [*SAFE, f"note: uses 2 databases: {both}"]


def test_a_database_outside(found: Any) -> None:
    """The setting ATOMICBATCH counts; here what is written there is rolled back all the same."""
    note = (
        "note: sqlite:///other.sqlite is outside of batches; what is done there is not rolled back"
    )
    for path in ("two", "direct"):
        verdict, *notes = found["with batches"][f"POST /{path}"]
        assert (verdict, notes[-1]) == ("safe", note)


def test_ninjas_document(found: Any) -> None:
    """It is found among the project's paths."""
    assert found["document"] == {"POST /api/items": SAFE, "GET /api/items": SAFE}


def test_rest_frameworks_own_document(found: Any) -> None:
    """Where the project serves none, REST framework writes one."""
    assert found["rest"]["GET /items/"] == found["rest"]["POST /items/"] == SAFE
    verdict, reason = found["rest"]["GET /items/{id}/"]
    assert (verdict, reason.partition(":")[0]) == ("not judged", "answered 404 Not Found")


def test_what_rest_framework_asks_for(found: Any) -> None:
    """It needs packages to write one, and names them."""
    said = found["rest without uritemplate"]
    assert "`uritemplate` must be installed" in said
    assert "--openapi" in said
    assert "--http" in said


def test_what_cannot_be_examined(found: Any) -> None:
    """A project without documents, and one whose settings are wrong."""
    assert "no OpenAPI document" in found["plain"]
    assert "--http" in found["plain"]
    assert found["misconfigured"].startswith("the settings are wrong: ATOMICBATCH has no key")
