"""Threads that send batches and plain requests to one project at the same time."""

from __future__ import annotations

import random
import threading
from collections import Counter

from django.db import connections

from tests.django.patterns.gateways import Project
from tests.django.patterns.settings import Variant, apply
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


def run(variant: Variant, store: Store) -> list[str]:
    """Let a crowd ask the project in one configuration; tell what went wrong, in words."""
    apply(variant)
    store.empty()
    crowd = Crowd(Project(variant))
    crowd.run()
    return problems(crowd, store)
