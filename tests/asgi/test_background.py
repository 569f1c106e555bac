"""Background tasks and on_commit: once, after COMMIT, in order, and never after a rollback."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import litestar
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from litestar.background_tasks import BackgroundTask as LitestarTask
from litestar.background_tasks import BackgroundTasks as LitestarTasks
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse

from atomicbatch import Batch, ConflictError, Limits, inside_batch, on_commit
from atomicbatch.asgi import AtomicBatch, after_response, background, frameworks
from atomicbatch.engine import Replay
from atomicbatch.engine.current import running_batch
from tests.asgi.asking import Answer, ask, call, scope_of
from tests.asgi.asking import Request as Asked

EVENTS: list[str] = []
CURRENT: ContextVar[str] = ContextVar("current", default="none")


class Noted:
    """A transaction that only notes when it begins, commits and rolls back."""

    def __init__(self, conflicts: int = 0) -> None:
        self._conflicts = conflicts

    @asynccontextmanager
    async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[None]:
        EVENTS.append("BEGIN")
        try:
            yield
        except BaseException:
            EVENTS.append("ROLLBACK")
            raise
        if self._conflicts:
            self._conflicts -= 1
            EVENTS.append("ROLLBACK")
            raise ConflictError("in the way")
        EVENTS.append("COMMIT")


def note(text: str) -> None:
    EVENTS.append(f"{text} of {CURRENT.get()}, in a batch" if inside_batch() else text)


async def note_async(text: str) -> None:
    note(text)


class Subclass(BackgroundTask):
    async def __call__(self) -> None:
        note("a subclass")
        await super().__call__()


class Plain:
    async def __call__(self) -> None:
        note("a callable")


def exits() -> Iterator[None]:
    yield
    EVENTS.append("exit")


async def exits_async() -> AsyncIterator[None]:
    yield
    EVENTS.append("async exit")


def fastapi_app() -> FastAPI:
    app = FastAPI()

    @app.post("/tasks", dependencies=[Depends(exits), Depends(exits_async)])
    def tasks(tasks: BackgroundTasks) -> str:
        tasks.add_task(note, "sync task")
        tasks.add_task(note_async, "async task")
        return "fine"

    @app.post("/response/{kind}", dependencies=[Depends(exits)])
    async def response(kind: str) -> Response:
        made: dict[str, Callable[[], Response]] = {
            "task": lambda: PlainTextResponse("", background=BackgroundTask(note, "task")),
            "subclass": lambda: PlainTextResponse("", background=Subclass(note, "task")),
            "callable": lambda: PlainTextResponse("", background=Plain()),  # type: ignore[arg-type]
            "streaming": lambda: StreamingResponse(
                iter(["a", "b"]), background=BackgroundTask(note, "task")
            ),
            "file": lambda: FileResponse(__file__, background=BackgroundTask(note, "task")),
            "none": lambda: PlainTextResponse(""),
        }
        return made[kind]()

    @app.post("/late")
    async def late(request: Request) -> Response:
        response = PlainTextResponse("", background=BackgroundTasks())
        assert isinstance(response.background, object)
        response.background.add_task(note, "added later")  # type: ignore[union-attr]
        return response

    @app.post("/fails-in-background")
    async def fails_in_background(tasks: BackgroundTasks) -> None:
        def fail() -> None:
            EVENTS.append("fails")
            raise RuntimeError("in the background")

        tasks.add_task(fail)

    @app.post("/on-commit")
    async def handler(name: str) -> None:
        CURRENT.set(name)
        on_commit(lambda: EVENTS.append(f"on_commit sync {name} in {CURRENT.get()}"))
        on_commit(note_context, name, more=1)
        on_commit(functools.partial(note_context, name))

    @app.post("/fail")
    async def fail() -> None:
        raise HTTPException(409)

    return app


async def note_context(name: str, more: int = 0) -> None:
    EVENTS.append(f"on_commit async {name} in {CURRENT.get()} {more}")


def asked(app: Any, *paths: str, conflicts: int = 0) -> Answer:
    EVENTS.clear()
    batches = AtomicBatch(app, transaction=Noted(conflicts), replay=Replay(base_seconds=0))
    return asyncio.run(ask(batches, *(call("POST", path) for path in paths)))


def test_after_the_exits_and_after_commit() -> None:
    """Exits of dependencies, which may commit, come before COMMIT; background tasks after it."""
    assert asked(fastapi_app(), "/tasks").outcome == "committed"
    assert EVENTS == ["BEGIN", "async exit", "exit", "COMMIT", "sync task", "async task"]


def test_never_after_a_rollback() -> None:
    """A batch that fails runs no background task, neither before nor after."""
    assert asked(fastapi_app(), "/tasks", "/on-commit?name=a", "/fail").outcome != "committed"
    assert EVENTS == ["BEGIN", "async exit", "exit", "ROLLBACK"]


def test_those_of_failed_attempts_are_forgotten() -> None:
    """After a replay only the last attempt's tasks run, once."""
    answer = asked(fastapi_app(), "/tasks", conflicts=2)
    assert answer.headers["batch-attempts"] == "3"
    assert EVENTS[-3:] == ["COMMIT", "sync task", "async task"]
    assert EVENTS.count("sync task") == 1


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize(
    ("kind", "noted"),
    [
        ("task", ["task"]),
        ("subclass", ["a subclass", "task"]),
        ("callable", ["a callable"]),
        ("streaming", ["task"]),
        ("file", ["task"]),
        ("none", []),
    ],
)
def test_every_kind_of_response(kind: str, noted: list[str], middleware: bool) -> None:
    """Whatever is given as background, to whatever response, waits for COMMIT."""
    app = fastapi_app()
    if middleware:

        async def through(request: Request, call_next: Any) -> Any:
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=through)
    assert asked(app, f"/response/{kind}").outcome == "committed"
    assert ["BEGIN", "exit", "COMMIT", *noted] == EVENTS
    assert asked(app, f"/response/{kind}", "/fail").outcome != "committed"
    assert EVENTS == ["BEGIN", "exit", "ROLLBACK"]


def test_tasks_added_to_a_response() -> None:
    """response.background is still the list of tasks that handlers add to."""
    assert asked(fastapi_app(), "/late").outcome == "committed"
    assert EVENTS == ["BEGIN", "COMMIT", "added later"]


def test_one_that_fails() -> None:
    """A background task that fails takes nothing with it."""
    answer = asked(fastapi_app(), "/fails-in-background", "/tasks")
    assert answer.statuses == [200, 200]
    assert EVENTS[-4:] == ["COMMIT", "fails", "sync task", "async task"]


def test_on_commit_in_order_and_in_its_context() -> None:
    """on_commit's functions run in order, each in the context of its call."""
    assert asked(fastapi_app(), "/on-commit?name=a", "/on-commit?name=b").outcome == "committed"
    assert [
        "BEGIN",
        "COMMIT",
        *(
            text
            for name in ("a", "b")
            for text in (
                f"on_commit sync {name} in {name}",
                f"on_commit async {name} in {name} 1",
                f"on_commit async {name} in {name} 0",
            )
        ),
    ] == EVENTS


def test_outside_a_batch() -> None:
    """In a plain request background tasks run as ever, and on_commit runs at once."""
    app = AtomicBatch(fastapi_app(), transaction=Noted())
    EVENTS.clear()

    async def plain(path: str) -> None:
        request = Asked([b""])
        bare, _, query = path.partition("?")
        scope = scope_of(bare, (), query=query.encode())
        await app(scope, request.receive, request.send)
        assert request.answer.status == 200
        await asyncio.sleep(0)

    asyncio.run(plain("/tasks"))
    assert sorted(EVENTS) == ["async exit", "async task", "exit", "sync task"]
    EVENTS.clear()
    asyncio.run(plain("/on-commit?name=a"))
    assert EVENTS[0] == "on_commit sync a in a"
    assert len(EVENTS) == 3


def test_the_response_is_sent_first() -> None:
    """The client has the answer before background tasks begin."""
    app = AtomicBatch(fastapi_app(), transaction=Noted())
    EVENTS.clear()

    class Noting(Asked):
        async def send(self, message: Any) -> None:
            EVENTS.append(message["type"])
            await super().send(message)

    async def main() -> None:
        from atomicbatch.wire.batch import write_batch

        content_type, body = write_batch([call("POST", "/tasks")])
        request = Noting([body])
        scope = scope_of("/v1/api/batch", ((b"content-type", content_type),))
        await app(scope, request.receive, request.send)

    asyncio.run(main())
    assert EVENTS[-4:] == [
        "http.response.start",
        "http.response.body",
        "sync task",
        "async task",
    ]


def test_a_client_that_has_gone_after_commit() -> None:
    """What is stored is stored: its background tasks run although nobody waits for the answer."""
    app = AtomicBatch(fastapi_app(), transaction=Noted())
    EVENTS.clear()

    class Gone(Asked):
        async def send(self, message: Any) -> None:
            raise OSError("gone")

    async def main() -> None:
        from atomicbatch.wire.batch import write_batch

        content_type, body = write_batch([call("POST", "/tasks")])
        request = Gone([body])
        scope = scope_of("/v1/api/batch", ((b"content-type", content_type),))
        with pytest.raises(OSError, match="gone"):
            await app(scope, request.receive, request.send)

    asyncio.run(main())
    assert EVENTS[-3:] == ["COMMIT", "sync task", "async task"]


@litestar.post("/tasks", status_code=200)
async def litestar_tasks() -> litestar.Response[str]:
    return litestar.Response("fine", background=LitestarTask(note, "task"))


@litestar.post("/two", status_code=200, background=LitestarTask(note_async, "of the route"))
async def litestar_two() -> str:
    return "fine"


@litestar.post("/group", status_code=200)
async def litestar_group() -> litestar.Response[str]:
    tasks = [LitestarTask(note_async, "grouped"), LitestarTask(note_async, "grouped")]
    return litestar.Response("", background=LitestarTasks(tasks, run_in_task_group=True))


@litestar.post("/fail")
async def litestar_fail() -> None:
    raise litestar.exceptions.HTTPException(status_code=409)


def test_litestar() -> None:
    """Litestar's background tasks wait for COMMIT as well, and are forgotten after a rollback."""
    app = litestar.Litestar([litestar_tasks, litestar_two, litestar_group, litestar_fail])
    assert asked(app, "/tasks", "/two", "/group").outcome == "committed"
    assert EVENTS == ["BEGIN", "COMMIT", "task", "of the route", "grouped", "grouped"]
    assert asked(app, "/tasks", "/two", "/fail").outcome != "committed"
    assert EVENTS == ["BEGIN", "ROLLBACK"]


@litestar.post("/after", status_code=200, after_response=lambda request: note(request.url.path))
async def litestar_after() -> str:
    return "fine"


def test_litestars_hooks() -> None:
    """Litestar's after_response hooks wait for COMMIT as well, and are forgotten likewise."""
    app = litestar.Litestar([litestar_after, litestar_tasks, litestar_fail])
    assert asked(app, "/after", "/tasks").outcome == "committed"
    assert EVENTS == ["BEGIN", "COMMIT", "/after", "task"]
    assert asked(app, "/after", "/fail").outcome != "committed"
    assert EVENTS == ["BEGIN", "ROLLBACK"]


def test_it_can_be_undone() -> None:
    """Uninstalled, the frameworks are as they were."""
    response = PlainTextResponse("", background=BackgroundTask(note, "task"))
    with running_batch():
        assert isinstance(response.background, background.Deferred)
        background.uninstall()
        after_response.uninstall()
        try:
            assert isinstance(response.background, BackgroundTask)
            assert "background" not in vars(type(response).__mro__[1])
            hook = litestar_after.resolve_after_response()
            assert hook is litestar_after.after_response
        finally:
            frameworks.install()
        assert isinstance(response.background, background.Deferred)


LAZY = """
import asyncio, sys
from tests.asgi.asking import ask, call
from atomicbatch.asgi import AtomicBatch

class Nothing:
    def begin(self, batch, *, deadline):
        return self
    async def __aenter__(self):
        pass
    async def __aexit__(self, *why):
        print("END")

async def app(scope, receive, send):
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse
    task = BackgroundTask(print, "BACKGROUND")
    status = int(scope["path"][1:])
    await PlainTextResponse("", status, background=task)(scope, receive, send)

assert "starlette" not in sys.modules
batches = AtomicBatch(app, transaction=Nothing())
for path in sys.argv[1:]:
    asyncio.run(ask(batches, call("GET", path)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("path", "printed"), [("/200", "END\nBACKGROUND\n"), ("/409", "END\n")])
def test_a_framework_that_is_imported_late(path: str, printed: str) -> None:
    """What an app imports in its first call is made fit for batches all the same."""
    ended = subprocess.run([sys.executable, "-c", LAZY, path], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == (printed, "")


# What calls leave running.


class Slow:
    """Handlers that go on until the test lets them, and then want something done after COMMIT."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.ended = threading.Event()
        self.left: list[asyncio.Task[None]] = []
        self.failed = False
        app = FastAPI()
        app.post("/slow")(self.slow)
        app.post("/leave")(self.leave)
        app.post("/once")(self.once)
        app.post("/fail")(self.fail)
        self.app = AtomicBatch(
            app,
            transaction=Noted(),
            limits=Limits(timeout_seconds=0.2),
            replay=Replay(base_seconds=0),
        )

    def slow(self) -> None:
        self.go_on.wait()
        on_commit(note, "mail")
        self.ended.set()

    async def leave(self) -> None:
        self.left.append(asyncio.create_task(self.later()))

    async def later(self) -> None:
        while not self.go_on.is_set():
            await asyncio.sleep(0)
        on_commit(note, "mail")
        response = PlainTextResponse("", background=BackgroundTask(note, "task"))
        assert response.background is not None
        await response.background()

    async def once(self) -> None:
        """Meets a conflict the first time, and lets go what was left behind the second time."""
        if not self.failed:
            self.failed = True
            raise ConflictError("in the way")
        self.go_on.set()
        await asyncio.wait(self.left)

    async def fail(self) -> None:
        raise HTTPException(409)


def test_a_handler_that_goes_on_after_the_time_limit() -> None:
    """What a handler in a thread wants after COMMIT is not done: its batch was rolled back."""
    slow = Slow()
    EVENTS.clear()

    async def main() -> None:
        answer = await ask(slow.app, call("POST", "/slow"))
        assert answer.outcome == "rolled-back; failed=1; status=504"
        slow.go_on.set()
        await asyncio.to_thread(slow.ended.wait)

    asyncio.run(main())
    assert EVENTS == ["BEGIN", "ROLLBACK"]


def test_a_task_that_goes_on_after_a_rollback() -> None:
    """Nor is what a task wants that a call has left behind."""
    slow = Slow()
    EVENTS.clear()

    async def main() -> None:
        answer = await ask(slow.app, call("POST", "/leave"), call("POST", "/fail"))
        assert answer.outcome == "rolled-back; failed=2; status=409"
        slow.go_on.set()
        await asyncio.wait(slow.left)

    asyncio.run(main())
    assert EVENTS == ["BEGIN", "ROLLBACK"]


def test_a_task_that_goes_on_in_the_next_attempt() -> None:
    """What the first attempt has left behind wants nothing of the second."""
    slow = Slow()
    EVENTS.clear()
    answer = asyncio.run(ask(slow.app, call("POST", "/leave"), call("POST", "/once")))
    assert (answer.outcome, answer.headers["batch-attempts"]) == ("committed", "2")
    assert EVENTS == ["BEGIN", "ROLLBACK", "BEGIN", "COMMIT", "mail", "task"]


class Kept(PlainTextResponse):
    """Has its background task run by whoever looks after such tasks, when that has the time."""

    tasks: list[Any] = []  # noqa: RUF012

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.tasks.append(self.background)
        self.background = None
        await super().__call__(scope, receive, send)


@pytest.mark.parametrize("fails", [False, True])
def test_a_task_that_is_run_when_the_batch_has_ended(fails: bool) -> None:
    """A background task that is kept runs when it is run, but not after a rollback."""
    app = fastapi_app()

    @app.post("/kept")
    async def kept() -> Response:
        return Kept("", background=BackgroundTask(note, "task"))

    async def main() -> None:
        Kept.tasks.clear()
        calls = [call("POST", "/kept"), call("POST", "/fail")][: 2 if fails else 1]
        await ask(AtomicBatch(app, transaction=Noted()), *calls)
        for task in Kept.tasks:
            await task()

    EVENTS.clear()
    asyncio.run(main())
    assert (["BEGIN", "ROLLBACK"] if fails else ["BEGIN", "COMMIT", "task"]) == EVENTS


def test_a_task_that_is_put_into_a_list() -> None:
    """A response's task that is put into a list of tasks runs in the list's order."""
    app = fastapi_app()

    @app.post("/list")
    async def in_a_list() -> Response:
        response = PlainTextResponse("", background=BackgroundTask(note, "first"))
        tasks = BackgroundTasks()
        tasks.add_task(response.background)  # type: ignore[arg-type]
        tasks.add_task(note, "second")
        response.background = tasks
        return response

    assert asked(app, "/list").outcome == "committed"
    assert EVENTS == ["BEGIN", "COMMIT", "first", "second"]


def test_an_async_function_of_a_handler_in_a_thread() -> None:
    """In a plain request on_commit takes an async function in a thread too; the loop runs it."""
    app, loops = FastAPI(), []
    ran = asyncio.Event()

    async def act() -> None:
        loops.append((asyncio.get_running_loop(), CURRENT.get()))
        ran.set()

    @app.post("/def")
    def handler() -> None:
        CURRENT.set("the call")
        on_commit(act)

    async def main() -> None:
        request = Asked([b""])
        batches = AtomicBatch(app, transaction=Noted())
        await batches(scope_of("/def", ()), request.receive, request.send)
        assert request.answer.status == 200
        await ran.wait()
        assert loops == [(asyncio.get_running_loop(), "the call")]

    asyncio.run(main())


def test_a_cancel_scope_around_us() -> None:
    """A cancelled scope of anyio does not keep the loop spinning while background tasks run."""
    app = FastAPI()
    cancellations: list[int] = []

    async def main() -> None:
        request = asyncio.current_task()
        assert request is not None

        async def act() -> None:
            scope.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            cancellations.append(request.cancelling())

        @app.post("/act")
        async def handler(tasks: BackgroundTasks) -> None:
            tasks.add_task(act)

        with anyio.CancelScope() as scope:
            await ask(AtomicBatch(app, transaction=Noted()), call("POST", "/act"))
            await anyio.sleep_forever()

    asyncio.run(main())
    assert cancellations == [0]
