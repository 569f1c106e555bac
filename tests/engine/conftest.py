"""Both shells, for what is promised by both."""

from __future__ import annotations

import pytest

from tests.engine.fakes import (
    Run,
    run_async,
    run_sync,
)


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    shell: Run = request.param
    return shell
