"""Who may import whom; the arrows are those of docs/explanation/architecture.md."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "atomicbatch"
CORE = {"model", "errors", "limits", "big_bytes"}
ALLOWED = {
    "model": {"errors"},
    "errors": set[str](),
    "limits": set[str](),
    "big_bytes": set[str](),
    "patches": set[str](),
    # These never meet.
    "wire": CORE,
    "engine": CORE | {"patches"},
    "sql": CORE,
    "drivers": CORE | {"sql"},
    "guard": CORE | {"sql"},
    "doors": CORE | {"patches", "sql", "guard"},
    "join": CORE | {"sql", "drivers"},
    "transactions": CORE | {"patches", "sql", "drivers", "guard", "doors", "join"},
    "problems": CORE,
    "codings": CORE,
    # Of the engine it knows when a batch runs again: an endpoint can be told that.
    "exchange": CORE | {"wire", "problems", "codings", "engine"},
    "openapi": CORE,
    "asgi": CORE | {"patches", "guard", "doors", "openapi", "exchange", "problems", "engine"},
    "wsgi": CORE | {"patches", "guard", "doors", "exchange", "problems", "engine"},
    "testing": CORE | {"engine", "wire"},
    "server": CORE
    | {"openapi", "asgi", "exchange", "problems", "engine", "transactions", "drivers"},
    "client": CORE | {"wire"},
    "doctor": CORE
    | {
        "patches",
        "openapi",
        "asgi",
        "engine",
        "transactions",
        "client",
        "exchange",
        "problems",
        "wire",
    },
    "cli": CORE | {"server", "client", "doctor", "wire", "problems"},
    "__main__": {"cli"},
}
STANDARD_LIBRARY_ONLY = set(ALLOWED) - {"server", "client", "cli"}
# What adapts a library imports that library, and no other.
ADAPTERS = {"transactions/sqlalchemy/": "sqlalchemy", "asgi/threads.py": "anyio"}
# The server's rooms among themselves: a request goes down this list.
ROOMS = {
    "dialect": set[str](),
    "principal": set[str](),
    "values": {"dialect"},
    "schema": {"dialect", "values"},
    "query": {"dialect", "values", "schema"},
    "database": {"dialect", "principal", "schema"},
    "rows": {"dialect", "principal", "values", "schema", "query", "database"},
    "pages": {"values", "schema"},
    "http": {"principal", "schema", "database", "rows", "pages"},
    "sample": set[str](),
}
# One knows what time it is, and one counts what several threads take.
CLOCKED = {"response", "holding"}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def unit_of(path: Path) -> str:
    """The top-level module or package that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            module = node.module or ""
            if module == "atomicbatch":
                yield from (f"atomicbatch.{alias.name}" for alias in node.names)
            else:
                yield module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_one_way(path: Path) -> None:
    """A module imports from the layers below it and from nowhere else."""
    unit = unit_of(path)
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("atomicbatch.")}
    names_of_front_door = {"__version__"}
    assert ours - names_of_front_door <= ALLOWED[unit] | {unit}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if unit_of(path) == "server"], ids=name_of
)
def test_the_servers_rooms_have_arrows_of_their_own(path: Path) -> None:
    """Inside the server too, a room imports from the rooms below it, and never back."""
    _, room, *_ = (*path.relative_to(SOURCE).with_suffix("").parts, "")
    names = (name.split(".") for name in imports_of(path))
    ours = {name[2] for name in names if name[:2] == ["atomicbatch", "server"] and len(name) > 2}
    assert ours <= ROOMS.get(room, set()) | {room}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if unit_of(path) in STANDARD_LIBRARY_ONLY], ids=name_of
)
def test_the_core_needs_the_standard_library_alone(path: Path) -> None:
    """Only the server, the client, the command line and adapters import third parties' packages."""
    roots = {name.partition(".")[0] for name in imports_of(path)}
    adapted = {library for start, library in ADAPTERS.items() if name_of(path).startswith(start)}
    assert roots <= sys.stdlib_module_names | {"atomicbatch"} | adapted


@pytest.mark.parametrize(
    "path",
    [
        *(path for path in MODULES if unit_of(path) == "wire"),
        *(path for path in MODULES if unit_of(path) == "exchange" and path.stem not in CLOCKED),
        SOURCE / "engine" / "execution.py",
        SOURCE / "problems.py",
    ],
    ids=name_of,
)
def test_what_never_waits(path: Path) -> None:
    """The wire and the state machine have no async, no clock and no socket."""
    tree = ast.parse(path.read_text("utf-8"))
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(tree) if isinstance(node, waiting)]
    roots = {name.partition(".")[0] for name in imports_of(path)}
    assert not roots & {"asyncio", "time", "datetime", "socket", "threading", "logging"}


@pytest.mark.parametrize("path", [path for path in MODULES if unit_of(path) == "join"], ids=name_of)
def test_the_join_decides_and_never_sends(path: Path) -> None:
    """It has no clock, no socket, no thread and no library; one shell of it awaits."""
    tree = ast.parse(path.read_text("utf-8"))
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    if path.name != "awaiting.py":
        assert not [node for node in ast.walk(tree) if isinstance(node, waiting)]
    roots = {name.partition(".")[0] for name in imports_of(path)}
    assert not roots & {"asyncio", "time", "datetime", "socket", "selectors", "threading"}
