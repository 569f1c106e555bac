"""Fixtures: the shop in each of its forms, on a fresh SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.asgi.shop import Made

Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make the shop: ``make(form, **options of AtomicBatch)``."""

    def make(form: str = "outermost", folder: str | None = None, **options: Any) -> Made:
        return Made(form, str(Path(folder or tmp_path) / "shop.sqlite"), **options)

    return make


@pytest.fixture(params=["outermost", "middleware", "mounted"])
def made(request: pytest.FixtureRequest, make: Make) -> Made:
    return make(request.param)
