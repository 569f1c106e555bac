"""What an app commits in a test is undone at its end, whatever the app and its client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.shops import cases
from tests.testing.suites import Project

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tests-that-never-clean-up.md"


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    return Project(pytester)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.prove)])
def test_apps_and_clients(project: Project, every: bool) -> None:
    """By each framework's clients, threads from before, and sessions that are never closed."""
    project.check(
        case
        for case in cases()
        if case.driver in ("sqlite3", "aiosqlite") and (every or not case.is_proved)
    )


def test_the_page(project: Project) -> None:
    """The app and the tests on the page are what they are said to be."""
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)\n```", PAGE.read_text("utf-8"), re.DOTALL)
    files = dict(blocks)
    project.write(shop=files["shop"], test_shop=files["test_shop"])
    project.run().assert_outcomes(passed=2)
    assert project.stored() == []
    project.run(rolled_back=False).assert_outcomes(passed=1, failed=1)
    assert project.stored() == ["tea", "coffee", "cocoa"]
