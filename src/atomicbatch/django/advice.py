"""Advice: what to do instead of what is refused, as a Django project does it: by its settings."""

from __future__ import annotations

from atomicbatch.advice import Advice
from atomicbatch.sql import refusals

_APP_FIRST = 'put "atomicbatch.django" first in INSTALLED_APPS, and open no connection before'
_IMPORTED = "atomicbatch was imported"

SETTINGS = Advice(
    use_own="use the connections of DATABASES (by models, or django.db.connection)",
    allow='name it in ATOMICBATCH["OUTSIDE"]: "{name}"',
    give_other='name the other in ATOMICBATCH["OUTSIDE"]',
    set_level='set "isolation_level" in the OPTIONS of the database, in DATABASES',
    set_foreign_keys=(
        "switch it by no PRAGMA; and do outside of batches what Django does without foreign keys: "
        "constraint_checks_disabled(), schema_editor()"
    ),
    watched_since=_IMPORTED,
    watch_first=_APP_FIRST,
    joins_since=_IMPORTED,
    join_first=_APP_FIRST,
    instead={
        refusals.AUTOCOMMIT: "it sets autocommit by SQL; use transaction.set_autocommit()",
        refusals.TRANSACTION_OPTION: (
            "it sets an option of the transaction, which all calls share; set it in the OPTIONS of "
            "the database, in DATABASES"
        ),
        refusals.OTHER_DATABASE: (
            "it changes the connection's database (USE) for later calls too; name the database in "
            "the statement or in the table's definition, or make it one of DATABASES"
        ),
    },
)
"""For a project, which has an adapter by its setting ``ATOMICBATCH``."""
