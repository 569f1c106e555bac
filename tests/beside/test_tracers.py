"""Who traces drivers changes the same places as the doors do: before us and after us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.beside.program import DRIVERS, TOOLS
from tests.stores import Store

ROOT = Path(__file__).parents[2]
# Nobody listens to what they would report.
QUIET = {"DD_TRACE_ENABLED": "false", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false"}
OF = {
    "sqlite": ("sqlite3", "sqlalchemy", "aiosqlite"),
    "postgresql": ("psycopg", "psycopg2", "asyncpg"),
    "mariadb": ("pymysql", "mysqlclient"),
}


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("tool", TOOLS)
def test_batches_beside_a_tracer(
    tool: str,
    order: str,
    sqlite_store: Store,
    postgresql_store: Store,
    mariadb_store: Store,
) -> None:
    """Handlers do in a batch what they do alone, and a batch that fails leaves no row."""
    stores = {"sqlite": sqlite_store, "postgresql": postgresql_store, "mariadb": mariadb_store}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.beside.program", tool, order]
        + [store.url for store in stores.values()],
        cwd=ROOT,
        env=os.environ | QUIET | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, dict[str, Any]] = json.loads(ran.stdout.splitlines()[-1])
    for driver in DRIVERS:
        outcome, *replies = told[driver]["commits"]
        assert outcome == "committed", (driver, told[driver])
        assert replies == [told[driver]["alone"]] * 2, driver
        assert told[driver]["fails"].startswith("rolled-back; failed=3"), (driver, told[driver])
    for kind, store in stores.items():
        joined = [driver for driver in OF[kind] if driver in DRIVERS]
        wanted = [f"{driver}-{name}" for driver in joined for name in ("alone", "a", "b")]
        assert store.rows() == wanted
