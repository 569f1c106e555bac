"""Batches follow their calls into threads, and do not wait for those that wait for them."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import atomicbatch
from atomicbatch import inside_batch
from atomicbatch.engine import contexts
from atomicbatch.engine.current import running_batch


@contextmanager
def full(pool: ThreadPoolExecutor, workers: int) -> Iterator[None]:
    """Let others take all threads of a pool until the block ends."""
    taken, free = threading.Barrier(workers + 1), threading.Event()

    def hold() -> None:
        taken.wait(10)
        free.wait(60)

    contexts.install()
    with pool:
        for _ in range(workers):
            pool.submit(hold)
        taken.wait(10)
        try:
            yield
        finally:
            free.set()


def in_thread() -> tuple[str, bool]:
    return threading.current_thread().name, inside_batch()


def own_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("atomicbatch-call")]


def test_a_pool_that_others_have_taken() -> None:
    """They may wait for the batch, so it has threads of its own, as many as the pool; they end."""
    pool = ThreadPoolExecutor(2, "app")
    with full(pool, 2):
        with running_batch():
            found = list(pool.map(lambda _: in_thread(), range(20), timeout=10))
            assert all(name.startswith("atomicbatch-call") and inside for name, inside in found)
            started = [one for one in threading.enumerate() if one.name in own_threads()]
            assert 1 <= len(started) <= 2
        gc.collect()
        for one in started:
            one.join(10)
        assert own_threads() == []
    with ThreadPoolExecutor(2, "app") as idle, running_batch():
        assert idle.submit(in_thread).result(10) == ("app_0", True)


class OfTheApp(ThreadPoolExecutor):
    """Whatever it does."""


@pytest.mark.parametrize(
    ("pool", "workers"),
    [
        (lambda: ThreadPoolExecutor(1, "app"), 1),
        (lambda: ThreadPoolExecutor(2, "app", initializer=lambda: None), 2),
        (lambda: OfTheApp(2, "app"), 2),
    ],
    ids=["one by one", "prepared", "own class"],
)
def test_pools_whose_threads_matter(pool: Any, workers: int) -> None:
    """Work goes to no other thread than the app has meant it for."""
    made = pool()
    with running_batch():
        with full(made, workers):
            given = made.submit(in_thread)
        name, inside = given.result(10)
    assert (name.startswith("app"), inside) == (True, True)


def test_context_variables_of_ours_are_known_by_their_names() -> None:
    """A thread of an app's pool inherits none of them, where threads inherit contexts."""
    sources = sorted(Path(atomicbatch.__file__).parent.rglob("*.py"))
    made = [re.findall(r"= ContextVar\(\s*(.{13})", one.read_text("utf-8")) for one in sources]
    names = list(chain.from_iterable(made))
    assert len(names) >= 8
    assert set(names) == {'"atomicbatch_'}
