"""
The door of psycopg (version 3), sync and async.

In a batch what a connection does is given to what stands for it there, if an adapter joins it; how
is in ``psycopg_operations.py``. Where nothing stands for it, the guard is asked before a write.

What is changed, all of it in methods that psycopg's classes for both kinds of connections share::

    wait (async)                          awaits our operations; the sync one runs them as it is
    _execute_gen, executemany, stream     statements
    copy                                  psycopg_copies.py
    _declare_gen, _fetch_gen, ...         cursors in the server: psycopg_cursors.py
    _commit_gen, _rollback_gen            commit(), rollback(), and the ends of ``with`` blocks
    _enter_gen, _exit_gen                 transaction()
    _check_intrans_gen, info              what tells about the transaction
    cancel, _cancel_gen, close            go where the connection works
    pipeline, notifies, tpc_...           refused: psycopg_uses.py
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors import psycopg_cursors, psycopg_operations
from atomicbatch.doors.custom_settings import note_custom
from atomicbatch.doors.psycopg_copies import copying, copying_async
from atomicbatch.doors.psycopg_kinds import PSYCOPG
from atomicbatch.doors.psycopg_operations import Operation
from atomicbatch.doors.psycopg_seeming import Seeming
from atomicbatch.doors.psycopg_steps import AT
from atomicbatch.doors.psycopg_uses import (
    refusing_notifications,
    refusing_pipelines,
    refusing_two_phases,
    use_of_connection,
    used,
)
from atomicbatch.guard.watch import aside, watching

WHY = "what takes no part in a batch is refused"
Found = Callable[..., Any]
_NAMES = {
    "Connection": (
        "wait _exec_command _commit_gen _rollback_gen _check_intrans_gen _start_query info "
        "_tpc_begin_gen _tpc_finish_gen cancel _cancel_gen close pipeline notifies"
    ),
    "AsyncConnection": "wait close pipeline notifies",
    "Cursor": (
        "_execute_gen _executemany_gen_no_pipeline _start_query _start_copy_gen _reset "
        "_select_current_result executemany stream copy"
    ),
    "AsyncCursor": "executemany stream copy",
    "ServerCursor": "_declare_gen _fetch_gen _scroll_gen _close_gen",
    "Transaction": "_enter_gen _exit_gen",
    "Copy": "_read_gen",
}


def change_psycopg(module: ModuleType) -> None:
    """Let psycopg's connections work in batches; a version that we do not know is only guarded."""
    if not is_known(module):
        for name in ("_start_query", "_start_copy_gen"):
            patches.change(_class_of(module.Cursor, name), name, _asking, why=WHY)
        return
    _change_cursors(module)
    _change_connections(module)


def is_known(module: ModuleType) -> bool:
    """Tell whether a version of psycopg has everything that the door needs."""
    return all(
        hasattr(getattr(module, name, None), attribute)
        for name, attributes in _NAMES.items()
        for attribute in attributes.split()
    )


def _change_cursors(module: Any) -> None:
    _change(module.Cursor, "_execute_gen", _executing)
    server = module.ServerCursor
    _change(server, "_declare_gen", _declaring)
    for name in ("_fetch_gen", "_scroll_gen"):
        _change(server, name, _fetching)
    _change(server, "_close_gen", _closing)
    for name, sync, asynchronous in (
        ("executemany", _executing_many, _executing_many_async),
        ("stream", _streaming, _streaming_async),
        ("copy", _copying, _copying_async),
    ):
        _change(module.Cursor, name, sync)
        _change(module.AsyncCursor, name, asynchronous)


def _change_connections(module: Any) -> None:
    sync, asynchronous = module.Connection, module.AsyncConnection
    _change(asynchronous, "wait", _waiting_async)
    for name in ("_commit_gen", "_rollback_gen"):
        _change(sync, name, _on_connection)
    for name in ("_enter_gen", "_exit_gen"):
        _change(module.Transaction, name, _on_transaction)
    _change(sync, "_check_intrans_gen", _checking)
    _change(sync, "info", _telling)
    for name in ("cancel", "_cancel_gen"):
        _change(sync, name, _cancelling)
    _change(sync, "close", _closing_connection)
    _change(asynchronous, "close", _closing_connection_async)
    for name in ("_tpc_begin_gen", "_tpc_finish_gen"):
        _change(sync, name, refusing_two_phases)
    for connection in (sync, asynchronous):
        _change(connection, "pipeline", refusing_pipelines)
        _change(connection, "notifies", refusing_notifications)


def _change(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    # Where each statement passes: outside of calls our functions pass everything on by themselves.
    patches.change(_class_of(owner, name), name, make, why=WHY, as_it_is=True)


def _class_of(owner: type, name: str) -> type:
    """Find the class that defines an attribute, which others may inherit as well."""
    return next(one for one in owner.__mro__ if name in vars(one))


# What runs operations ---------------------------------------------------------------------------


def _waiting_async(found: Found) -> Found:
    def wait(self: Any, gen: Any, *args: Any, **options: Any) -> Any:
        if type(gen) is Operation:
            return gen.run_async()
        return found(self, gen, *args, **options)

    return wait


# Cursors ----------------------------------------------------------------------------------------


def _executing(found: Found) -> Found:
    # Its arguments are psycopg's, one by one: to pass on what is not known takes two microseconds.
    def execute(
        self: Any,
        query: Any,
        params: Any = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> Any:
        if watching.get() is not None and (use := used(self._conn, query)) is not None:
            options = {"prepare": prepare, "binary": binary}
            plan = psycopg_operations.execute(self, use, found, query, params, options)
            return Operation(use, plan)
        note_custom(query, params)
        return found(self, query, params, prepare=prepare, binary=binary)

    return execute


def _executing_many(found: Found) -> Found:
    def execute(self: Any, query: Any, params_seq: Any, *, returning: bool = False) -> Any:
        if watching.get() is not None and (use := used(self._conn, query)) is not None:
            with self._conn.lock:
                plan = psycopg_operations.execute_many(self, use, query, params_seq, returning)
                return self._conn.wait(Operation(use, plan))
        return found(self, query, params_seq, returning=returning)

    return execute


def _executing_many_async(found: Found) -> Found:
    async def execute(self: Any, query: Any, params_seq: Any, *, returning: bool = False) -> Any:
        if watching.get() is not None and (use := used(self._conn, query)) is not None:
            async with self._conn.lock:
                plan = psycopg_operations.execute_many(self, use, query, params_seq, returning)
                return await self._conn.wait(Operation(use, plan))
        return await found(self, query, params_seq, returning=returning)

    return execute


def _streaming(found: Found) -> Found:
    def stream(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        if watching.get() is None:
            return found(self, query, params, **options)
        return rows(self, query, params, options)

    def rows(self: Any, query: Any, params: Any, options: dict[str, Any]) -> Iterator[Any]:
        use = used(self._conn, query)
        if use is None:
            yield from found(self, query, params, **options)
            return
        with self._conn.lock:
            plan = psycopg_operations.stream(self, use, query, params, **options)
            self._conn.wait(Operation(use, plan))
        yield from psycopg_operations.rows_of(self)

    return stream


def _streaming_async(found: Found) -> Found:
    def stream(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        if watching.get() is None:
            return found(self, query, params, **options)
        return rows(self, query, params, options)

    async def rows(
        self: Any, query: Any, params: Any, options: dict[str, Any]
    ) -> AsyncIterator[Any]:
        use = used(self._conn, query)
        if use is None:
            async for row in found(self, query, params, **options):
                yield row
            return
        async with self._conn.lock:
            plan = psycopg_operations.stream(self, use, query, params, **options)
            await self._conn.wait(Operation(use, plan))
        for row in psycopg_operations.rows_of(self):
            yield row

    return stream


def _copying(found: Found) -> Found:
    def copy(self: Any, statement: Any, params: Any = None, *, writer: Any = None) -> Any:
        if watching.get() is not None and (use := used(self._conn, statement)) is not None:
            return copying(self, use, statement, params, writer)
        return found(self, statement, params, writer=writer)

    return copy


def _copying_async(found: Found) -> Found:
    def copy(self: Any, statement: Any, params: Any = None, *, writer: Any = None) -> Any:
        if watching.get() is not None and (use := used(self._conn, statement)) is not None:
            return copying_async(self, use, statement, params, writer)
        return found(self, statement, params, writer=writer)

    return copy


# Cursors in the server --------------------------------------------------------------------------


def _declaring(found: Found) -> Found:
    def declare(self: Any, query: Any, params: Any = None, binary: bool | None = None) -> Any:
        if watching.get() is not None and (use := used(self._conn, query)) is not None:
            plan = psycopg_cursors.declare(self, use, found, query, params, binary)
            return Operation(use, plan)
        return found(self, query, params, binary)

    return declare


def _fetching(found: Found) -> Found:
    def fetch(self: Any, *args: Any) -> Any:
        if (use := use_of_connection(self._conn, executes=True)) is not None:
            return Operation(use, psycopg_cursors.fetch(self, use, found, *args))
        return found(self, *args)

    return fetch


def _closing(found: Found) -> Found:
    def close(self: Any) -> Any:
        if (use := use_of_connection(self._conn)) is not None:
            return Operation(use, psycopg_cursors.close(self, use, found))
        return found(self)

    return close


# Connections ------------------------------------------------------------------------------------


def _on_connection(found: Found) -> Found:
    def act(self: Any) -> Any:
        if (use := use_of_connection(self)) is not None:
            return Operation(use, psycopg_operations.on_connection(self, use, found))
        return found(self)

    return act


def _on_transaction(found: Found) -> Found:
    def act(self: Any, *args: Any) -> Any:
        if (use := use_of_connection(self._conn, executes=True)) is not None:
            return Operation(use, psycopg_operations.on_transaction(self, use, found, *args))
        return found(self, *args)

    return act


def _checking(found: Found) -> Found:
    def check(self: Any, attribute: str) -> Any:
        use = use_of_connection(self)
        return found(self if use is None else Seeming(self, use), attribute)

    return check


def _telling(found: property) -> property:
    def info(self: Any) -> Any:
        use = use_of_connection(self)
        return found.__get__(self if use is None else Seeming(self, use))

    return property(info, doc=found.__doc__)


def _cancelling(found: Found) -> Found:
    def cancel(self: Any) -> Any:
        return found(vars(self).get(AT) or self)

    return cancel


def _closing_connection(found: Found) -> Found:
    def close(self: Any) -> None:
        try:
            if (use := use_of_connection(self)) is not None:
                use.end()
        finally:
            with aside():
                found(self)

    return close


def _closing_connection_async(found: Found) -> Found:
    async def close(self: Any) -> None:
        try:
            if (use := use_of_connection(self)) is not None:
                await use.end_async()
        finally:
            with aside():
                await found(self)

    return close


# A version that we do not know --------------------------------------------------------------------


def _asking(found: Found) -> Found:
    def start(self: Any, query: Any = None, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None and query is not None:
            watch.sends(self._conn, PSYCOPG, query)
        return found(self, query, *args, **options)

    return start
