"""What the documents say is what happens."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.databases import free_port
from tests.docs.blocks import ROOT, Reader, blocks_of, lay_out

pytestmark = pytest.mark.slow

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs" / "tutorial").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_of_a_document_do_what_it_says(document: Path, tmp_path: Path) -> None:
    """Every command runs, and prints what stands below it."""
    port = free_port()
    lay_out(tmp_path, port)
    with contextlib.closing(Reader(tmp_path, port)) as reader:
        assert reader.read(document.read_text()) >= 3


def test_the_stand_in_for_curl_will_do(tmp_path: Path) -> None:
    """On a machine without curl the README is tested all the same."""
    port = free_port()
    lay_out(tmp_path, port)
    with contextlib.closing(Reader(tmp_path, port, own_curl=True)) as reader:
        assert reader.read((ROOT / "README.md").read_text()) >= 3


@pytest.mark.parametrize(
    ("markdown", "told"),
    [
        ("```sh\necho one\n```\n\n```text\ntwo\n```\n", "line 5"),
        ("text\n\n```sh\nfalse\n```\n", "line 3"),
        ("<!-- fails -->\n```sh\ntrue\n```\n", "line 1"),
        ("<!-- server -->\n```sh\necho no address\n```\n", "ended with status 0"),
    ],
)
def test_a_document_that_is_wrong_is_found_out(markdown: str, told: str, tmp_path: Path) -> None:
    """Other output, and other ends than told, fail."""
    with (
        contextlib.closing(Reader(tmp_path, 0)) as reader,
        pytest.raises(AssertionError, match=told),
    ):
        reader.read(markdown)


def test_blocks_are_found() -> None:
    """Kind, mark, text and line of each block."""
    (one, two) = blocks_of("x\n<!-- fails -->\n```sh\na\nb\n```\n```text\n```\n")
    assert (one.kind, one.mark, one.text, one.line) == ("sh", "fails", "a\nb\n", 2)
    assert (two.kind, two.text) == ("text", "")
