"""Sets Django up, once for a process; whoever imports models imports this first."""

from __future__ import annotations

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.settings"
django.setup()
# Projects that other tests start have settings of their own.
del os.environ["DJANGO_SETTINGS_MODULE"]
