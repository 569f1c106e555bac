"""The project as a WSGI app with all that its first request would import."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

application = get_wsgi_application()
_ = get_resolver().url_patterns
