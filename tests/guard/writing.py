"""Writes a row by a driver, in any process: what is started anew imports nothing else of tests."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, suppress
from multiprocessing.pool import ThreadPool
from typing import Any


def insert(url: str, name: str, begin: str = "") -> None:
    """By sqlite3, or by psycopg on PostgreSQL, on a connection of its own."""
    if "://" in url:
        import psycopg

        with psycopg.connect(url) as link:
            link.execute("INSERT INTO t (name) VALUES (%s)", [name])
        return
    with closing(sqlite3.connect(url, timeout=0.1)) as connection, connection:
        if begin:
            connection.execute(begin)
        connection.execute("INSERT INTO t (name) VALUES (?)", [name])


def read(url: str) -> Any:
    if "://" in url:
        import psycopg

        with psycopg.connect(url) as link:
            return link.execute("SELECT count(*) FROM t").fetchone()
    with closing(sqlite3.connect(url, timeout=0.1)) as connection:
        return connection.execute("SELECT count(*) FROM t").fetchone()


def hide(url: str, name: str, begin: str = "") -> str:
    """Write, and hide whatever comes of it."""
    with suppress(Exception):
        insert(url, name, begin)
    return "fine"


class Writing(multiprocessing.get_context("spawn").Process):  # type: ignore[misc]
    """A process by a class of an app's own, which hides whatever comes of it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def run(self) -> None:
        hide(self.url, "anew")


def in_thread(act: Any, *arguments: Any) -> None:
    """Do something in a thread."""
    thread = threading.Thread(target=act, args=arguments)
    thread.start()
    thread.join()


def in_timer(act: Any, *arguments: Any) -> None:
    """Do something in a timer's thread."""
    timer = threading.Timer(0, act, arguments)
    timer.start()
    timer.join()


def in_executor(act: Any, *arguments: Any) -> None:
    """Do something in a thread of an executor."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(act, *arguments).result()


def in_pool(act: Any, *arguments: Any) -> None:
    """Do something in a thread of a pool of multiprocessing's."""
    with ThreadPool(1) as pool:
        pool.apply(act, arguments)


_kept: list[ThreadPoolExecutor] = []


def keep_executor() -> None:
    """Make an executor that a worker keeps; it has no threads yet."""
    _kept.append(ThreadPoolExecutor(1))


def by_kept(act: Any, *arguments: Any) -> Any:
    """Do something in its thread."""
    return _kept[0].submit(act, *arguments).result()


# By processes of a process's own, which hide what comes of it -------------------------------------


def in_child(act: Any, *arguments: Any) -> None:
    """Do something in a forked process."""
    child = os.fork()
    if not child:
        with suppress(BaseException):
            act(*arguments)
        os._exit(0)
    os.waitpid(child, 0)


def in_process(act: Any, *arguments: Any) -> None:
    """Do something in a process that is started anew."""
    process = multiprocessing.get_context("spawn").Process(target=act, args=arguments)
    process.start()
    process.join()


def by_worker(act: Any, *arguments: Any) -> None:
    """Do something in a worker of an executor's."""
    context = multiprocessing.get_context("fork")
    with suppress(Exception), ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(act, *arguments).result()


def by_pools_worker(act: Any, *arguments: Any) -> None:
    """Do something in a worker of a pool's."""
    with suppress(Exception), multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(act, arguments)
