"""
What a pattern comes to in a batch where that is not what it comes to alone, and why.

It is what the tests demand of each configuration, and what the docs say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from tests.django.patterns.settings import Variant

NOT_DJANGOS = re.compile(
    r"outside=|isolation_level=|DriverTransaction|SQLAlchemy|AtomicBatch\b|engine|import it"
    r"|execution_options|batch's own connections"
)
"""Words of messages for those who have no settings of Django's."""
REFUSED = "refused"
DIFFERENT = "DIFFERENT"


class Deviation(NamedTuple):
    """
    Patterns that are not the same.

    Attributes:
        patterns: Their names.
        said: What the batch's answer says of it, in part; empty where it is not refused.
        where: Tells whether it is so in a configuration.
        why: For people; where that is not everywhere, it says where it is so.
        verdict: What it is.
    """

    patterns: tuple[str, ...]
    said: str
    where: Callable[[Variant], bool]
    why: str
    verdict: str = REFUSED


def _everywhere(_: Variant) -> bool:
    return True


def _on_sqlite(variant: Variant) -> bool:
    return variant.driver == "sqlite3"


def _with_atomic_requests(variant: Variant) -> bool:
    return variant.atomic


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        ("two_databases", "two_databases_one_rolls_back"),
        "has changed two databases",
        _everywhere,
        "Two databases cannot be committed as one. A batch may read several, and write to one.",
    ),
    Deviation(
        ("closes_inside",),
        "closes its connection inside atomic()",
        _everywhere,
        "Alone the call succeeds, and its rows are lost. In a batch that is refused.",
    ),
    Deviation(
        ("closes_last", "closes_all", "closes_inside_after_read", "after_and_closed"),
        "closes its connection inside atomic()",
        _with_atomic_requests,
        "With `ATOMIC_REQUESTS` only: the view itself is inside `atomic()`, so that its rows would "
        "be lost.",
    ),
    Deviation(
        ("closes", "closes_old"),
        "closes its connection inside atomic()",
        _with_atomic_requests,
        "With `ATOMIC_REQUESTS` only, where the next query raises when the view is called alone.",
    ),
    Deviation(
        ("second_connection",),
        "",
        lambda variant: variant.atomic and not _on_sqlite(variant),
        "With `ATOMIC_REQUESTS` only: both connections work in the batch's transaction. So the "
        "second sees what the first has not committed yet, and does not wait for its locks.",
        DIFFERENT,
    ),
    Deviation(
        ("second_alias",),
        "",
        _with_atomic_requests,
        "With `ATOMIC_REQUESTS` only, where each alias is in a transaction of its own: in a batch "
        "both work in one. So the second sees what the first has not committed yet.",
        DIFFERENT,
    ),
    Deviation(
        ("routed",),
        "",
        lambda variant: variant.atomic and _on_sqlite(variant),
        "With `ATOMIC_REQUESTS` only, where the view fails when it is called alone: one alias has "
        "a lock that the other waits for. In a batch both work in one transaction.",
        DIFFERENT,
    ),
    Deviation(
        ("dangling", "dangling_atomic", "dangling_uncaught"),
        "COMMIT was refused by a constraint",
        _on_sqlite,
        "SQLite checks the reference at COMMIT only, which is the batch's: `failed=commit`. "
        "Nothing is stored.",
    ),
    Deviation(
        ("unchecked", "makes_table"),
        "differ in PRAGMA foreign_keys",
        lambda variant: _on_sqlite(variant) and not variant.atomic,
        "Django switches foreign keys off, which SQLite ignores inside a transaction. With "
        "`ATOMIC_REQUESTS` Django itself refuses, or goes on without it.",
    ),
    Deviation(
        ("temporary_table",),
        "makes a temporary table",
        _on_sqlite,
        "All connections of the batch would share it.",
    ),
    Deviation(
        ("makes_table",),
        "MariaDB and MySQL commit at once",
        lambda variant: variant.driver in ("pymysql", "mysqlclient") and not variant.atomic,
        "MariaDB and MySQL commit when a table is made, together with everything before it. With "
        "`ATOMIC_REQUESTS` Django itself refuses.",
    ),
    Deviation(
        ("stricter",),
        'set "isolation_level" in the OPTIONS of the database',
        lambda variant: not _on_sqlite(variant),
        "The batch has one isolation level: that of `OPTIONS`.",
    ),
    Deviation(
        ("raw_commit_inside",),
        "uses a savepoint that it has not set",
        _with_atomic_requests,
        "With `ATOMIC_REQUESTS` only, where it raises alone as well: the savepoint is gone.",
    ),
    Deviation(
        ("after_raises",),
        "",
        _everywhere,
        "Alone the reply is 500, although the rows are stored, and the second function does not "
        "run. In a batch the error is logged, and the second function runs.",
        DIFFERENT,
    ),
)


def expected(variant: Variant) -> dict[str, Deviation]:
    """Tell which patterns are not the same in a configuration."""
    return {name: one for one in DEVIATIONS if one.where(variant) for name in one.patterns}


def surprises(variant: Variant, verdicts: dict[str, list[str]]) -> list[str]:
    """Compare what patterns have come to with what is expected."""
    wanted = expected(variant)
    found = []
    for name, (verdict, told) in verdicts.items():
        one = wanted.get(name)
        right = verdict == ("same" if one is None else one.verdict)
        if not right or (one is not None and one.said not in told) or NOT_DJANGOS.search(told):
            found.append(f"{variant}: {name}: {verdict}: {told}")
    return found
