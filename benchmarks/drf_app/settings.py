"""Settings, of which the environment gives the database and how long connections are kept."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

_URL = urlsplit(os.environ["DRF_DATABASE"])
SECRET_KEY = "for measuring only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "benchmarks.drf_app.urls"
INSTALLED_APPS = [
    "atomicbatch.django",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "benchmarks.drf_app",
]
MIDDLEWARE = [
    "atomicbatch.django.BatchMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _URL.hostname,
        "PORT": _URL.port,
        "USER": _URL.username,
        "PASSWORD": _URL.password or "",
        "NAME": _URL.path.strip("/"),
        "CONN_MAX_AGE": int(os.environ["DRF_MAX_AGE"]),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
