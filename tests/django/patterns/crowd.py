"""
A process in which threads send batches and plain requests to one project at the same time.

``python -m tests.django.patterns.crowd ORDER``; one line of JSON: what went wrong, in words.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import warnings
from collections import Counter
from typing import TYPE_CHECKING

from tests.django.patterns.child import prepare
from tests.django.patterns.settings import Order, apply

if TYPE_CHECKING:
    from tests.django.patterns.gateways import Project
    from tests.django.patterns.stores import Store

_THREADS = 6
_ROUNDS = 8


class Crowd:
    """
    Threads that ask for rows with names of their own; every second batch fails at its last call.

    Args:
        project: The project, which all of them ask.
    """

    def __init__(self, project: Project) -> None:
        self.stored: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self._project = project
        self._lock = threading.Lock()

    def run(self) -> None:
        """Send everything, and wait for all answers."""
        threads = [threading.Thread(target=self._work, args=(n,)) for n in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, number: int) -> None:
        from django.db import connections

        for turn in range(_ROUNDS):
            names = [f"{number}-{turn}-{call}" for call in range(3)]
            random.shuffle(names)
            failing = ["fail"] if turn % 2 else []
            answer = self._project.ask_batch(*(f"make/{name}" for name in names), *failing)
            alone = f"{number}-{turn}-alone"
            status, _ = self._project.ask(f"make/{alone}")
            with self._lock:
                self.outcomes[answer.outcome] += 1
                self.stored += names if answer.committed else []
                self.stored += [alone] if status == 200 else []
        connections.close_all()


def problems(crowd: Crowd, store: Store) -> list[str]:
    """Compare what the clients were told with what is stored."""
    stored = sorted(name for kind, name, _ in store.rows() if kind == "patterns_item")
    found = [] if stored == sorted(crowd.stored) else [f"{stored} is not {sorted(crowd.stored)}"]
    if left := store.open_transactions():
        found.append(f"connections are left in transactions: {left}")
    if crowd.outcomes["committed"] < _THREADS or sum(crowd.outcomes.values()) < _THREADS * _ROUNDS:
        found.append(f"nothing was tried: {crowd.outcomes}")
    return found


def main() -> None:
    """Do what the command line says."""
    warnings.simplefilter("ignore")
    order = Order.read(sys.argv[1])
    stores = prepare(order)
    from tests.django.patterns.gateways import Project

    apply(order.variants[0])
    crowd = Crowd(Project(order.variants[0]))
    crowd.run()
    print(json.dumps(problems(crowd, stores[0])), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
