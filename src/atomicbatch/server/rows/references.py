"""References: which reference between rows a write breaks. SQLite says only that one is broken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atomicbatch.drivers.meanings import FOREIGN
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.rows.plan import First, One, Row, Steps
from atomicbatch.server.rows.resource import Resource


def explain(resource: Resource, error: Exception, sent: Mapping[str, Any], key: Row) -> Steps[None]:
    """
    Say which reference it is, after SQLite has said only that one does not hold.

    Args:
        resource: The table.
        error: What a write of one row has raised; any other error is left as it is.
        sent: The new values of the row's columns, as parameters.
        key: The primary key's values of a row that is there, or empty.

    Raises:
        RowFault: It names the reference.
    """
    if getattr(error, "sqlite_errorname", "") != "SQLITE_CONSTRAINT_FOREIGNKEY":
        return
    table = resource.table
    for reference in table.foreign_keys:
        values = [sent.get(name) for name in reference.columns]
        if None in values or reference.table == table.name:
            continue
        if not (yield _exists(resource, reference.table, reference.target_columns, values)):
            names = ", ".join(reference.columns)
            detail = f"the row points at a row of {reference.table!r} that does not exist"
            raise RowFault(FOREIGN.status, FOREIGN.slug, f"{detail} ({names})", column=names)
    if key:
        yield from _explain_target(resource, key)


def _explain_target(resource: Resource, key: Row) -> Steps[None]:
    """Say which rows point at the row that is there."""
    row = yield One(resource.sql.select_by_key, key)
    if row is None:
        return
    for reference in resource.table.referenced_by:
        values = [row[resource.positions[name]] for name in reference.target_columns]
        if (yield _exists(resource, reference.table, reference.columns, values)):
            detail = f"a row of {reference.table!r} points at this one"
            names = ", ".join(reference.columns)
            raise RowFault(
                FOREIGN.status,
                FOREIGN.slug,
                f"{detail} ({names})",
                column=names,
                table=reference.table,
            )


def _exists(resource: Resource, table: str, names: Iterable[str], values: Sequence[Any]) -> First:
    """Asks for a row of ``table`` with these values."""
    quote = resource.dialect.quote
    where = " AND ".join(f"{quote(name)} = ?" for name in names)
    return First(f"SELECT 1 FROM {quote(table)} WHERE {where} LIMIT 1", values)
