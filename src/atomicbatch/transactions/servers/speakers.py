"""Speakers: whose session's settings a wire to MySQL has now; each statement finds its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from atomicbatch.transactions.servers.introduction import Introduction, setting

_settings: WeakKeyDictionary[Any, Mapping[str, str]] = WeakKeyDictionary()


def note_settings(wire: Any, settings: Mapping[str, str]) -> None:
    """A wire has the settings of a session of the app's."""
    _settings[wire] = settings


def switch(wire: Any, speaker: Introduction) -> str:
    """
    Write what gives a wire the settings of another session, in one statement; empty: it has them.

    Libraries open the connections of one pool differently: Tortoise sets the time zone of the first
    only.
    """
    now = _settings.get(wire)
    if now is speaker.settings:
        return ""
    _settings[wire] = speaker.settings
    if now is None:
        return ""
    changes = [
        setting(name, value) for name, value in speaker.settings.items() if now.get(name) != value
    ]
    return f"SET {', '.join(changes)}" if changes else ""
