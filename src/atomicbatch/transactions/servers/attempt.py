"""One attempt at a batch by drivers that join: files of SQLite, and databases of servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from pathlib import Path
from typing import Any, NoReturn

from atomicbatch import greenlets
from atomicbatch.doors.custom_settings import MOST_NAMES, seen
from atomicbatch.doors.server_uses import Kind
from atomicbatch.drivers.driver import State
from atomicbatch.errors import BusyError, ConflictError, TransactionError
from atomicbatch.guard import Allowed
from atomicbatch.guard.callers import caller, is_logging
from atomicbatch.guard.places import Place as Address
from atomicbatch.guard.watch import aside
from atomicbatch.join.acts import Act, Acts, Place
from atomicbatch.join.diagnosis import Used
from atomicbatch.join.session import OVER
from atomicbatch.model import Batch
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.servers import async_real, sync_real
from atomicbatch.transactions.servers.async_real import AsyncReal
from atomicbatch.transactions.servers.async_use import AsyncUse
from atomicbatch.transactions.servers.introduction import Introduction, introduce
from atomicbatch.transactions.servers.lasting import Lasting
from atomicbatch.transactions.servers.real import Host, ServerReal
from atomicbatch.transactions.servers.sync_real import SyncReal
from atomicbatch.transactions.servers.sync_use import SyncUse
from atomicbatch.transactions.servers.use import Hall, reference
from atomicbatch.transactions.slots import Slots
from atomicbatch.transactions.sqlite.attempt import SQLiteAttempt
from atomicbatch.transactions.sqlite.calls import Call, current_call
from atomicbatch.transactions.sqlite.memory import Memory

Uses = SyncUse | AsyncUse


async def spawn(act: Callable[[], object]) -> None:
    """Do an act of an async driver's: see ``transactions/places.py``."""
    done = act()
    if isawaitable(done):
        await done


class DriverAttempt(SQLiteAttempt, Host, Hall):
    """
    Everything that one attempt at a batch does by drivers that join.

    Args:
        memory: What all batches of the adapter share.
        allowed: What batches leave alone.
        batch: What is attempted.
        deadline: When time is up, as time.monotonic() tells.
        isolation_level: What servers' transactions are begun at; empty: their own.
    """

    def __init__(
        self,
        memory: Memory,
        allowed: Allowed,
        batch: Batch,
        deadline: float,
        isolation_level: str = "",
    ) -> None:
        super().__init__(memory, allowed, batch, deadline)
        self.isolation_level = isolation_level
        self._spawn = spawn
        self._place_in_line: Slots | None = None
        self.lasting = Lasting()
        # By the identity of the app's connection, with a reference that tells whose it still is.
        self._introduced: dict[int, tuple[Callable[[], Any], Introduction]] = {}

    def call(self) -> Call:
        call = Call(self, spawn)
        self.note_call(call)
        return call

    def takes_part(self, connection: Any) -> bool:
        return self._is_wire(connection) or super().takes_part(connection)

    def slots(self, key: tuple[str, ...]) -> Slots | None:  # noqa: ARG002
        return None  # it has stood in line before its first call

    @property
    def servers(self) -> tuple[ServerReal, ...]:
        """The transactions in databases of servers."""
        return tuple(real for real in self.begun if isinstance(real, ServerReal))

    def _is_wire(self, connection: Any) -> bool:
        return any(real.wire is connection for real in self.servers)

    # Its turn ----------------------------------------------------------------------------------

    stands_in_line = True
    """Only so many run at a time."""

    def prepare(self) -> Acts:
        if self.stands_in_line:
            if self._memory.line.take_now():
                self._place_in_line = self._memory.line
            elif self._loop is None:
                yield Act(Place.HERE, self._stand_in_line)
            else:
                yield Act(Place.LOOP, self._stand_in_line_async)
        yield from super().prepare()

    def _stand_in_line(self) -> None:
        line = self._memory.line
        if not line.take(self.deadline, stopped=lambda: self.is_stopped):
            self._give_up_waiting()
        self._place_in_line = line

    async def _stand_in_line_async(self) -> None:
        line = self._memory.line
        if not await line.take_async(self.deadline, stopped=lambda: self.is_stopped):
            self._give_up_waiting()
        self._place_in_line = line

    def _give_up_waiting(self) -> NoReturn:
        self.check()
        error = BusyError("too many batches are running")
        self.doom(error)
        raise error

    def _forget(self) -> None:
        super()._forget()
        line, self._place_in_line = self._place_in_line, None
        if line is not None:
            line.give()

    # What doors ask ----------------------------------------------------------------------------

    def server_use_of(self, connection: Any, kind: Kind, *, executes: bool) -> Uses | None:
        """
        Tell what stands for a connection of the app's in this call; None: it stands for itself.

        Args:
            connection: The app's.
            kind: Of its driver.
            executes: It is about to execute something. If not, and the call has not used it yet,
                there is nothing to stand for.
        """
        call = current_call.get()
        if call is None or call.attempt is not self:
            return None
        key = id(connection)
        use: Uses | None = call.uses.get(key)
        if use is not None and use.is_of(connection):
            call.check()
            return use
        if not executes or key in call.left_alone or self._is_wire(connection):
            return None
        call.check()
        return self._take_in(call, connection, kind)

    def _take_in(self, call: Call, connection: Any, kind: Kind) -> Uses | None:
        if self._is_left_alone(connection, kind):
            call.left_alone[id(connection)] = connection
            return None
        self.check()
        if kind.state(connection) in (State.OPEN, State.ABORTED):
            self.refuse(
                "a handler uses a connection whose transaction was begun before the batch; commit "
                "or roll it back before, or open a connection within the call"
            )
        made = self._make_use(connection, kind)
        # In the place of a connection that had the same identity, perhaps.
        call.uses[id(connection)] = made
        call.hold(made)
        return made

    def _make_use(self, connection: Any, kind: Kind) -> Uses:
        return (AsyncUse if kind.is_async else SyncUse)(self, connection, kind)

    def _is_left_alone(self, connection: Any, kind: Kind) -> bool:
        allowed, named = self._allowed, kind.named
        if allowed:
            names = (named.name, *caller().libraries)
            if allowed.allows(names, named.place(connection)):
                return True
        # A line about a batch that failed is meant to stay.
        return is_logging()

    # What uses ask -----------------------------------------------------------------------------

    def check_place(self, kind: Kind) -> None:
        if not kind.is_async:
            self._check_off_loop(kind)
        elif self._loop is None:
            self.refuse(
                f"a handler uses {kind.named.name} in a batch of a WSGI app, which runs in a "
                f"thread without an event loop; use a sync driver there, or serve the app by ASGI"
            )
        elif asyncio._get_running_loop() is not self._loop:
            self.refuse(
                f"a handler uses {kind.named.name} in an event loop of its own (asyncio.run); use "
                f"a sync driver there, or await it in the app's loop"
            )

    def _check_off_loop(self, kind: Kind) -> None:
        """
        Let a sync driver work on the batch's event loop only while nothing else runs there.

        Whoever waits for the batch's locks would stop the loop, and with it the batch.
        """
        if why_not := greenlets.why_not(kind.named.name):
            self.refuse(why_not)
        loop = self._loop
        if loop is None or asyncio._get_running_loop() is not loop or self.is_alone():
            return
        self._memory.note_conflict(loop)
        error = ConflictError(
            f"a handler uses {kind.named.name} on the event loop, so that the batch is run alone; "
            f"make it 'def', or use an async driver"
        )
        error.alone = True
        self.doom(error)
        raise error

    def find_sync(self, connection: Any, kind: Kind) -> SyncReal:
        self.check_place(kind)
        self._check_custom(kind)
        known = self.introduction_of(connection)
        if known is None:
            place = kind.named.place(connection)
            with aside():
                known = sync_real.asked(introduce(kind.named.family, place), kind, connection)
            self._introduced[id(connection)] = reference(connection), known
        real: SyncReal = self._real_of(known, kind, SyncReal)
        return real

    async def find_async(self, connection: Any, kind: Kind) -> AsyncReal:
        self.check_place(kind)
        self._check_custom(kind)
        known = self.introduction_of(connection)
        if known is None:
            place = kind.named.place(connection)
            with aside():
                asking = introduce(kind.named.family, place)
                known = await async_real.asked(asking, kind, connection)
            self._introduced[id(connection)] = reference(connection), known
        real: AsyncReal = self._real_of(known, kind, AsyncReal)
        return real

    def ask_again(self, connection: Any, kind: Kind) -> Introduction:
        place = kind.named.place(connection)
        with aside():
            known = sync_real.asked(introduce(kind.named.family, place), kind, connection)
        return self._keep(connection, known)

    async def ask_again_async(self, connection: Any, kind: Kind) -> Introduction:
        place = kind.named.place(connection)
        with aside():
            known = await async_real.asked(introduce(kind.named.family, place), kind, connection)
        return self._keep(connection, known)

    def _keep(self, connection: Any, known: Introduction) -> Introduction:
        # Its transaction stays the one that it was found to be for.
        before = self.introduction_of(connection) or known
        known = before._replace(settings=known.settings)
        self._introduced[id(connection)] = reference(connection), known
        return known

    def introduction_of(self, connection: Any) -> Introduction | None:
        owner, known = self._introduced.get(id(connection), (None, None))
        return known if owner is not None and owner() is connection else None

    def _check_custom(self, kind: Kind) -> None:
        if kind.named.family is Family.POSTGRESQL and seen.are_too_many:
            self.refuse(
                f"the app has made settings of its own of more than {MOST_NAMES} names (such as "
                f"{next(iter(seen), 'shop.tenant')}), or longer ones than 200 characters, so that "
                f"a batch cannot have them; use fewer names"
            )

    def _real_of(self, introduction: Introduction, kind: Kind, make: type[ServerReal]) -> Any:
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            real = self._reals.get(introduction.key)
            if real is None:
                real = self._reals[introduction.key] = make(self, kind, introduction)
        real.check_kind(kind)
        real.check_alike(introduction)
        return real

    # For diagnosis, see join/diagnosis.py ------------------------------------------------------

    def databases(self) -> tuple[Used, ...]:
        return tuple(_used(real) for real in self.reals)


def _used(real: Any) -> Used:
    """Name a database for its own developers: unlike messages to clients, with file and host."""
    if isinstance(real, ServerReal):
        place, key = real.introduction.place, real.introduction.key
        where = "" if place is None else f"{place.host}:{place.port}"
        name = f"{key[0]}://{where}/{key[-1]}"
    else:
        place = real.database.place
        name = f"sqlite:///{_from_here(place)}" if place.database else "sqlite:// (in memory)"
    return Used(name, place, real.transaction.wrote)


def _from_here(place: Address) -> str:
    try:
        return str(Path(place.database).relative_to(Path.cwd()))
    except ValueError:
        return place.database
