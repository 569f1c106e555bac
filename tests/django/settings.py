"""Settings of the project that the tests run; the environment says where its database is."""

from __future__ import annotations

import os
import tempfile
from typing import Any
from urllib.parse import urlsplit

# A server is told; the tests of this process have one of their own, which their fixture makes.
DATABASE = os.environ.get(
    "SHOP_DATABASE", f"{tempfile.gettempdir()}/atomicbatch-{os.getpid()}.sqlite"
)
SECRET_KEY = "of no use"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.django.shop.urls"
INSTALLED_APPS = [
    "atomicbatch.django",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework.authtoken",
    "tests.django.shop",
]
BATCH = "atomicbatch.django.BatchMiddleware"
OTHERS = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
SYNC_ONLY = "tests.django.shop.middleware.sync_only"
MIDDLEWARE = [BATCH, *OTHERS]
if "SHOP_SYNC_ONLY" in os.environ:
    MIDDLEWARE.append(SYNC_ONLY)
_URL = urlsplit(os.environ.get("SHOP_POSTGRESQL", ""))
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _URL.path.strip("/"),
        "HOST": _URL.hostname,
        "PORT": _URL.port,
        "USER": _URL.username,
    }
    if _URL.netloc
    else {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        "OPTIONS": {"timeout": 20},
    }
}
DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ.get("SHOP_CONN_MAX_AGE", "0"))
# Their tables are made as they are now, which is much faster than step by step.
MIGRATION_MODULES = dict.fromkeys(["admin", "auth", "contenttypes", "sessions", "authtoken"])
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "en"
USE_TZ = True
STATIC_URL = "/static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # for speed
LOGGING_CONFIG = None
