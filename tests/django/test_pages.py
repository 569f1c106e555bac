"""The pages about Django: their settings work as they stand, and nothing is left out."""

from __future__ import annotations

import dataclasses
import inspect
import re
import unittest
from typing import Any

import pytest
from django.test import override_settings
from django.utils.module_loading import import_string

from atomicbatch import EndpointLimits, Limits
from atomicbatch.django import BatchMiddleware, checks, options
from atomicbatch.engine import Replay
from tests.docs.blocks import ROOT, blocks_of

HOW_TO = ROOT / "docs" / "how-to" / "django.md"
REFERENCE = (ROOT / "docs" / "reference" / "django.md").read_text("utf-8")


def shown(start: str) -> dict[str, Any]:
    """What the page's block that starts so defines."""
    blocks = [one.text for one in blocks_of(HOW_TO.read_text("utf-8")) if one.kind == "python"]
    (block,) = (text for text in blocks if text.startswith(start))
    names: dict[str, Any] = {}
    exec(block, names)
    return names


def test_the_middleware_of_the_page_is_ours() -> None:
    """It can be imported by the name that the page has."""
    settings = shown("INSTALLED_APPS")
    assert import_string(settings["MIDDLEWARE"][0]) is BatchMiddleware
    assert settings["INSTALLED_APPS"] == ["atomicbatch.django"]


def test_the_setting_of_the_page_is_taken() -> None:
    """Nothing is wrong with it."""
    with override_settings(ATOMICBATCH=shown("ATOMICBATCH")["ATOMICBATCH"]):
        assert options.problems_of() == []


@pytest.mark.usefixtures("database")
def test_the_test_of_the_page_passes() -> None:
    """It is a test as projects write them."""
    case = shown("from django.test import TestCase")["BatchTest"]
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


def test_every_key_is_documented() -> None:
    """Each key of the setting stands in the list; each bound with its default."""
    section = REFERENCE.partition("## The setting")[2].partition("\n## ")[0]
    assert set(re.findall(r"^- \*\*`(\w+)`\*\*", section, re.MULTILINE)) == set(options.KEYS)
    listed = dict(re.findall(r"`(\w+)`\s+\(([\d.]+)\)", section))
    for kind in (Limits, EndpointLimits, Replay):
        for field in dataclasses.fields(kind):
            assert float(listed[field.name.upper()]) == field.default, field.name


def test_every_check_is_documented() -> None:
    """Each id stands in the list."""
    ids = set(re.findall(r"atomicbatch\.[EW]\d+", inspect.getsource(checks)))
    section = REFERENCE.partition("## Checks")[2]
    assert ids == set(re.findall(r"^- \*\*`(.+?)`\*\*", section, re.MULTILINE))
