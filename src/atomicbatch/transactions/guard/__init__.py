"""
The guard: what a call writes by a library that takes no part in the batch is refused.

Another ORM, or a driver used directly, commits at once: a rollback of the batch cannot undo it. So
inside a call of a batch each driver asks before it sends a statement. A write on a connection that
is not the batch's fails the batch before it is sent, and says who writes where, and what to do.
Reads pass, and so does what is allowed by name (``outside=``). In reading order:

    watch.py       one attempt at a batch: whose a connection is, and what is refused
    writing.py     whether SQL writes
    places.py      which database a connection leads to; what is allowed by name
    reach.py       whether an object stands for a connection
    callers.py     who writes: the library, and the app's line
    doors.py       where each driver is entered, as soon as it is imported
    sqlite.py      sqlite3 and aiosqlite
    postgresql.py  asyncpg, psycopg and psycopg2
    mysql.py       PyMySQL, aiomysql, asyncmy and mysqlclient
    processes.py   what calls give to other processes
    earlier.py     connections from before the doors were there
"""

from __future__ import annotations

from atomicbatch.transactions.guard.doors import begin_batch, install, uninstall
from atomicbatch.transactions.guard.places import Allowed
from atomicbatch.transactions.guard.reach import reaches
from atomicbatch.transactions.guard.watch import Guarded, Watch, aside, guarded, let_pass

__all__ = [
    "Allowed",
    "Guarded",
    "Watch",
    "aside",
    "begin_batch",
    "guarded",
    "install",
    "let_pass",
    "reaches",
    "uninstall",
]
