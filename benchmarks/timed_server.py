"""
``atomicbatch serve`` with clocks in it, for ``benchmarks/stages.py``.

Functions where one stage of a batch ends and the next begins are wrapped; each call adds the CPU
time of its thread to its stage. What the wrappers take is measured at the start and subtracted. A
line on standard input, ``reset`` or ``tell``, is answered by a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from atomicbatch.cli import main as command_line
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.rows.plan import Known

clock = time.thread_time_ns
Function = Callable[..., Any]
FLIGHT = "atomicbatch.server.database.flight:Flight"

# The stages inside ``execute`` are called once or more for a call, the others once for a batch.
# Of several names, those count that there are: the source tree may be older than this file.
STAGES = {
    "wire: read": ["atomicbatch.exchange.request:read_request"],
    "wire: write": ["atomicbatch.exchange.response:write_response"],
    "execute": ["atomicbatch.engine.run:execute", "atomicbatch.engine.run:execute_by"],
    "plan": ["atomicbatch.server.rows.api:Api.plan"],
    "transaction": [
        "atomicbatch.server.database.sessions:Session.__enter__",
        "atomicbatch.server.database.sessions:Session.__exit__",
    ],
    "statements": [
        *(f"{FLIGHT}.{name}" for name in ("send", "push", "look", "is_answered", "sync")),
        *(f"{FLIGHT}.{name}" for name in ("wait_for_begin", "take", "one", "few", "ask", "leave")),
        "atomicbatch.server.database.flight:Answer.fetchone",
        "atomicbatch.server.database.flight:Answer.fetchall",
    ],
    "finish": [],
}
INNER = ("plan", "transaction", "statements", "finish")


class Busy:
    """Stages of which one at a time is told: what happens within it is its own."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = False


class Stage:
    """Nanoseconds spent in it, and how often it was called."""

    def __init__(self, busy: Busy) -> None:
        self.spent = self.count = 0
        self._busy = busy

    def timed(self, function: Function) -> Function:
        """The function, with a clock around it."""

        busy = self._busy

        def run(*args: Any, **kwargs: Any) -> Any:
            if busy.now:
                return function(*args, **kwargs)
            busy.now = True
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent += clock() - start
                self.count += 1
                busy.now = False

        return run


within_execute = Busy()
stages = {name: Stage(within_execute if name in INNER else Busy()) for name in STAGES}


def finish_timed(made: Any) -> Any:
    """The plan, with a clock around what makes the reply."""
    if made.__class__ is not Known:
        return made
    return Known(made[0], stages["finish"].timed(made[1]), *made[2:])


def nanoseconds(act: Callable[[], object], times: int = 20_000) -> float:
    """What a call of it takes."""
    start = clock()
    for _ in range(times):
        act()
    return (clock() - start) / times


def wrapper_costs() -> tuple[float, float, float]:
    """Nanoseconds that a clock adds to its stage, and besides; and what a plan's takes to set."""
    stage = Stage(Busy())
    whole = nanoseconds(stage.timed(lambda: None))
    inside = stage.spent / stage.count
    plan = Known(None, lambda _: None, None)  # type: ignore[arg-type,return-value]
    return inside, whole - inside, nanoseconds(lambda: finish_timed(plan))


def replace(name: str, stage: Stage) -> None:
    """Put the clock wherever a function or a method is known by this name."""
    place, _, path = name.partition(":")
    try:
        owner: Any = importlib.import_module(place)
        *outer, last = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        original = getattr(owner, last)
    except (ImportError, AttributeError):
        return
    timed = stage.timed(original)
    setattr(owner, last, timed)
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("atomicbatch"):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    setattr(module, attribute, timed)


def time_statements() -> None:
    """A session's ways to its connection are made when it connects."""
    connect = Session._connect

    def connect_and_time(self: Session) -> None:
        connect(self)
        for name in ("execute", "one", "few"):
            setattr(self, name, stages["statements"].timed(getattr(self, name)))

    Session._connect = connect_and_time  # type: ignore[method-assign]


def time_finish() -> None:
    """A plan holds the function that makes its reply."""
    from atomicbatch.server.rows.api import Api

    make = Api.plan
    Api.plan = lambda *args: finish_timed(make(*args))  # type: ignore[method-assign]


def answer(costs: tuple[float, float, float]) -> None:
    """Obey the lines on standard input."""
    inside, outside, setting = costs
    begun = time.process_time_ns()
    for line in sys.stdin:
        if line.strip() == "reset":
            for stage in stages.values():
                stage.spent = stage.count = 0
            begun = time.process_time_ns()
        told = {name: stage.spent - stage.count * inside for name, stage in stages.items()}
        ours = sum(stages[name].count for name in INNER) * (inside + outside)
        ours += stages["finish"].count * setting
        told["execute"] -= ours
        told["all"] = time.process_time_ns() - begun - ours
        print(json.dumps(told), flush=True)


def main() -> None:
    importlib.import_module("atomicbatch.server.http.serve")
    time_statements()
    for stage, names in STAGES.items():
        for name in names:
            replace(name, stages[stage])
    time_finish()
    threading.Thread(target=answer, args=(wrapper_costs(),), daemon=True).start()
    command_line()


if __name__ == "__main__":
    main()
