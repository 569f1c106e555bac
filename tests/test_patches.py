"""Changes of other people's code: they wrap what is there, can be undone, live beside others'."""

from __future__ import annotations

import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from atomicbatch import patches


class Shop:
    """Somebody else's class."""

    def price(self) -> str:
        return "price"

    @classmethod
    def name(cls) -> str:
        return cls.__name__


def louder(found: Any) -> Any:
    def changed(self: Any) -> str:
        return f"ours({found(self)})"

    return changed


@pytest.fixture
def shop() -> Iterator[type[Shop]]:
    """A class that nobody has changed yet."""
    yield type("Shop", (Shop,), {"price": lambda _: "price", "name": vars(Shop)["name"]})
    patches.undo("test")


def test_it_wraps_what_it_finds(shop: Any) -> None:
    """What somebody has put there before stays in force, and doing it twice changes nothing."""
    original = shop.price
    shop.price = lambda self: f"theirs({original(self)})"
    patches.change(shop, "price", louder, why="test")
    patches.change(shop, "price", louder, why="test")
    assert shop().price() == "ours(theirs(price))"
    patches.undo("test")
    assert shop().price() == "theirs(price)"


def test_undone_below_somebody_elses(shop: Any) -> None:
    """What somebody has wrapped since stays where it is, and passes everything on."""
    patches.change(shop, "price", louder, why="test")
    ours = shop.price
    shop.price = wraps(ours)(lambda self: f"theirs({ours(self)})")
    patches.undo("test")
    assert shop().price() == "theirs(price)"
    patches.change(shop, "price", louder, why="test")
    assert shop().price() == "theirs(ours(price))"


def test_as_it_is(shop: Any) -> None:
    """What takes a place as it is stands there by itself, with its name; it can be undone."""
    made: list[Any] = []

    def make(found: Any) -> Any:
        made.append(louder(found))
        return made[0]

    patches.change(shop, "price", make, why="test", as_it_is=True)
    assert vars(shop)["price"] is made[0]
    assert shop().price() == "ours(price)"
    patches.undo("test")
    assert shop().price() == "price"


def test_put_back_by_somebody_else(shop: Any) -> None:
    """Somebody who had kept what was there has put it back: we are put there again."""
    original = shop.price
    patches.change(shop, "price", louder, why="test")
    shop.price = original
    patches.change(shop, "price", louder, why="test")
    assert shop().price() == "ours(price)"


def test_class_methods(shop: Any) -> None:
    """A class method is wrapped as it is called, and put back as it was."""
    before = vars(shop)["name"]
    patches.change(shop, "name", lambda found: lambda: f"ours({found()})", why="test")
    assert shop.name() == shop().name() == "ours(Shop)"
    patches.undo("test")
    assert vars(shop)["name"] is before


def test_what_was_not_there(shop: Any) -> None:
    """Where there was nothing, nothing is left."""
    patches.change(shop, "color", lambda found: (found, "red"), why="test")
    assert shop.color == (None, "red")
    assert [(one.owner, one.name) for one in patches.changes() if one.why == "test"] == [
        (shop, "color")
    ]
    patches.undo("test")
    assert not hasattr(shop, "color")


def test_for_the_length_of_a_block(shop: Any) -> None:
    """Changes for a block end with it, also when it raises; what is not there is left alone."""
    places = [(shop, "price"), (shop, "color"), (None, "price")]
    inside: list[str] = []

    def fail() -> None:
        with patches.changed(*places, make=louder, why="test"):
            inside.append(shop().price())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == ["ours(price)"]
    assert shop().price() == "price"
    assert not hasattr(shop, "color")


def test_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who have imported a function have ours; who imports it later has the same, once."""
    own, earlier, later = (types.ModuleType(f"ab_{name}") for name in ("own", "earlier", "later"))
    for module in (own, earlier, later):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    own.price = earlier.cost = lambda _: "price"  # type: ignore[attr-defined]

    def prices() -> list[str]:
        return [one(None) for one in (own.price, earlier.cost, later.price)]

    patches.change_everywhere([own.price], louder, why="test")
    later.price = ours = own.price  # type: ignore[attr-defined]
    for _ in range(2):
        patches.change_everywhere([own.price], louder, why="test")
        assert prices() == ["ours(price)"] * 3
        assert later.price is ours
    patches.undo("test")
    assert prices() == ["price"] * 3
    patches.change_everywhere([own.price], louder, why="test")
    assert prices() == ["ours(price)"] * 3
    patches.undo("test")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that can be imported and has not been yet."""
    (tmp_path / "ab_library").mkdir()
    (tmp_path / "ab_library" / "__init__.py").write_text("from ab_library.inner import value\n")
    (tmp_path / "ab_library" / "inner.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "ab_library"
    for name in ("ab_library", "ab_library.inner"):
        sys.modules.pop(name, None)


def test_imported_later(library: str) -> None:
    """What waits for a module is done as soon as its import is complete, once."""
    seen: list[tuple[str, object]] = []

    def act(module: types.ModuleType) -> None:
        seen.append((module.__name__, module.value))

    for name in (f"{library}.inner", library, library):
        patches.when_imported(name, act)
    patches.catch_up()
    assert seen == []
    __import__(library)
    assert seen == [(f"{library}.inner", 1), (library, 1)]
    patches.when_imported(library, act)
    assert len(seen) == 3, "it is here already"


def test_imported_while_we_began_to_wait(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is half imported when somebody begins to wait is found later."""
    seen: list[str] = []
    helper: Any = types.ModuleType("ab_helper")
    helper.wait = lambda: patches.when_imported(
        f"{library}.inner", lambda module: seen.append(module.__name__)
    )
    monkeypatch.setitem(sys.modules, "ab_helper", helper)
    (tmp_path / library / "inner.py").write_text("import ab_helper\nab_helper.wait()\nvalue = 1\n")
    __import__(library)
    assert seen == []
    patches.catch_up()
    assert seen == [f"{library}.inner"]


# Real ones ---------------------------------------------------------------------------------------

BESIDE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from multiprocessing.pool import ThreadPool

order, who = sys.argv[1:]
batch = ContextVar("batch", default=None)


def others():
    global tell, mark
    if who == "opentelemetry":
        from opentelemetry import trace
        from opentelemetry.instrumentation.threading import ThreadingInstrumentor
        from opentelemetry.sdk.trace import TracerProvider

        trace.set_tracer_provider(TracerProvider())
        ThreadingInstrumentor().instrument()
        tell = lambda: trace.get_current_span().get_span_context().span_id
        mark = lambda: trace.get_tracer("test").start_as_current_span("request")
    else:
        import sentry_sdk
        from sentry_sdk.integrations.threading import ThreadingIntegration

        sentry_sdk.init(
            "http://a@127.0.0.1:9/1", transport=lambda event: None, default_integrations=False,
            integrations=[ThreadingIntegration()], auto_enabling_integrations=False,
        )
        tell = lambda: sentry_sdk.get_isolation_scope()._tags.get("request")

        def mark():
            scope = sentry_sdk.isolation_scope()
            entered = scope.__enter__()
            entered.set_tag("request", "mine")
            scope.__enter__ = lambda: entered
            return Marked(scope)


class Marked:
    def __init__(self, scope):
        self.scope = scope

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.scope.__exit__(*error)


def ours():
    from atomicbatch.asgi import AtomicBatch
    from atomicbatch.engine import contexts

    AtomicBatch(lambda *_: None, transaction=None)
    contexts.install()


for install in (others, ours) if order == "first" else (ours, others):
    install()

from atomicbatch.engine.current import inside_batch, running_batch


def look():
    elsewhere = threading.current_thread().name != "MainThread"
    seen.append((elsewhere, inside_batch(), batch.get(), tell()))
    if who == "sentry":
        import sentry_sdk

        sentry_sdk.get_isolation_scope().set_tag("request", "a thread's own")


class Work(threading.Thread):
    def run(self):
        look()


def everywhere():
    seen.clear()
    # OpenTelemetry does not follow into a run() of one's own.
    third = Work() if who == "sentry" else threading.Thread(target=look)
    for thread in (threading.Thread(target=look), threading.Timer(0, look), third):
        thread.start()
        thread.join()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(look).result()
        pool.submit(look).result()
    if inside_batch():
        with ThreadPool(1) as pool:  # of which they know nothing
            pool.apply(look)
        assert seen.pop()[:3] == (True, True, "one")
    return set(seen), len(seen)


seen = []
with mark():
    mine = tell()
    assert mine
    assert everywhere() == ({(True, False, None, mine)}, 5), (mine, seen)
    batch.set("one")
    with running_batch():
        assert everywhere() == ({(True, True, "one", mine)}, 5), (mine, seen)
    # Whatever they have set in the threads stays there.
    assert tell() == mine
print("both")
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("who", ["opentelemetry", "sentry"])
def test_beside(who: str, order: str) -> None:
    """Others who follow into threads go on to do so, installed before us or after us."""
    done = subprocess.run(
        [sys.executable, "-c", BESIDE, order, who],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "both\n", done.stderr


def test_each_change_says_why() -> None:
    """What is changed of others can be listed, with its reason."""
    from atomicbatch.engine import contexts

    contexts.install()
    listed = {(one.owner, one.name): one.why for one in patches.changes()}
    assert listed[threading.Thread, "start"] == "batches follow their calls into threads"
    assert all(" " in why for why in listed.values())
