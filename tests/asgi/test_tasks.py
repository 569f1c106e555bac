"""Tasks that begin at once: inside they are like those that an event loop makes."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
import sniffio
import uvloop

from atomicbatch.asgi import tasks
from atomicbatch.asgi.tasks import Begin, beginner

Log = list[object]
Program = Callable[[Log], Coroutine[Any, Any, None]]
word: ContextVar[str] = ContextVar("word", default="none")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


# Programs: each writes down what it sees. A task of the loop's and one of ours must see the same.


async def waits_for_nothing(log: Log) -> None:
    log.append("ran")


async def raises_at_once(log: Log) -> None:
    raise ValueError("at once")


async def raises_later(log: Log) -> None:
    await asyncio.sleep(0)
    raise ValueError("later")


async def is_one_task(log: Log) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    log += [task in asyncio.all_tasks(), task.get_loop() is loop, task.done()]
    log += [type(task), task.get_name().startswith("Task-"), task.cancelling()]
    for _ in range(3):
        await asyncio.sleep(0)
        log.append(asyncio.current_task() is task)
    await asyncio.sleep(0.001)
    log += [asyncio.current_task() is task, task in asyncio.all_tasks()]


async def sets_variables(log: Log) -> None:
    word.set("first")
    log.append(word.get())
    await asyncio.sleep(0)
    log.append(word.get())

    async def child() -> None:
        log.append(word.get())
        word.set("child's")

    await asyncio.create_task(child())
    asyncio.get_running_loop().call_soon(lambda: log.append(word.get()))
    await asyncio.sleep(0)
    log.append(word.get())


async def has_a_time_limit(log: Log) -> None:
    try:
        async with asyncio.timeout(0.001):
            log.append("waiting")
            await asyncio.Event().wait()
    except TimeoutError:
        task = asyncio.current_task()
        log += ["timeout", task and task.cancelling()]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)
    async with asyncio.timeout(None):
        log.append("not")


async def has_a_time_limit_that_has_passed(log: Log) -> None:
    try:
        async with asyncio.timeout(0):
            log.append("before")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            log.append("never")
    except TimeoutError:
        log.append("timeout")


async def cancels_itself(log: Log) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("by itself")
    log.append(task.cancelling())
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError as error:
        log.append(error.args)
        raise


async def cancels_itself_and_never_waits(log: Log) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    log.append("end")


async def raises_a_cancellation(log: Log) -> None:
    raise asyncio.CancelledError("made up")


async def survives_its_cancellation(log: Log) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log.append(task.uncancel())
    await asyncio.sleep(0)
    log.append("went on")


async def has_a_group(log: Log) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("in a group")

    async def hears() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async with asyncio.TaskGroup() as group:
        group.create_task(hears())
        group.create_task(fails())
        log.append("made")


async def uses_anyio(log: Log) -> None:
    log.append(sniffio.current_async_library())
    with anyio.move_on_after(0.001) as scope:
        await anyio.sleep_forever()
    log.append(scope.cancelled_caught)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    log.append(scope.cancelled_caught)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
        log.append(anyio.get_current_task().id == id(asyncio.current_task()))
    log.append(await anyio.to_thread.run_sync(word.get))
    async with anyio.create_task_group() as group:
        group.cancel_scope.cancel()
        await anyio.sleep_forever()
    log.append("end")


async def is_called_back(log: Log) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda ended: log.append(ended is task))


async def has_a_future_of_another_loop(log: Log) -> None:
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


PROGRAMS = [
    waits_for_nothing,
    raises_at_once,
    raises_later,
    is_one_task,
    sets_variables,
    has_a_time_limit,
    has_a_time_limit_that_has_passed,
    cancels_itself,
    cancels_itself_and_never_waits,
    raises_a_cancellation,
    survives_its_cancellation,
    has_a_group,
    uses_anyio,
    is_called_back,
    has_a_future_of_another_loop,
]


async def seen_by(program: Program, begin: Begin | None) -> Log:
    """Run a program in a task; return what it and whoever awaits it have seen."""
    loop, outer = asyncio.get_running_loop(), asyncio.current_task()
    assert outer is not None
    log: Log = []
    word.set("outer")
    task = (begin or loop.create_task)(program(log))
    assert asyncio.current_task() is outer
    try:
        await task
    except BaseException as error:
        log += [type(error), _without_names(error)]
    await asyncio.sleep(0)
    log += [task.done(), task.cancelled(), task is outer, outer.cancelling(), word.get()]
    word.set("outer")
    return log


def _without_names(error: BaseException) -> str:
    """Write an error without the names and addresses of tasks in it."""
    if isinstance(error, BaseExceptionGroup):
        return f"{error.message} {[repr(one) for one in error.exceptions]}"
    return str(error).partition("<")[0]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_code_inside_sees_what_it_sees_in_another_task(
    program: Program, runner: asyncio.Runner
) -> None:
    """Identity, context, cancelling, time limits, groups, cancel scopes, errors: all the same."""

    async def main() -> tuple[Log, Log]:
        begin = beginner(asyncio.get_running_loop())
        return await seen_by(program, None), await seen_by(program, begin)

    expected, seen = runner.run(main())
    assert seen == expected
    assert len(seen) > 4


def test_it_runs_to_its_first_wait_at_once(runner: asyncio.Runner) -> None:
    """One that waits for nothing has ended when it is made; others have come to their wait."""

    async def main() -> None:
        begin, log = beginner(asyncio.get_running_loop()), list[object]()
        assert begin(waits_for_nothing(log)).done()
        assert log == ["ran"]
        waiting = begin(raises_later(log))
        assert not waiting.done()
        with pytest.raises(ValueError, match="later"):
            await waiting
        assert begin(raises_at_once(log)).exception() is not None

    runner.run(main())


def test_it_is_cancelled_from_outside(runner: asyncio.Runner) -> None:
    """Whoever awaits it passes its own cancellation on, once it waits."""

    async def main() -> None:
        begin, log = beginner(asyncio.get_running_loop()), list[object]()

        async def waits() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                log.append("heard")
                raise

        async def outer() -> None:
            await begin(waits())

        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ["heard"]

    runner.run(main())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_leaves_the_running_task_in_its_place(
    kind: type[BaseException], runner: asyncio.Runner
) -> None:
    """What ends the process passes through, and the task around it is the running one again."""

    async def exits() -> None:
        raise kind

    async def main() -> None:
        begin, outer = beginner(asyncio.get_running_loop()), asyncio.current_task()
        with pytest.raises(kind):
            await begin(exits())
        assert asyncio.current_task() is outer
        await asyncio.sleep(0)

    runner.run(main())


def test_tasks_in_tasks(runner: asyncio.Runner) -> None:
    """One that begins another one at once is the running task again afterwards."""

    async def main() -> None:
        begin, seen = beginner(asyncio.get_running_loop()), list[object]()

        async def inner() -> None:
            seen.append(asyncio.current_task())

        async def middle() -> None:
            seen.append(asyncio.current_task())
            await begin(inner())
            seen.append(asyncio.current_task())

        seen.append(asyncio.current_task())
        await begin(middle())
        seen.append(asyncio.current_task())
        first, second, third, fourth, fifth = seen
        assert (first is fifth, second is fourth) == (True, True)
        assert len({id(first), id(second), id(third)}) == 3

    runner.run(main())


def test_nothing_is_kept_of_it(runner: asyncio.Runner) -> None:
    """A task that has ended is gone when nobody holds it, although more may be begun."""

    async def main() -> None:
        begin = beginner(asyncio.get_running_loop())
        task = begin(waits_for_nothing([]))
        reference = weakref.ref(task)
        del task
        gc.collect()
        assert reference() is None
        await begin(waits_for_nothing([]))

    runner.run(main())


# Who wants to see how tasks are made.


def test_a_task_factory_makes_them(runner: asyncio.Runner) -> None:
    """An app or a tracer that has set a factory sees the tasks of calls, too."""
    made: list[asyncio.Task[Any]] = []

    def factory(
        loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        task = beginner(loop)(waits_for_nothing([]))
        assert made == [task]
        await task

    runner.run(main())


def test_a_debugged_loop_makes_them(runner: asyncio.Runner) -> None:
    """asyncio's debug mode watches how long each step takes, and where a task was made."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        task = beginner(loop)(waits_for_nothing([]))
        assert not task.done()
        await task

    runner.run(main())


def test_a_changed_create_task_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracer may have replaced it."""
    found, made = asyncio.BaseEventLoop.create_task, list[object]()

    def create_task(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine)
        return found(loop, coroutine, **options)

    async def main() -> None:
        monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", create_task)
        coroutine = waits_for_nothing([])
        await beginner(asyncio.get_running_loop())(coroutine)
        assert made == [coroutine]

    asyncio.run(main())


def test_where_there_is_no_task() -> None:
    """A callback of the loop has none that could be put back: the loop makes one, as ever."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[bool] = loop.create_future()
        log: Log = []

        def callback() -> None:
            task = beginner(loop)(waits_for_nothing(log))
            task.add_done_callback(lambda _: ended.set_result(asyncio.current_task() is None))

        loop.call_soon(callback)
        assert await ended
        assert log == ["ran"]

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there asyncio has it")
def test_without_tasks_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where asyncio's tasks are written in Python (PyPy), the loop makes them."""

    async def main() -> None:
        monkeypatch.setattr(tasks, "_HAS_C_TASKS", False)
        loop = asyncio.get_running_loop()
        assert beginner(loop) == loop.create_task

    asyncio.run(main())
