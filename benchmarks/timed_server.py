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
    "statements": [],
    "finish": [],
}
INNER = ("plan", "transaction", "statements", "finish")


class Stage:
    """Nanoseconds spent in it, and how often it was called."""

    def __init__(self) -> None:
        self.spent = self.count = 0
        self._running = False

    def timed(self, function: Function) -> Function:
        """The function, with a clock around it."""

        def run(*args: Any, **kwargs: Any) -> Any:
            if self._running:  # one of its functions calls another
                return function(*args, **kwargs)
            self._running = True
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent += clock() - start
                self.count += 1
                self._running = False

        return run


stages = {name: Stage() for name in STAGES}


def wrapper_costs() -> tuple[float, float]:
    """Nanoseconds that a wrapper adds to its own stage, and to whoever calls it besides."""
    stage, times = Stage(), 20_000
    function = stage.timed(lambda: None)
    start = clock()
    for _ in range(times):
        function()
    whole = (clock() - start) / times
    inside = stage.spent / times
    return inside, whole - inside


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

    make, timed = Api.plan, stages["finish"].timed

    def plan(*args: Any) -> Any:
        made = make(*args)
        return Known(made[0], timed(made[1]), *made[2:]) if made.__class__ is Known else made

    Api.plan = plan  # type: ignore[assignment]


def answer(costs: tuple[float, float]) -> None:
    """Obey the lines on standard input."""
    inside, outside = costs
    begun = time.process_time_ns()
    for line in sys.stdin:
        if line.strip() == "reset":
            for stage in stages.values():
                stage.spent = stage.count = 0
            begun = time.process_time_ns()
        told = {name: stage.spent - stage.count * inside for name, stage in stages.items()}
        counts = sum(stages[name].count for name in INNER)
        told["execute"] -= counts * outside + counts * inside
        told["all"] = time.process_time_ns() - begun - counts * (inside + outside)
        print(json.dumps(told), flush=True)


def main() -> None:
    importlib.import_module("atomicbatch.server.http.serve")
    time_finish()
    time_statements()
    for stage, names in STAGES.items():
        for name in names:
            replace(name, stages[stage])
    threading.Thread(target=answer, args=(wrapper_costs(),), daemon=True).start()
    command_line()


if __name__ == "__main__":
    main()
