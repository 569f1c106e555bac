"""Threads of a process that works for a call are watched as the process is."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from atomicbatch.guard.watch import watching
from tests.doors.in_batches import run_batch
from tests.guard import writing
from tests.stores import Store

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # Of what forks beside other threads: nothing of theirs is used here.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
WAYS = (writing.in_thread, writing.in_timer, writing.in_executor, writing.in_pool)


@pytest.mark.parametrize("way", WAYS)
def test_of_a_pools_worker(way: Callable[..., None], postgresql_store: Store) -> None:
    """A worker from before the batch; afterwards it writes as ever."""
    url = postgresql_store.url
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(abs, 1).result(30)

        def work(name: str) -> None:
            pool.submit(way, writing.hide, url, name).result(30)

        def hide() -> None:
            with suppress(Exception):
                work("pooled")

        answer = run_batch(lambda: writing.insert(url, "own"), hide)
        assert answer.outcome == "rolled-back; failed=2; status=501"
        assert postgresql_store.rows() == []
        work("later")
        assert postgresql_store.rows() == ["later"]


def test_of_a_process_that_is_started_anew(postgresql_store: Store) -> None:
    work = partial(writing.in_executor, writing.hide, postgresql_store.url, "anew")

    def starts() -> Any:
        process = multiprocessing.get_context("spawn").Process(target=work)
        process.start()
        process.join()
        return process.exitcode

    answer = run_batch(starts)
    assert answer.outcome == "rolled-back; failed=1; status=501"
    assert b"in another process" in answer.replies[0].body
    assert (starts(), postgresql_store.rows()) == (0, ["anew"])


def _left_behind() -> bool:
    return watching.get() is None


def test_a_pools_threads_serve_others_later() -> None:
    """One that was started for a call does not keep its watch."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(writing.keep_executor).result(30)
        assert run_batch(lambda: pool.submit(writing.by_kept, abs, -1).result(30)).statuses == [201]
        assert pool.submit(writing.by_kept, _left_behind).result(30)
