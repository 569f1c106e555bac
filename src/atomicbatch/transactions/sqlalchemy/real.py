"""One real transaction: BEGIN, statements one at a time, COMMIT or ROLLBACK."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from atomicbatch.errors import (
    BrokenTransactionError,
    BusyError,
    ConflictError,
    NotBatchableError,
    TransactionError,
    UnknownOutcomeError,
)
from atomicbatch.transactions.base import commit_error, statement_error
from atomicbatch.transactions.sqlalchemy.connection import VirtualCursor
from atomicbatch.transactions.sqlalchemy.drivers import (
    Runner,
    family_of,
    guard,
    interrupt,
    is_autocommit,
    level_of,
    run_plainly,
    runner_of,
    value_of,
)
from atomicbatch.transactions.sqlalchemy.gate import Gate, TaskGate, ThreadGate
from atomicbatch.transactions.statements import Family, Kind, Statement, read_statement
from atomicbatch.transactions.virtual import OverlapError, Stack, Virtual

if TYPE_CHECKING:
    from atomicbatch.transactions.sqlalchemy.joined import Joined
    from atomicbatch.transactions.sqlalchemy.slots import Slots

logger = logging.getLogger("atomicbatch")
_LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_OVERLAP = (
    "two transactions of one call overlap, and the one that rolls back has changed something, as "
    "has the other since; let the call use one session, or end one before it begins the other"
)
_ENDED = (
    "a handler has ended the batch's transaction, by the driver's own connection or in a stored "
    "procedure: what was done until then may be stored"
)
_CHANGES_DATA = (Kind.READ, Kind.HOLD, Kind.WRITE)


class Lease:
    """
    One session's use of the real connection.

    Attributes:
        virtual: Its open transaction, or None.
        auto: Each statement commits by itself (AUTOCOMMIT), except after an explicit BEGIN.
        explicit: It has sent BEGIN itself.
        closed: It was closed, or its call is over.
        read_only: It has said that it only reads.
        settings: What each setting was that it has made for its transaction alone.
        restore: What attributes of the driver's connection were before it set them.
    """

    __slots__ = (
        "auto", "closed", "explicit", "read_only", "real", "restore", "settings", "virtual",
    )  # fmt: skip

    def __init__(self, real: RealTransaction) -> None:
        self.real = real
        self.virtual: Virtual | None = None
        self.auto = real.auto
        self.explicit = False
        self.closed = False
        self.read_only = False
        self.settings: dict[str, str] = {}
        self.restore: dict[str, Any] = {}

    def cursor(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> VirtualCursor:
        return self.real.cursor(self, args, kwargs)

    def commit(self) -> None:
        self.real.commit_virtual(self)

    def rollback(self) -> None:
        self.real.rollback_virtual(self)

    def close(self) -> None:
        self.real.close_virtual(self)

    def refuse(self, what: str) -> NoReturn:
        self.real.refuse(what)

    def autocommit(self) -> Any:
        """What the driver's own ``autocommit`` is: an attribute, or a method (MySQL)."""
        return self._set_auto if self.real.family is Family.MYSQL else self.auto

    def _set_auto(self, value: object) -> None:
        self.auto = bool(value)

    def attribute(self, name: str) -> Any:
        value = getattr(self.real.fairy, name)
        if name in ("transaction", "pipeline", "run", "backup"):
            self.real.used_raw(self)
        return value

    def set_attribute(self, name: str, value: Any) -> None:
        target = self.real.fairy.dbapi_connection
        self.restore.setdefault(name, getattr(target, name))
        setattr(target, name, value)


class RealTransaction:
    """
    The transaction that all calls of a batch share, on one connection of one pool.

    Its methods are called in any thread (sync drivers) or in any of SQLAlchemy's greenlets (async
    drivers); the gate lets them through one at a time.

    Attributes:
        stack: What handlers take for transactions.
        wrote: Something in it may have changed the database.
        raw: A handler has used the driver's own connection.
    """

    fairy: PoolProxiedConnection

    def __init__(self, joined: Joined, engine: Engine) -> None:
        dialect = engine.dialect
        self.family = family_of(dialect)
        self.url = engine.url
        self.joined = joined
        self.dialect = dialect
        self.gate: Gate = TaskGate() if dialect.is_async else ThreadGate()
        self._inside = self.gate.inside
        self.stack = Stack(self.family)
        self.auto = False
        self.raw = False
        self.level = joined.options.isolation_level
        self.is_open = False
        self._engine = engine
        self._pool = engine.pool
        self._slots: Slots | None = None
        self._level_changed = False
        self._explicit = False
        self._lost = False
        self._run: Runner
        self._driver: Any = None
        self._unguard: Callable[[], None] | None = None
        # Whose statement failed, so that PostgreSQL may refuse everybody's.
        self._suspect: Virtual | None = None

    @property
    def wrote(self) -> bool:
        return self.stack.wrote

    # Begin -------------------------------------------------------------------------------------

    def lease(self) -> Lease:
        """
        Give a session the use of the connection; the first time, begin.

        Raises:
            TransactionError: The batch cannot go on; it has taken note.
        """
        with self._inside:
            self.joined.check()
            if not self.is_open:
                try:
                    self.joined.open(self._open)
                except Exception as error:
                    problem = self._begin_error(error)
                    self.joined.doom(problem)
                    raise problem from error
            return Lease(self)

    def _begin_error(self, error: Exception) -> TransactionError:
        if isinstance(error, TransactionError):
            return error
        conflict = statement_error(error)
        if conflict is not None:
            return conflict
        return BusyError("no transaction could be begun")

    def _open(self) -> None:
        slots = self.joined.slots(self._pool, self.family)
        if slots is not None and not slots.take(
            self.joined.deadline, is_async=self.dialect.is_async
        ):
            raise BusyError("too many batches are running")
        try:
            self.fairy = self._pool.connect()
            try:
                self._begin()
            except BaseException:
                # At once: else the garbage collector finds it, and complains.
                self._discard()
                raise
        except BaseException:
            if slots is not None:
                slots.give()
            raise
        self._slots = slots
        self.is_open = True

    def _begin(self) -> None:
        dialect, fairy = self.dialect, self.fairy
        self._driver = fairy.driver_connection
        self.auto = is_autocommit(dialect, fairy)
        self.level = self.level or level_of(dialect)
        if self.family is Family.SQLITE:
            # sqlite3 in its default mode begins nothing before reads, and takes a SAVEPOINT
            # outside of a transaction for one, whose RELEASE commits. IMMEDIATE, because a lock
            # taken later, after reading, may be refused at once.
            self._explicit = not self._driver.in_transaction
            if self._explicit:
                run_plainly(fairy, ["BEGIN IMMEDIATE"])
        elif (level := self._wanted_level()) is not None:
            dialect.set_isolation_level(fairy.dbapi_connection, level)  # type: ignore[arg-type]
            self._level_changed = True
        # Through the connection itself, since some drivers send BEGIN just then.
        run_plainly(fairy, self.stack.begin())
        self._run = runner_of(dialect, fairy)

    def _wanted_level(self) -> Any:
        if self.joined.options.isolation_level:
            return self.joined.options.isolation_level
        return self.level if self.auto else None

    # Statements --------------------------------------------------------------------------------

    def cursor(self, lease: Lease, args: tuple[Any, ...], kwargs: dict[str, Any]) -> VirtualCursor:
        if lease.closed or not self.joined.active:
            self._stale(lease)
        streams = bool(args or kwargs)
        if streams and self.family is Family.MYSQL:
            # While rows are still in the server, MySQL takes no other statement on the
            # connection; drivers then drop the rows without saying so.
            args = () if self.dialect.is_async else tuple(_buffered(arg) for arg in args)
            kwargs, streams = {}, False
        return VirtualCursor(lease, self.fairy.cursor(*args, **kwargs), streams)

    def perform(
        self,
        lease: Lease,
        execute: Callable[..., Any],
        operation: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a handler's statement."""
        statement = read_statement(_text(operation), self.family)
        with self._inside:
            self._check(lease)
            kind = statement.kind
            if kind not in _CHANGES_DATA:
                return self._control(lease, statement)
            if lease.read_only and kind is Kind.WRITE:
                self.refuse("a handler writes on a connection that it has set to read only")
            virtual = lease.virtual
            alone = virtual is None and lease.auto
            if virtual is None:
                virtual = lease.virtual = Virtual()
            self._make_way(virtual)
            if virtual.aborted:
                self.refuse(
                    "a handler goes on with a transaction after a failed statement while another "
                    "is open; roll it back first"
                )
            if alone and self.family is not Family.POSTGRESQL:
                # A statement is atomic by itself.
                lease.virtual = None
                if kind is not Kind.READ:
                    self.stack.alone()
            elif sql := self.stack.before(virtual, kind):
                self._send(sql)
            if statement.setting:
                self._keep_setting(lease, statement.setting)
            try:
                result = execute(operation, *args, **kwargs)
            except BaseException as error:
                self._failed(virtual, error)
                if alone and lease.virtual is not None:
                    self._end(lease, commit=False)
                raise
            if self._suspect is virtual:
                self._suspect = None
            if alone and lease.virtual is not None:
                self._end(lease, commit=True)
            if statement.detail:
                self._check_pragma(operation)
            return result

    def fetch(
        self,
        lease: Lease,
        fetch: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Fetch rows that are still in the server."""
        with self._inside:
            self._check(lease)
            virtual = lease.virtual or Virtual()
            self._make_way(virtual)
            try:
                return fetch(*args, **kwargs)
            except BaseException as error:
                self._failed(virtual, error)
                raise

    def used_raw(self, lease: Lease) -> None:
        """A handler gets at the driver's own connection: it may have changed anything."""
        with self._inside:
            self._check(lease)
            self.raw = True
            if lease.virtual is None:
                lease.virtual = Virtual()
            self._send(self.stack.before(lease.virtual, Kind.WRITE))
            if self._unguard is None:
                self._unguard = guard(self.dialect, self.fairy, self.refuse)
            lease.virtual.failed = True
            if self.family is Family.POSTGRESQL:
                self._suspect = lease.virtual

    def _control(self, lease: Lease, statement: Statement) -> None:
        """A handler controls its transaction by SQL."""
        kind, detail = statement.kind, statement.detail
        if kind is Kind.REFUSED:
            self.refuse(f"a call cannot be part of a batch: {detail}")
        elif kind is Kind.COMMIT:
            self._end(lease, commit=True)
        elif kind is Kind.ROLLBACK:
            self._end(lease, commit=False)
        elif kind in (Kind.BEGIN, Kind.ISOLATION):
            if kind is Kind.BEGIN:
                lease.explicit = lease.auto
                lease.virtual = lease.virtual or Virtual()
            if detail == "READ ONLY":
                lease.read_only = True
            elif detail:
                self.want_level(detail)
        else:
            self._savepoint(lease, kind, detail)

    def _savepoint(self, lease: Lease, kind: Kind, name: str) -> None:
        virtual = lease.virtual
        if virtual is None:
            virtual = lease.virtual = Virtual()
        act = {
            Kind.SAVEPOINT: self.stack.savepoint,
            Kind.RELEASE: self.stack.release,
            Kind.ROLLBACK_TO: self.stack.rollback_to,
        }[kind]
        if kind is not Kind.ROLLBACK_TO or self._suspect is not virtual:
            self._make_way(virtual)
        if kind is Kind.RELEASE and self._suspect is virtual and self._is_aborted():
            # Natively it would fail; it has to be rolled back to instead.
            self.refuse("a handler releases a savepoint after a failed statement; roll back to it")
        try:
            sql = act(virtual, name)
        except KeyError:
            self.refuse(f"a handler uses a savepoint that it has not set: {kind.value}")
        except OverlapError:
            self.refuse(_OVERLAP)
        self._send(sql)
        if kind is Kind.ROLLBACK_TO and self._suspect is virtual:
            self._suspect = None

    def _send(self, sql: list[str]) -> None:
        if not sql:
            return
        try:
            self._run(sql)
        except BaseException as error:
            problem = self._meaning(error) or BrokenTransactionError(
                _ENDED if isinstance(error, Exception) else "a statement was cancelled while it ran"
            )
            if not isinstance(error, Exception):
                self._lost = True
            problem.__cause__ = error
            self.joined.doom(problem)
            if not isinstance(error, Exception):
                raise
            raise problem from error

    def _failed(self, virtual: Virtual, error: BaseException) -> None:
        """Take note that a handler's statement has failed."""
        virtual.failed = True
        conflict = self._meaning(error)
        if conflict is not None:
            conflict.__cause__ = error
            self.joined.doom(conflict)
        elif not isinstance(error, Exception):
            self._lost = True
            self.joined.doom(BrokenTransactionError("a statement was cancelled while it ran"))
        elif self.family is Family.POSTGRESQL:
            if _state(error):
                self._suspect = virtual
        elif self.family is Family.SQLITE and not self._driver.in_transaction:
            self.joined.doom(
                BrokenTransactionError(
                    "a failed statement ended the batch's transaction (ON CONFLICT ROLLBACK)"
                )
            )

    def _meaning(self, error: BaseException) -> ConflictError | None:
        """Tell what an error before COMMIT means for the batch, as statement_error does."""
        if (conflict := statement_error(error)) is not None:
            return conflict
        if isinstance(error, Exception) and self._is_lost(error):
            return ConflictError("the connection to the database was lost before COMMIT")
        return None

    def _is_lost(self, error: BaseException) -> bool:
        """Ask SQLAlchemy, which knows what each driver says when its connection is gone."""
        connection: Any = self.fairy.dbapi_connection
        try:
            return connection is None or self.dialect.is_disconnect(error, connection, None)  # type: ignore[arg-type]
        except Exception:
            return False

    def _make_way(self, virtual: Virtual) -> None:
        """Let one transaction go on although a statement of another has failed (PostgreSQL)."""
        suspect = self._suspect
        if suspect is None or suspect is virtual:
            return
        if self._is_aborted():
            try:
                sql = self.stack.abandon(suspect)
            except OverlapError:
                self.refuse(_OVERLAP)
            self._send(sql)
        self._suspect = None

    def _is_aborted(self) -> bool:
        try:
            run_plainly(self.fairy, ["SELECT 1"])
        except Exception as error:
            if _state(error) == "25P02":
                return True
            self._failed(Virtual(), error)
            raise
        return False

    # The handler's transaction -----------------------------------------------------------------

    def commit_virtual(self, lease: Lease) -> None:
        if lease.virtual is None and not lease.closed:
            lease.explicit = False
            return
        with self._inside:
            self._check(lease)
            self._end(lease, commit=True)

    def rollback_virtual(self, lease: Lease) -> None:
        if lease.virtual is None:
            lease.explicit = False
            return
        with self._inside:
            if not self.joined.active or self.joined.error is not None:
                lease.virtual = None  # it goes with the batch
                return
            self._end(lease, commit=False)

    def close_virtual(self, lease: Lease) -> None:
        """The session, or its call, has no more use for the connection."""
        try:
            self.rollback_virtual(lease)
            if lease.restore:
                for name, value in lease.restore.items():
                    setattr(self.fairy.dbapi_connection, name, value)
                lease.restore.clear()
        finally:
            lease.closed = True

    def _end(self, lease: Lease, *, commit: bool) -> None:
        virtual, lease.virtual = lease.virtual, None
        settings, lease.settings = lease.settings, {}
        lease.explicit = lease.read_only = False
        if virtual is None:
            return
        if commit and virtual is self._suspect and self._is_aborted():
            # What COMMIT of a broken transaction does: nothing but roll back, without a word.
            logger.warning(
                "a handler commits a transaction whose statement has failed; it is rolled back"
            )
            commit = False
        if commit:
            self._restore_settings(virtual, settings)
            self._send(self.stack.commit(virtual))
        else:
            try:
                sql = self.stack.rollback(virtual)
            except OverlapError:
                self.refuse(_OVERLAP)
            suspect = self._suspect
            mended = bool(sql) and suspect not in (None, virtual) and self._is_aborted()
            self._send(sql)
            if mended and suspect is not None:
                self._undo_broken(suspect)
            if not sql and virtual is self._suspect and self._is_aborted():
                self.refuse(_OVERLAP)
            # Also after ROLLBACK TO: the savepoint may be newer than the setting.
            self._restore_settings(virtual, settings)
        if self._suspect is virtual:
            self._suspect = None

    def _undo_broken(self, suspect: Virtual) -> None:
        """Another's rollback has mended what a failed statement broke: not for its own handler."""
        self._suspect = None
        if suspect.mark is None:
            suspect.aborted = True  # that rollback has undone it already
            return
        try:
            sql = self.stack.abandon(suspect)
        except OverlapError:
            self.refuse(_OVERLAP)
        self._send(sql)

    def _keep_setting(self, lease: Lease, name: str) -> None:
        """A savepoint that is released keeps SET LOCAL; a COMMIT would have ended it."""
        if name not in lease.settings:
            value = value_of(self.fairy, f"SELECT current_setting({_literal(name)}, true)")
            lease.settings[name] = value or ""

    def _restore_settings(self, virtual: Virtual, settings: dict[str, str]) -> None:
        if settings:
            self._make_way(virtual)
        for name, value in settings.items():
            run_plainly(
                self.fairy, [f"SELECT set_config({_literal(name)}, {_literal(value)}, true)"]
            )

    # What a batch cannot do --------------------------------------------------------------------

    def set_characteristic(self, lease: Lease, name: str, value: Any) -> None:
        """
        SQLAlchemy sets an option of the connection, the isolation level for instance.

        It must not reach the real one: setting AUTOCOMMIT commits what is open.
        """
        if name == "isolation_level":
            lease.auto = value == "AUTOCOMMIT"
            if not lease.auto:
                self.want_level(str(value))
        elif name.endswith("readonly"):
            lease.read_only = bool(value)

    def want_level(self, level: str) -> None:
        """A handler wants an isolation level; less than the batch's is no problem."""
        wanted, real = level.replace("_", " ").upper(), (self.level or "").replace("_", " ")
        if self.family is Family.SQLITE or wanted not in _LEVELS:
            return
        if real not in _LEVELS or _LEVELS.index(wanted) > _LEVELS.index(real):
            self.refuse(
                f"a handler asks for {wanted}, but the batch runs at {real or 'another level'}; "
                f'give SQLAlchemyTransaction(isolation_level="{wanted}")'
            )

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch, since it cannot be made faithful."""
        error = NotBatchableError(what)
        self.joined.doom(error)
        raise error

    def lose(self, lease: Lease, error: BaseException | None) -> None:
        """The connection cannot be used any more."""
        lease.virtual, lease.closed = None, True
        if self.joined.active:
            self._lost = True
            conflict = statement_error(error) if error is not None else None
            self.joined.doom(
                conflict
                or BrokenTransactionError(
                    "a statement was cancelled, or its connection declared invalid, by a handler"
                )
            )

    def _check(self, lease: Lease) -> None:
        if lease.closed or not self.joined.active:
            self._stale(lease)
        self.joined.check()
        if self.family is Family.SQLITE and not self._driver.in_transaction:
            error = BrokenTransactionError(_ENDED)
            self.joined.doom(error)
            raise error

    def _stale(self, lease: Lease) -> NoReturn:
        if not self.joined.active:
            raise TransactionError("the batch that this connection belonged to is over")
        if lease.closed:
            self.refuse(
                "a session or a task outlives the call that opened it and still uses the "
                "database; close sessions within the call, and use on_commit for later work"
            )
        raise AssertionError

    def _check_pragma(self, operation: Any) -> None:
        wanted = re.search(r"=\s*['\"]?(\w+)", _text(operation))
        if wanted is None:
            return
        is_on = value_of(self.fairy, "PRAGMA foreign_keys")
        if bool(is_on) != (wanted[1].upper() in ("1", "ON", "TRUE", "YES")):
            self.refuse(
                "a handler sets PRAGMA foreign_keys, which SQLite ignores inside a transaction; "
                "set it when connections are made (the pool's event 'connect')"
            )

    # End ---------------------------------------------------------------------------------------

    def stands(self) -> bool:
        """Tell, as its last act before ROLLBACK, whether it is the transaction that was begun."""
        with self._inside:
            try:
                self._run(self.stack.end())
            except Exception:
                return False
            return True

    def commit(self) -> None:
        """
        COMMIT, after the proof that the transaction is still the one that was begun.

        Raises:
            TransactionError: As transactions/base.py says.
        """
        with self._inside:
            self._lift_guard()
            try:
                self._run(self.stack.end())
            except BaseException as error:
                problem = self._meaning(error) or BrokenTransactionError(_ENDED)
                self._roll_back()
                raise problem from error
            try:
                if self._explicit:
                    run_plainly(self.fairy, ["COMMIT"])
                else:
                    self.dialect.do_commit(self.fairy)
            except BaseException as error:
                outcome = commit_error(error)
                if not isinstance(outcome, ConflictError) and self._is_lost(error):
                    outcome = UnknownOutcomeError("the connection was lost during COMMIT")
                if isinstance(outcome, UnknownOutcomeError):
                    self._lost = True
                self._roll_back()
                raise outcome from error
            self._give_back()

    def rollback(self) -> None:
        """ROLLBACK; a lost connection needs none."""
        while not self.gate.enter_within(0.1):
            # A worker thread is still in a statement, or just about to begin it.
            try:
                interrupt(self.dialect, self.fairy)
            except Exception:
                logger.debug("a statement could not be interrupted", exc_info=True)
        try:
            if self.is_open:
                self._roll_back()
        finally:
            self.gate.leave()

    def _lift_guard(self) -> None:
        if self._unguard is not None:
            self._unguard()
            self._unguard = None

    def _roll_back(self) -> None:
        with suppress(Exception):
            self._lift_guard()
        if not self._lost:
            try:
                if self.family is not Family.SQLITE or not self._explicit:
                    self.dialect.do_rollback(self.fairy)
                elif self._driver.in_transaction:
                    run_plainly(self.fairy, ["ROLLBACK"])
            except Exception:
                # The database rolls back by itself when the connection is gone.
                logger.debug("ROLLBACK failed; the connection is closed", exc_info=True)
                self._lost = True
        self._give_back()

    def _give_back(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        try:
            # A pool that a handler has disposed of would keep it open for nobody.
            if self._lost or self._engine.pool is not self._pool:
                self._discard()
                return
            try:
                if self._level_changed:
                    self.dialect.reset_isolation_level(self.fairy.dbapi_connection)  # type: ignore[arg-type]
                self.fairy.close()
            except Exception:
                logger.warning("a connection could not be given back clean", exc_info=True)
                self._discard()
        finally:
            if self._slots is not None:
                self._slots.give()

    def _discard(self) -> None:
        self.fairy.invalidate()


def _text(operation: Any) -> str:
    if isinstance(operation, str):
        return operation
    if isinstance(operation, bytes):
        return operation.decode("utf-8", "replace")
    if hasattr(operation, "as_string"):
        # psycopg's sql.SQL and its kin; psycopg2 wants a real cursor, which is of no use here.
        try:
            return str(operation.as_string(None))
        except TypeError:
            return " ".join(_strings(operation))
    return str(operation)


def _strings(composed: Any) -> Iterable[str]:
    for part in composed if hasattr(composed, "__iter__") else (composed,):
        yield str(getattr(part, "string", "x"))


def _buffered(cursor_class: Any) -> Any:
    """Replace a class of cursors that leave their rows in the server by its plain twin."""
    name = getattr(cursor_class, "__name__", "")
    if not name.startswith("SS"):
        return cursor_class
    return getattr(sys.modules[cursor_class.__module__], name[2:])


def _state(error: BaseException) -> str:
    """The SQLSTATE with which the server has refused a statement, or empty."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if not state and error.__cause__ is not None:
        state = getattr(error.__cause__, "sqlstate", None)
    return state if isinstance(state, str) else ""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
