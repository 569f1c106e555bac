"""gevent makes greenlets of threads: batches of a WSGI app are whole even so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.stores import Store

ROOT = Path(__file__).parents[2]


def test_batches_in_greenlets(sqlite_store: Store, mariadb_store: Store) -> None:
    """What is stored is the union of the batches that were committed."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.beside.under_gevent", sqlite_store.url, mariadb_store.url],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    stored = json.loads(ran.stdout.splitlines()[-1])
    assert stored
    assert sorted([*sqlite_store.rows(), *mariadb_store.rows()]) == stored
