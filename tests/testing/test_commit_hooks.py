"""Functions that wait for a commit run in a test, or are left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import sqlite3
from contextlib import closing

import django
import pytest
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite"}}
)
django.setup()
from django.db import connection, transaction
from atomicbatch import on_commit

told = []

def shop():
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES ('tea')")
        transaction.on_commit(lambda: told.append("in a block"))
    transaction.on_commit(lambda: told.append("at once"))
    on_commit(told.append, "ours")

def test_shop(rolled_back):
    shop()
    assert told == WANTED

def test_not_rolled_back():
    told.clear()
    transaction.on_commit(lambda: told.append("at once"))
    on_commit(told.append, "ours")
    assert told == ["at once", "ours"]
    connection.close()
"""


@pytest.mark.parametrize("runs", ["true", "false"])
def test_functions_that_wait_for_a_commit(runs: str, tmp_path: Path) -> None:
    """By Django and by us; where no test is rolled back, they run as ever."""
    wanted = ["in a block", "at once", "ours"] if runs == "true" else []
    (tmp_path / "test_shop.py").write_text(SUITE.replace("WANTED", repr(wanted)))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\natomicbatch_commit_hooks = {runs}\n")
    make = "import sqlite3; sqlite3.connect('shop.sqlite').execute('CREATE TABLE orders (name)')"
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    plugin = ["-p", "atomicbatch.testing.plugin"]
    # Whether this environment has the entry point or not, it is loaded once.
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(
        [*command, *plugin], cwd=tmp_path, env=alone, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
