"""
Patches: every change that atomicbatch makes to other people's code goes through this module.

Others change the same places: OpenTelemetry, Sentry and ddtrace all wrap ``Thread.start``. So a
change wraps what it finds when it is made, not what was there when we were imported. If somebody
has wrapped it in the meantime, undoing it leaves it in place, where it passes everything on.

:func:`changes` lists what is changed, and why.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from inspect import getattr_static, iscoroutinefunction
from types import ModuleType
from typing import Any, Final

_NOTHING: Final = object()
_lock = threading.RLock()


class Change:
    """
    A change to one attribute of somebody else's class or module.

    Args:
        owner: The class or module.
        name: The attribute.
        make: Takes what ``getattr`` finds there, or None, and returns what takes its place. A
            function must call what was found.
        why: The reason, for people.
        as_it_is: What takes its place is not wrapped, which saves half a microsecond each time. It
            knows itself when it has nothing to do, also when it was undone after somebody has
            wrapped it.

    Attributes:
        installed: It is in force.
    """

    def __init__(
        self,
        owner: Any,
        name: str,
        make: Callable[[Any], Any],
        why: str,
        *,
        as_it_is: bool = False,
    ) -> None:
        self.owner = owner
        self.name = name
        self.why = why
        self.installed = False
        self._make = make
        self._as_it_is = as_it_is
        # What stands in the owner's namespace; _NOTHING if it is inherited, or not there at all.
        self._found: Any = _NOTHING
        self._ours: Any = _NOTHING

    def __repr__(self) -> str:
        return f"<Change of {_name_of(self.owner)}.{self.name}: {self.why}>"

    def install(self) -> None:
        """Make the change; twice changes nothing, unless somebody has put back what was there."""
        with _lock:
            now = vars(self.owner).get(self.name, _NOTHING)
            if self._ours is not _NOTHING and now is not self._found:
                # Ours is still there, or somebody has wrapped it.
                self.installed = True
                return
            self._found = now
            self._ours = self._replacement()
            self.installed = True
            setattr(self.owner, self.name, self._ours)

    def undo(self) -> None:
        """Put back what was there; if somebody has wrapped ours, only pass everything on."""
        with _lock:
            self.installed = False
            if self._ours is _NOTHING or vars(self.owner).get(self.name) is not self._ours:
                return
            if self._found is _NOTHING:
                delattr(self.owner, self.name)
            else:
                setattr(self.owner, self.name, self._found)
            self._ours = self._found = _NOTHING

    @property
    def placed(self) -> Any:
        """What it has put there."""
        return self._ours

    def _replacement(self) -> Any:
        # By getattr, since wrapt's wrappers can only be called as an attribute gives them.
        found = getattr(self.owner, self.name, None)
        changed = self._make(found)
        if not callable(found) or not callable(changed):
            return changed

        door: Any
        if self._as_it_is:
            door = wraps(found)(changed)
        elif iscoroutinefunction(found):
            # A coroutine function again, since some callers ask for that.
            @wraps(found)
            async def door(*args: Any, **kwargs: Any) -> Any:
                return await (changed if self.installed else found)(*args, **kwargs)
        else:

            @wraps(found)
            def door(*args: Any, **kwargs: Any) -> Any:
                return (changed if self.installed else found)(*args, **kwargs)

        static = getattr_static(self.owner, self.name)
        # A class method was bound by getattr, so that nothing may be bound to it again.
        return staticmethod(door) if isinstance(static, classmethod | staticmethod) else door


_changes: dict[tuple[int, str, str], Change] = {}


def change(
    owner: Any, name: str, make: Callable[[Any], Any], *, why: str, as_it_is: bool = False
) -> Change:
    """
    Change an attribute of somebody else's class or module; twice changes nothing.

    Args:
        owner: The class or module.
        name: The attribute.
        make: Takes what is found there, and returns what takes its place; see :class:`Change`.
        why: The reason, for people. It also tells several changes of one attribute apart.
        as_it_is: See :class:`Change`.
    """
    with _lock:
        key = (id(owner), name, why)
        made = _changes.get(key)
        if made is None:
            made = _changes[key] = Change(owner, name, make, why, as_it_is=as_it_is)
        made.install()
    return made


def change_everywhere(functions: Iterable[Any], make: Callable[[Any], Any], *, why: str) -> None:
    """
    Change functions under every name that modules have for them.

    Other modules may have imported one by ``from ... import``, and call it without its module. Who
    imports it later gets what stands in its place, which is not changed once more.
    """
    ours = {id(one.placed) for one in tuple(_changes.values()) if one.installed}
    wanted = {id(one): one for one in functions if id(one) not in ours}
    if not wanted:
        return  # to look through all modules takes 30 ms, and apps are built often in tests
    made: dict[int, Any] = {}

    def make_once(found: Any) -> Any:
        if id(found) not in made:
            made[id(found)] = make(found)
        return made[id(found)]

    for module in tuple(sys.modules.values()):
        if isinstance(module, ModuleType):
            for name, value in tuple(vars(module).items()):
                if id(value) in wanted:
                    change(module, name, make_once, why=why)


@contextmanager
def changed(*places: tuple[Any, str], make: Callable[[Any], Any], why: str) -> Iterator[None]:
    """
    Change attributes for the length of a block.

    Args:
        places: Owners, each with an attribute's name; an owner without it is left alone.
        make: Takes what is found there, and returns what takes its place; see :class:`Change`.
        why: The reason, for people.
    """
    made = [Change(owner, name, make, why) for owner, name in places if hasattr(owner, name)]
    for one in made:
        one.install()
    try:
        yield
    finally:
        for one in reversed(made):
            one.undo()


def changes() -> tuple[Change, ...]:
    """Return the changes that are in force, in the order they were made."""
    return tuple(made for made in _changes.values() if made.installed)


def undo(why: str) -> None:
    """Undo the changes that were made for one reason, the last one first."""
    with _lock:
        for made in reversed(_changes.values()):
            if made.why == why:
                made.undo()


def _name_of(owner: Any) -> str:
    name = owner.__name__ if isinstance(owner, ModuleType) else owner.__qualname__
    return str(name)


# Modules that are imported later ----------------------------------------------------------------


def when_imported(module: str, act: Callable[[ModuleType], object]) -> None:
    """
    Call a function with a module as soon as it has been imported: now, or later.

    An app may import a library when it first needs it, for instance in a call of a batch.
    """
    with _lock:
        acts = _waiting.setdefault(module, [])
        if act not in acts:
            acts.append(act)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
    catch_up()


def catch_up() -> None:
    """
    Look for modules that somebody waits for, and that were imported unnoticed.

    One may have been half imported when we began to wait. This costs a microsecond.
    """
    for name in tuple(_waiting):
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _run(name)


def _run(name: str) -> None:
    """Call what waits for a module."""
    with _lock:
        acts = _waiting.pop(name, [])
    for act in acts:
        act(sys.modules[name])


class _Finder:
    """Finds no module itself; notices when a module is found that somebody waits for."""

    def __init__(self) -> None:
        self._finding = threading.local()

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name not in _waiting or getattr(self._finding, "name", None) == name:
            return None
        self._finding.name = name
        try:
            spec = find_spec(name)
        finally:
            self._finding.name = None
        if spec is not None and spec.loader is not None:
            _follow(spec.loader, name)
        return spec


def _follow(loader: Any, name: str) -> None:
    """Call what waits for a module when its loader has executed it."""
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return

    def exec_module(module: ModuleType) -> None:
        execute(module)
        # The loader of an archive loads many modules.
        if module.__name__ == name:
            _run(name)

    with suppress(AttributeError):  # a loader that cannot be changed; catch_up() finds its module
        loader.exec_module = exec_module


_waiting: dict[str, list[Callable[[ModuleType], object]]] = {}
_finder = _Finder()
