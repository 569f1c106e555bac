"""Known: the drivers that there is a module for, by the names under which pip installs them."""

from __future__ import annotations

from collections.abc import Mapping

from atomicbatch.drivers import (
    aiomysql,
    aiosqlite,
    asyncmy,
    asyncpg,
    mysqlclient,
    psycopg,
    psycopg2,
    psycopg_async,
    pymysql,
    sqlite3,
)
from atomicbatch.drivers.driver import AsyncDriver, SyncDriver

SYNC: Mapping[str, SyncDriver] = {
    "sqlite3": sqlite3,
    "psycopg": psycopg,
    "psycopg2": psycopg2,
    "pymysql": pymysql,
    "mysqlclient": mysqlclient,
}
ASYNC: Mapping[str, AsyncDriver] = {
    "aiosqlite": aiosqlite,
    "psycopg": psycopg_async,
    "asyncpg": asyncpg,
    "aiomysql": aiomysql,
    "asyncmy": asyncmy,
}
