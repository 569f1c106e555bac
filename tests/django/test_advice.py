"""Advice: what a project is told to do, it can do by its settings; see also test_patterns.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from atomicbatch.advice import ARGUMENTS, Advice
from atomicbatch.django.advice import SETTINGS
from atomicbatch.sql import refusals
from tests.django.patterns.expected import NOT_DJANGOS

REFUSALS = {name: text for name, text in vars(refusals).items() if name.isupper()}


@pytest.mark.parametrize("name", [name for name in Advice._fields if name != "instead"])
def test_each_part_is_said_differently(name: str) -> None:
    """By what a project has: no argument, and nothing of SQLAlchemy's."""
    assert getattr(SETTINGS, name) != getattr(ARGUMENTS, name)
    assert NOT_DJANGOS.search(getattr(ARGUMENTS, name)) or name == "set_foreign_keys"
    assert not NOT_DJANGOS.search(getattr(SETTINGS, name))


@pytest.mark.parametrize("name", REFUSALS)
def test_no_refusal_names_what_a_project_has_not(name: str) -> None:
    """Who reads of engines in it, reads something else."""
    text = SETTINGS.refusal(REFUSALS[name])
    assert not NOT_DJANGOS.search(text)
    assert (text != REFUSALS[name]) == bool(NOT_DJANGOS.search(REFUSALS[name]))


def test_places_are_where_words_go_in() -> None:
    def places(text: str) -> Iterator[str]:
        return (name for name in ("{name}", "{level}") if name in text)

    for name in Advice._fields[:-1]:
        assert set(places(getattr(SETTINGS, name))) <= set(places(getattr(ARGUMENTS, name)))
