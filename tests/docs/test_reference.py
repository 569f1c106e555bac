"""What users can set, ask for or be told stands in the reference."""

from __future__ import annotations

import dataclasses
import inspect
import re

import click
import pytest

from atomicbatch.cli.commands import cli
from atomicbatch.drivers import meanings
from atomicbatch.limits import EndpointLimits, Limits, ServerLimits
from atomicbatch.server.http import hosts, replies
from atomicbatch.server.query.filters import OPERATORS
from atomicbatch.server.rows import failures
from atomicbatch.server.values.kinds import Kind
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.docs.blocks import ROOT

REFERENCE = ROOT / "docs" / "reference"


def defaults_in(text: str) -> dict[str, str]:
    """What stands beside each name: in the second column of a table, or in brackets in a list."""
    table = re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE)
    return dict(table + re.findall(r"^- \*\*`(\w+)`\*\* \((\d+)\): ", text, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_of_the_command_line_is_documented(name: str) -> None:
    """Each command has a section, with each of its options."""
    text = (REFERENCE / "cli.md").read_text()
    section = text.partition(f"## `atomicbatch {name} ")[2].partition("\n## ")[0]
    assert section, name
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
                assert f"`{option}" in section, option


def test_every_limit_is_documented() -> None:
    """Each bound stands with its default."""
    text = (REFERENCE / "cli.md").read_text()
    for limits in (Limits(), ServerLimits()):
        for field in dataclasses.fields(limits):
            assert defaults_in(text)[field.name] == f"{getattr(limits, field.name):.0f}"
    text = (REFERENCE.parent / "how-to" / "mount-in-an-asgi-app.md").read_text()
    for field in dataclasses.fields(EndpointLimits()):
        assert defaults_in(text)[field.name] == f"{getattr(EndpointLimits(), field.name):.0f}"


def test_every_problem_of_the_server_is_documented() -> None:
    """Each slug stands in the list, with the status that it has."""
    text = (REFERENCE / "problems.md").read_text()
    rows = dict(re.findall(r"^- \*\*`([a-z-]+)`\*\* \((\d{3})\): ", text, re.MULTILINE))
    all_ = [value for value in vars(meanings).values() if isinstance(value, meanings.Meaning)]
    assert len(all_) > 10
    rows |= {"database-busy": "503", "timeout": "504"}  # of whole batches, told above the table
    for meaning in all_:
        assert rows.get(meaning.slug) == str(meaning.status), meaning.slug
    elsewhere = {"internal-error", "limit-exceeded", "unsupported-media-type"}
    assert set(failures.TITLES) - elsewhere <= set(rows)
    assert set(hosts.TITLES) <= set(rows)
    for reply in (replies.STOPPING,):
        assert reply.body.decode().partition("problem:")[2].partition('"')[0] in rows


def test_every_operator_is_documented() -> None:
    """Each filter operator stands in a table of filters."""
    text = (REFERENCE / "filters.md").read_text()
    for operator in OPERATORS:
        assert re.search(rf"^\|.*`{operator}`", text, re.MULTILINE), operator


def test_every_kind_of_column_is_documented() -> None:
    """Each kind of value stands in the list of values."""
    text = (REFERENCE / "values.md").read_text().lower()
    words = {Kind.DATETIME: "datetime", Kind.ANY: "without a type", Kind.OTHER: "other types"}
    for kind in Kind:
        assert words.get(kind, kind.value) in text, kind


def test_every_argument_of_the_join_is_documented() -> None:
    """Each argument of SQLAlchemyTransaction stands in its list."""
    text = (REFERENCE / "sqlalchemy.md").read_text()
    listed = re.findall(r"^- \*\*`\*?(\w+)`\*\*", text, re.MULTILINE)
    arguments = inspect.signature(SQLAlchemyTransaction).parameters
    assert listed == list(arguments)
