"""
The page of the docs that says what Django's users write, and what a batch makes of it.

``python -m tests.django.patterns.table``: writes it. What it says is what the tests demand.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.django.patterns.expected import DEVIATIONS, Deviation, expected
from tests.django.patterns.settings import DRIVERS, variants_of

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "django-patterns.md"
_NAMES = {
    "sqlite3": "SQLite",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
    "pymysql": "PyMySQL",
    "mysqlclient": "mysqlclient",
}
_HEAD = """\
# Django, pattern by pattern

What Django's users write, alone and in a batch. Each line is a view. It was called alone, in a
batch that commits, and in a batch that fails after it. *Same* means that

- its reply, its rows and its `on_commit` functions were the same in the batch as alone;
- the batch that failed left nothing: no row, no function that ran, no connection in a transaction.

Rows were read by a connection that has nothing to do with Django.

Each line holds under WSGI, under ASGI, and under ASGI with a middleware that is sync only; with
`ATOMIC_REQUESTS` on and off; with `CONN_MAX_AGE` 0 and 60, and with psycopg's pool; with `DEBUG` on
and off; with an isolation level, a role, binding on the server and `init_command`. A number says
what is different, see [the list](#what-is-different); in brackets: in some of these configurations
only. What is *refused* stores nothing: the batch is rolled back, and its answer says why.

This page is written by `python -m tests.django.patterns.table`, from what the tests demand.
"""
_HEADING = re.compile(r"^# (\w.*?) -{3,}\n(.*?)(?=^# \w.*? -{3,}$|\Z)", re.MULTILINE | re.DOTALL)
_PATTERN = re.compile(r'^@pattern\("(.*)"\)\n(?:@.*\n)*(?:async )?def (\w+)', re.MULTILINE)


def sections() -> dict[str, dict[str, str]]:
    """Read what the patterns do, by the headings between them."""
    text = Path(__file__).with_name("views.py").read_text("utf-8")
    found: dict[str, dict[str, str]] = {}
    for heading, body in _HEADING.findall(text):
        patterns = _PATTERN.findall(body)
        if patterns:
            found[heading] = {name: does.replace('\\"', '"') for does, name in patterns}
    return found


def page() -> str:
    """Write the page."""
    lines = [_HEAD]
    for heading, patterns in sections().items():
        names = " | ".join(_NAMES[driver] for driver in DRIVERS)
        lines += [f"## {heading}\n", f"| what the view does | {names} |", "| --- " * 6 + "|"]
        lines += [
            f"| {does} | {' | '.join(_cell(name, driver) for driver in DRIVERS)} |"
            for name, does in patterns.items()
        ]
        lines.append("")
    lines += ["## What is different\n"]
    for number, one in enumerate(DEVIATIONS, 1):
        what = "Refused." if one.said else "Different."
        lines += _folded(f"{number}. *{what}* {one.why}")
    return "\n".join(lines) + "\n"


def _cell(name: str, driver: str) -> str:
    found: list[Deviation] = []
    everywhere = True
    for variant in variants_of(driver):
        one = expected(variant).get(name)
        everywhere = everywhere and one is not None
        if one is not None and one not in found:
            found.append(one)
    if not found:
        return "same"
    numbers = ", ".join(str(DEVIATIONS.index(one) + 1) for one in found)
    return numbers if everywhere else f"same ({numbers})"


def _folded(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        if len(line) + len(word) > 117:
            lines.append(line)
            line = "   "
        line += f"{' ' if line.strip() else ''}{word}"
    return [*lines, line]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
