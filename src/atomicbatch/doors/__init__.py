"""
Doors: where we enter each driver, so that a batch sees what is sent to a database.

In reading order::

    install.py     which door belongs to which module, and when it is put in
    sqlite.py      sqlite3: sqlite_connect.py makes its connections, sqlite_origins.py knows what
                   they were opened by, sqlite_uses.py what an adapter has to do that joins them
    aiosqlite.py   aiosqlite
    psycopg.py     psycopg 3; psycopg_operations.py runs its own code on the batch's connection,
                   step by step (psycopg_steps.py), and shows it another one (psycopg_seeming.py);
                   psycopg_cursors.py and psycopg_copies.py: what lasts longer than a statement;
                   psycopg_uses.py finds what stands for a connection, psycopg_kinds.py is what an
                   adapter has to know, psycopg_pools.py its pools
    psycopg2.py    psycopg2: psycopg2_kind.py tells of its connections, psycopg2_cursors.py has its
                   cursors, psycopg2_inner.py those that work for them in a batch,
                   psycopg2_refusals.py why something is refused
    asyncpg.py     asyncpg: asyncpg_sending.py and asyncpg_cursors.py are all that it sends, to
                   what asyncpg_uses.py finds; asyncpg_ends.py what copies read and write;
                   asyncpg_sides.py and asyncpg_statements.py its statements on two connections,
                   asyncpg_wire.py the batch's own one; asyncpg_kind.py is what an adapter has to
                   know
    pymysql.py     PyMySQL; aiomysql.py and asyncmy.py are much like it: mysql_commands.py decides
                   what is done for a command, mysql_kinds.py tells of their connections,
                   mysql_sessions.py what these show, mysql_results.py how they read an answer
    mysqlclient.py mysqlclient: mysqlclient_kind.py tells of its connections
    sqlalchemy.py  SQLAlchemy's pools: what sets up a connection is no part of a batch
    server_uses.py what the doors of drivers with a server want of an adapter that joins them;
                   openers.py: libraries that open the batch's own connection themselves
    closed.py      what connections had open that were closed by a function which cannot wait
    custom_settings.py  the names of settings that an app has made up (PostgreSQL)
    processes.py   what calls give to other processes
    worker_threads.py  the threads of those processes
    earlier.py     connections from before the doors were there
"""

from __future__ import annotations

from atomicbatch.doors.install import begin_batch, install, uninstall

__all__ = ["begin_batch", "install", "uninstall"]
