"""Who traces drivers changes the same places as the doors do: before us and after us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.beside.program import DRIVERS, ORDERS, TOOLS
from tests.stores import Store

ROOT = Path(__file__).parents[2]
# Nobody listens to what they would report.
QUIET = {"DD_TRACE_ENABLED": "false", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false"}
OF = {
    "sqlite": ("sqlite3", "sqlalchemy", "aiosqlite"),
    "postgresql": ("psycopg", "psycopg2", "asyncpg"),
    "mariadb": ("pymysql", "mysqlclient"),
}


def test_batches_beside_a_tracer(
    sqlite_store: Store, postgresql_store: Store, mariadb_store: Store
) -> None:
    """Handlers do in a batch what they do alone, and a batch that fails leaves no row."""
    stores = {"sqlite": sqlite_store, "postgresql": postgresql_store, "mariadb": mariadb_store}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.beside.program", *(store.url for store in stores.values())],
        cwd=ROOT,
        env=os.environ | QUIET | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, dict[str, dict[str, Any]]] = json.loads(ran.stdout.splitlines()[-1])
    assert list(told) == [f"{tool}-{order}" for tool in TOOLS for order in ORDERS]
    for case, drivers in told.items():
        assert list(drivers) == list(DRIVERS), (case, ran.stderr)
        for driver, found in drivers.items():
            outcome, *replies = found["commits"]
            assert outcome == "committed", (case, driver, found)
            assert replies == [found["alone"]] * 2, (case, driver)
            assert found["fails"].startswith("rolled-back; failed=3"), (case, driver, found)
    for kind, store in stores.items():
        names = ("alone", "a", "b")
        assert store.rows() == [
            f"{case}-{driver}-{name}" for case in told for driver in OF[kind] for name in names
        ]
