"""Who may import whom; the arrows are those of docs/explanation/architecture.md."""

from __future__ import annotations

import ast
import functools
import itertools
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "atomicbatch"
CORE = {"model", "errors", "limits", "big_bytes", "advice"}
ALLOWED = {
    "model": {"errors"},
    "errors": set[str](),
    "limits": set[str](),
    "advice": set[str](),
    "big_bytes": set[str](),
    "patches": set[str](),
    "greenlets": {"errors"},
    # These never meet.
    "wire": CORE,
    "engine": CORE | {"patches"},
    "sql": CORE,
    "drivers": CORE | {"sql"},
    "guard": CORE | {"sql"},
    "doors": CORE | {"patches", "sql", "drivers", "guard"},
    "join": CORE | {"sql", "drivers"},
    "transactions": CORE | {"patches", "greenlets", "sql", "drivers", "guard", "doors", "join"},
    "problems": CORE,
    "codings": CORE,
    # Of the engine it knows when a batch runs again: an endpoint can be told that.
    "exchange": CORE | {"wire", "problems", "codings", "engine"},
    "openapi": CORE,
    "asgi": CORE | {"patches", "guard", "doors", "openapi", "exchange", "problems", "engine"},
    "wsgi": CORE | {"patches", "guard", "doors", "exchange", "problems", "engine"},
    # It is one endpoint more, by the other two, and knows which adapter its projects want.
    "django": CORE
    | {"patches", "sql", "guard", "doors", "exchange", "engine", "asgi", "wsgi", "transactions"},
    "testing": CORE | {"patches", "engine", "wire", "guard", "doors", "transactions", "django"},
    "server": CORE
    | {"openapi", "asgi", "exchange", "problems", "engine", "transactions", "drivers"},
    "client": CORE | {"wire"},
    "doctor": CORE
    | {
        "patches",
        "openapi",
        "sql",
        "guard",
        "doors",
        "asgi",
        "wsgi",
        "django",
        "engine",
        "transactions",
        "join",
        "client",
        "exchange",
        "problems",
        "wire",
    },
    "cli": CORE | {"server", "client", "doctor", "wire", "problems"},
    "__main__": {"cli"},
}
STANDARD_LIBRARY_ONLY = set(ALLOWED) - {"server", "client", "cli"}
# What adapts a library imports that library, and what comes with it.
ADAPTERS = {
    "transactions/sqlalchemy/": {"sqlalchemy"},
    "asgi/threads.py": {"anyio"},
    "django/": {"django", "asgiref"},  # asgiref is Django's own
    "doctor/projects.py": {"django", "asgiref", "rest_framework"},
    "testing/before.py": {"pytest", "pytest_django", "django"},
    "testing/plugin.py": {"pytest"},
    "testing/everything.py": {"pytest"},
}
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


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            module = node.module or ""
            if module == "atomicbatch":
                yield from (f"atomicbatch.{alias.name}" for alias in node.names)
            else:
                yield module


def file_of(module: str) -> str | None:
    """The file of a module of ours, as ``name_of`` writes it."""
    place = SOURCE.parent.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_relative_to(SOURCE) and path.exists():
            return name_of(path)
    return None


def files_imported_by(path: Path) -> set[str]:
    """The files that a file imports from: at its top, in a function, or for its types only."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = node.module or ""
            found |= {
                file_of(f"{package}.{alias.name}") or file_of(package) for alias in node.names
            }
    return {name for name in found if name is not None}


def circle_in(arrows: Mapping[str, set[str]]) -> list[str]:
    """A way along the arrows that leads back to where it began; empty if there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_two_files_import_each_other() -> None:
    """Nor by way of others, nor in a function, nor under TYPE_CHECKING."""
    arrows = {
        name_of(path): files_imported_by(path) - {name_of(path)} for path in SOURCE.rglob("*.py")
    }
    assert circle_in(arrows) == []


@pytest.mark.parametrize("arrows", [ALLOWED, ROOMS], ids=["packages", "rooms of the server"])
def test_what_is_allowed_has_no_circle(arrows: Mapping[str, set[str]]) -> None:
    """Each package can be understood by those below it, and what is named exists."""
    assert circle_in(arrows) == []
    assert set(itertools.chain(*arrows.values())) <= set(arrows)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_one_way(path: Path) -> None:
    """A module imports from the layers below it and from nowhere else."""
    unit = unit_of(path)
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("atomicbatch.")}
    names_of_front_door = {"__version__"}
    assert ours - names_of_front_door <= ALLOWED[unit] | {unit}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if unit_of(path) == "doctor"], ids=name_of
)
def test_the_doctor_sees_one_face_of_the_join(path: Path) -> None:
    """It asks ``join/diagnosis.py`` and begins the transaction; the rest of the join may change."""
    seen = {
        name for name in imports_of(path) if name.split(".")[1:2] in (["join"], ["transactions"])
    }
    begun = {"atomicbatch.transactions", "atomicbatch.transactions.sqlalchemy"}
    assert seen <= {"atomicbatch.join.diagnosis", *begun}


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
    adapted = [some for start, some in ADAPTERS.items() if name_of(path).startswith(start)]
    assert roots <= sys.stdlib_module_names.union({"atomicbatch"}, *adapted)


@pytest.mark.parametrize(
    "path",
    [
        *(path for path in MODULES if unit_of(path) in ("wire", "sql")),
        *(path for path in MODULES if unit_of(path) == "exchange" and path.stem not in CLOCKED),
        SOURCE / "engine" / "execution.py",
        SOURCE / "engine" / "policy.py",
        SOURCE / "problems.py",
    ],
    ids=name_of,
)
def test_what_never_waits(path: Path) -> None:
    """The wire, SQL and the state machine have no async, no clock and no socket."""
    tree = tree_of(path)
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(tree) if isinstance(node, waiting)]
    roots = {name.partition(".")[0] for name in imports_of(path)}
    assert not roots & {"asyncio", "time", "datetime", "socket", "threading", "logging"}


@pytest.mark.parametrize("path", [path for path in MODULES if unit_of(path) == "join"], ids=name_of)
def test_the_join_decides_and_never_sends(path: Path) -> None:
    """It has no clock, no socket, no thread and no library; one shell of it awaits."""
    tree = tree_of(path)
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    if path.name != "awaiting.py":
        assert not [node for node in ast.walk(tree) if isinstance(node, waiting)]
    roots = {name.partition(".")[0] for name in imports_of(path)}
    assert not roots & {"asyncio", "time", "datetime", "socket", "selectors", "threading"}
