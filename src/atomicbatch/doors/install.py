"""Where each driver is entered, as soon as it is imported."""

from __future__ import annotations

from atomicbatch import patches
from atomicbatch.advice import ARGUMENTS, Advice
from atomicbatch.doors import (
    aiomysql,
    aiosqlite,
    asyncmy,
    asyncpg,
    mysqlclient,
    processes,
    psycopg,
    psycopg2,
    psycopg_pools,
    pymysql,
    sqlalchemy,
    sqlite_connect,
)
from atomicbatch.doors.earlier import look_once

WHY = "what takes no part in a batch is refused"
"""The reason of all the guard's changes."""

# The last module of a driver's that has to be there, and what changes it.
_DOORS = {
    "sqlite3": sqlite_connect.change_sqlite3,
    "aiosqlite.core": aiosqlite.change_aiosqlite,
    "asyncpg.pool": asyncpg.change_asyncpg,
    "psycopg": psycopg.change_psycopg,
    "psycopg_pool": psycopg_pools.change_psycopg_pool,
    "sqlalchemy.pool.base": sqlalchemy.change_sqlalchemy_pool,
    "sqlalchemy.engine.default": sqlalchemy.change_sqlalchemy_dialects,
    "psycopg2": psycopg2.change_psycopg2,
    "pymysql.connections": pymysql.change_pymysql,
    "aiomysql.connection": aiomysql.change_aiomysql,
    "asyncmy.connection": asyncmy.change_asyncmy,
    "MySQLdb.connections": mysqlclient.change_mysqlclient,
    "concurrent.futures.process": processes.change_executors,
    "multiprocessing.pool": processes.change_pools,
    "multiprocessing.process": processes.change_processes,
}


def install() -> None:
    """Put doors into the drivers that are here, and into those imported later; once."""
    for module, act in _DOORS.items():
        patches.when_imported(module, act)


def uninstall() -> None:
    """Undo :func:`install`."""
    patches.undo(WHY)


def begin_batch(advice: Advice = ARGUMENTS) -> None:
    """
    Before a batch: see to what was imported or opened unnoticed.

    Args:
        advice: What the log says to do about it.
    """
    patches.catch_up()
    look_once(advice)


processes.prepare = install
