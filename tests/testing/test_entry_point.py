"""How the plugin is loaded: once, and before connections are opened."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
# They take seconds to be imported.
OTHERS = (
    "anyio",
    "asyncio",
    "ddtrace",
    "django",
    "faker",
    "hypothesispytest",
    "xdist",
    "platformdirs",
)
NAME = "atomicbatch.testing.plugin"
EARLY = """
import sqlite3

pytest_plugins = ["atomicbatch.testing.plugin"]
connection = sqlite3.connect("shop.sqlite", check_same_thread=False)
connection.execute("CREATE TABLE orders (product TEXT)")
"""
TEST = """
import sqlite3
from conftest import connection

def test_early():
    connection.execute("INSERT INTO orders VALUES ('x')")
    connection.commit()

def test_other():
    with sqlite3.connect("other.sqlite") as other:
        other.execute("CREATE TABLE t (n)")
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run it as in an environment in which it is installed, and nothing else."""
    installed = pytester.path / "installed"
    folder = installed / "atomicbatch-0.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: atomicbatch\nVersion: 0\n")
    entry = "[pytest11]\natomicbatch = atomicbatch.testing.entry_point\n"
    (folder / "entry_points.txt").write_text(entry)
    # Distributions are told apart by their names: the first one counts.
    pytester._monkeypatch.setenv("PYTHONPATH", f"{installed}:{SRC}")
    return pytester.run(
        sys.executable, "-m", "pytest", "-pno:cacheprovider", "-pno:django", *options
    )


def test_it_is_loaded_once(pytester: pytest.Pytester) -> None:
    """By its entry point, by an option, and by a conftest."""
    pytester.makeconftest(f"pytest_plugins = [{NAME!r}]")
    pytester.makepyfile("def test_one(rolled_back):\n    pass\n")
    run(pytester, "-p", NAME).assert_outcomes(passed=1)


@pytest.mark.prove
def test_it_can_be_switched_off(pytester: pytest.Pytester) -> None:
    """As each plugin of pytest's."""
    pytester.makepyfile("def test_one(rolled_back):\n    pass\n")
    run(pytester, "-p", "no:atomicbatch").assert_outcomes(errors=1)


def test_connections_from_before(pytester: pytest.Pytester) -> None:
    """What was opened before it was loaded is named, and a test that writes on it fails."""
    pytester.makeconftest(EARLY)
    pytester.makepyfile(TEST)
    pytester.makeini("[pytest]\natomicbatch_rollback = true\n")
    pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester._monkeypatch.setenv("PYTHONPATH", str(SRC))
    result = pytester.runpytest_subprocess("-pno:cacheprovider")
    result.assert_outcomes(passed=1, failed=1, warnings=1)
    since = "opened before the pytest plugin was loaded"
    written = f"*NotRolledBackError: *(INSERT) to shop.sqlite by sqlite3*{since}*-p {NAME}*"
    named = f"*PytestWarning: *{since} are not rolled back: sqlite3's to shop.sqlite; open them*"
    result.stdout.fnmatch_lines([f"E {written}", named])
