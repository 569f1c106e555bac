"""The tests have the same tree as the source, file for file."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "atomicbatch"


def sources() -> list[str]:
    return sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


def all_tests() -> list[str]:
    return sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py"))


def name_of_test(source: str) -> str:
    """``wire/multipart.py``: ``wire/test_multipart.py``."""
    path = Path(source)
    return str(path.with_name(f"test_{path.name}"))


def has_behaviour(path: Path) -> bool:
    """Whether any function does something: protocols, types, constants and imports do nothing."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(
        isinstance(node, functions) and not all(_says_nothing(line) for line in node.body)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )


def _says_nothing(line: ast.stmt) -> bool:
    return isinstance(line, ast.Pass) or (
        isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    )


# Tests of what several files do together: they have no source of their name, for the reason beside.
TOGETHER = {
    "docs/": "what the documents say",
    "beside/": "whoever else changes the same places of drivers and of Python",
    "examples/": "the examples and how-tos, run as they stand",
    "server/faults/": "kills, hang-ups, stalls and crowds, of a whole server",
    "server/test_google_client.py": "another program's client against a whole server",
    "server/test_transactions.py": "batches on a whole server, on each database",
    "server/rows/test_round_trips.py": "what one file reads, another one writes",
    "asgi/test_servers.py": "one contract for the ASGI servers of others",
    "asgi/test_holding.py": "a server's memory while bodies come in",
    "wsgi/test_servers.py": "one contract for the WSGI servers of others",
    "wsgi/test_flask_sqlalchemy.py": "a library of others, unmodified",
    "wire/test_corpus.py": "requests and responses of many kinds, read as a whole",
    "wire/test_google.py": "another program's client",
    "wire/test_warm.py": "what readers of all kinds remember changes nothing that they read",
    "wire/test_linear.py": "no reader takes more time than its input is long",
    "django/test_frameworks.py": "libraries of others, unmodified",
    "django/test_live.py": "a project behind real servers",
    "django/test_pages.py": "what the documents say",
    "django/test_who_calls.py": "what a project's own middleware does for each call",
    "django/test_patterns.py": "the oracle, for a project in each configuration",
    "transactions/drivers/test_modes.py": "the oracle, in each mode of sqlite3",
    "transactions/drivers/test_mixtures.py": "several libraries, or drivers, in one batch",
    "transactions/drivers/test_oracle.py": "the oracle",
    "transactions/drivers/test_table.py": "a page of the docs, written from the oracle",
    "transactions/drivers/test_servers.py": "what the oracle looks at databases with",
    "transactions/drivers/test_through_sqlalchemy.py": "SQLAlchemy's oracle by another door",
    "transactions/sqlalchemy/test_oracle.py": "the oracle",
    "transactions/sqlalchemy/test_oracle_wsgi.py": "the oracle",
    "transactions/sqlalchemy/test_styles.py": "the oracle, for the ways in which apps are written",
    "transactions/sqlalchemy/test_template.py": "the oracle, for an app of many files",
    "transactions/sqlalchemy/test_random.py": "random programs, one at a time",
    "transactions/sqlalchemy/test_interleaved.py": "random programs, at the same time",
    "transactions/sqlalchemy/test_lifecycle.py": "from the first statement to after the end",
    "transactions/sqlalchemy/test_replay.py": "conflicts, on each driver",
    "transactions/sqlalchemy/test_giving_way.py": "batches on one event loop",
    "transactions/sqlalchemy/test_commit_faults.py": "faults at COMMIT, on each driver",
    "transactions/sqlalchemy/test_commit_refused.py": "faults at COMMIT, on each driver",
    "transactions/sqlalchemy/test_time_limit.py": "databases that fall silent, on each driver",
    "transactions/sqlalchemy/test_time_limit_wsgi.py": "databases that fall silent",
    "transactions/sqlalchemy/test_logs.py": "what operators are told of a batch",
    "transactions/sqlalchemy/test_seal.py": "what runs right before COMMIT",
    "testing/test_django.py": "a framework of others, and its own plugin of pytest",
    "testing/test_libraries.py": "the oracle, in tests that are rolled back",
    "testing/test_table.py": "a page of the docs, written from these tests",
    "testing/test_wishes.py": "what people ask for, one by one",
    "testing/test_plugin_servers.py": "suites of others, on servers' databases",
    "test_exported_members.py": "the front door",
    "test_layers.py": "who imports whom",
    "test_tree.py": "this",
    "test_proxies.py": "a tool of the tests",
}
# Sources that are tested through another: by which test file.
THROUGH = {
    "asgi/after_response.py": "asgi/test_background.py",
    "asgi/frameworks.py": "asgi/test_background.py",
    "asgi/body.py": "asgi/test_dispatch.py",
    "asgi/threads.py": "asgi/test_heavy.py",
    "cli/__init__.py": "cli/test_commands.py",
    "cli/arguments.py": "cli/test_commands.py",
    "cli/endings.py": "cli/test_send.py",
    "cli/doctor.py": "doctor/test_report.py",
    "cli/serve.py": "server/database/test_opening.py",
    "client/request_text.py": "client/test_http_file.py",
    "client/variables.py": "client/test_http_file.py",
    "django/__init__.py": "django/test_hooks.py",
    "django/apps.py": "django/test_checks.py",
    "django/outer.py": "django/test_middleware.py",
    "doors/asyncpg_*.py": "doors/test_asyncpg.py",
    # What they are for is seen in the oracle of drivers.
    "doors/mysql_kinds.py": "doors/test_pymysql.py",
    "doors/mysqlclient_*.py": "doors/test_mysqlclient.py",
    "doors/psycopg2_*.py": "doors/test_psycopg2.py",
    "doors/psycopg_*.py": "doors/test_psycopg.py",
    "doors/sqlite_connect.py": "doors/test_sqlite.py",
    "doors/sqlite_origins.py": "doors/test_sqlite.py",
    "doors/sqlite_uses.py": "doors/test_sqlite.py",
    # One contract for all of them.
    "drivers/*_codes.py": "drivers/test_verdicts.py",
    "drivers/*.py": "drivers/test_driver.py",
    # What is seen under gevent itself, in a program.
    "greenlets.py": "beside/test_gevent.py",
    "engine/spawning.py": "beside/test_gevent.py",
    "guard/blocks.py": "guard/test_watch.py",
    "guard/calls.py": "guard/test_watch.py",
    "guard/reach.py": "guard/test_watch.py",
    # A checkout is what they are for.
    "join/*.py": "join/test_checkout.py",
    "limits.py": "wire/test_batch.py",
    "model.py": "wire/test_call.py",
    "openapi/batch_path.py": "asgi/test_document.py",
    "openapi/calls.py": "openapi/test_samples.py",
    "server/dialect.py": "server/query/test_sql.py",
    "server/sample.py": "cli/test_sample.py",
    "server/database/tickets.py": "server/database/test_threads.py",
    "server/database/counting.py": "server/database/test_backends.py",
    "server/database/sqlite_files.py": "server/database/test_opening.py",
    "server/database/database.py": "server/database/test_sessions.py",
    "server/database/*.py": "server/database/test_backends.py",
    "server/http/batches.py": "server/test_transactions.py",
    "server/http/hang_up.py": "server/http/test_connection.py",
    "server/http/listening.py": "server/http/test_serve.py",
    "server/http/patience.py": "server/http/test_connection.py",
    "server/http/replies.py": "server/rows/test_refusals.py",
    "server/http/request.py": "server/http/test_connection.py",
    "server/http/traffic.py": "server/http/test_connection.py",
    "server/http/workers.py": "server/http/test_supervisor.py",
    "server/pages/fixed.py": "server/pages/test_index.py",
    "server/pages/openapi_*.py": "server/pages/test_openapi.py",
    "server/query/*.py": "server/query/test_query.py",
    "server/rows/bodies.py": "server/rows/test_refusals.py",
    "server/rows/duplicates.py": "server/rows/test_preferences.py",
    "server/rows/failures.py": "server/rows/test_refusals.py",
    "server/rows/preconditions.py": "server/rows/test_preferences.py",
    "server/rows/references.py": "server/rows/test_keys.py",
    # What clients see of them: each kind of call, on each database.
    "server/rows/*.py": "server/rows/test_api.py",
    "server/schema/*.py": "server/schema/test_reflection.py",
    "server/values/*.py": "server/values/test_codec.py",
    "sql/kinds.py": "sql/test_statements.py",
    "transactions/__init__.py": "test_exported_members.py",
    "transactions/joining.py": "transactions/test_drivers.py",
    "testing/before.py": "testing/test_scopes.py",
    "testing/everything.py": "testing/test_scopes.py",
    "testing/following.py": "testing/test_plugin.py",
    "transactions/around.py": "testing/test_plugin.py",
    # They are there for tests.
    "transactions/nested/servers.py": "testing/test_plugin_servers.py",
    "transactions/nested/wires.py": "testing/test_plugin_servers.py",
    "transactions/nested/*.py": "testing/test_scopes.py",
    # What a handler does alone, it does in a batch: every file of an adapter is there for that.
    "transactions/sqlite/*.py": "transactions/drivers/test_oracle.py",
    "transactions/servers/*.py": "transactions/servers/test_attempt.py",
    "transactions/slots.py": "transactions/sqlalchemy/test_waiting.py",
    "transactions/sqlalchemy/gate.py": "transactions/sqlalchemy/test_giving_way.py",
    "transactions/sqlalchemy/dialects.py": "transactions/sqlalchemy/test_engines.py",
    "transactions/sqlalchemy/hook.py": "transactions/sqlalchemy/test_lifecycle.py",
    "transactions/sqlalchemy/*.py": "transactions/sqlalchemy/test_oracle.py",
}


@pytest.mark.parametrize("test", all_tests())
def test_each_test_has_its_source(test: str) -> None:
    """A test file is named after what it tests, or stands on the list of those that cannot be."""
    reasons = [start for start in TOGETHER if test.startswith(start)]
    of_one = test in {name_of_test(source) for source in sources()}
    assert of_one or reasons, f"name {test} after its source, or say here why it has none"
    assert not (of_one and reasons), f"{reasons} has a source"


@pytest.mark.parametrize("source", [name for name in sources() if has_behaviour(SOURCE / name)])
def test_each_source_has_its_test(source: str) -> None:
    """A file that does something has a test file of its name, or it is said through which."""
    assert name_of_test(source) in all_tests() or through(source), f"where is {source} tested?"


def through(source: str) -> str | None:
    """The pattern that names the test of a source without its own."""
    return next((pattern for pattern in THROUGH if fnmatch(source, pattern)), None)


def test_the_lists_are_honest() -> None:
    """What they name is there, and nothing is listed that need not be."""
    without = [
        source
        for source in sources()
        if has_behaviour(SOURCE / source) and name_of_test(source) not in all_tests()
    ]
    assert {through(source) for source in without} - {None} == set(THROUGH)
    assert set(THROUGH.values()) <= set(all_tests())
    assert not [
        start for start in TOGETHER if not any(test.startswith(start) for test in all_tests())
    ]
