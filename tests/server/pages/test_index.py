"""The page at / shows what is served, escaped, and how to send a batch."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from atomicbatch.client.http_file import read_http_file
from atomicbatch.limits import Limits
from atomicbatch.server.pages.index import _STYLE, index_page, json_index
from atomicbatch.server.schema.tables import Schema
from atomicbatch.wire.batch import read_batch
from tests.server.schemas import schema_called

ADDRESS = "http://127.0.0.1:1234"


@pytest.fixture
def sample(tmp_path: Path) -> Schema:
    """The sample shop."""
    return schema_called("sample", tmp_path)


@pytest.fixture
def hostile(tmp_path: Path) -> Schema:
    """Names that break out of whatever is not escaped."""
    return schema_called("hostile", tmp_path)


def page_of(schema: Schema, *, read_only: bool = False) -> str:
    return index_page(
        schema,
        base_path="/v1/api",
        batch_path="/v1/api/batch",
        address=ADDRESS,
        limits=Limits(),
        read_only=read_only,
        version="1",
    ).decode()


def blocks_of(page: str) -> list[str]:
    """The texts to copy: the command, and the ``.http`` file."""
    found = re.findall(r"<pre [^>]*><code>(.*?)</code></pre>", page, re.DOTALL)
    return [html.unescape(block) for block in found]


class Structure(HTMLParser):
    """What elements there are, and whether each is closed where it was opened."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self._open.append(tag)
        for name, value in attrs:
            assert name not in ("src", "srcset", "style")
            assert not name.startswith("on")
            if name == "href":
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.mark.parametrize("name", ["sample", "hostile", "empty"])
def test_it_is_one_document_of_its_own(name: str, tmp_path: Path) -> None:
    """Well-formed, with landmarks and one heading; nothing is loaded, no script runs."""
    structure = Structure(page_of(schema_called(name, tmp_path)))
    for tag in ("h1", "main", "header", "footer", "nav", "title"):
        assert structure.tags.count(tag) == 1, tag
    assert {"script", "img", "link", "iframe"}.isdisjoint(structure.tags)
    assert all(link.startswith("/") for link in structure.links)
    assert {"/openapi.json", "/healthz", "/v1/api"} <= set(structure.links)
    assert "url(" not in _STYLE
    assert "@import" not in _STYLE


def test_it_escapes_every_name(hostile: Schema) -> None:
    """No name of a table or column becomes markup."""
    page = page_of(hostile)
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert 'href="/v1/api/a%20b%2Fc%7Bd%7D%25%3F%23%26%3Cscript%3E?limit=20"' in page


def test_it_shows_what_is_served(sample: Schema) -> None:
    """Every table and column with its type, keys in words, and no path of the machine."""
    page = page_of(sample)
    for table in sample.tables.values():
        assert f">{table.name}</a>" in page
        for column in table.columns:
            assert f">{column.name}</code>" in page
    keys = sum(len(table.key) for table in sample.tables.values())
    assert page.count("key</span>") == page.count("<code class=key>") == keys
    assert "sample.sqlite" in page
    assert "/tmp" not in page
    assert "At most 1000 calls and 10 MiB, within\n30 seconds" in page
    assert "read-only: it takes" not in page
    assert "read-only: it takes" in page_of(sample, read_only=True)


@pytest.mark.parametrize("name", ["sample", "hostile", "empty"])
@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_to_be_copied_works(name: str, tmp_path: Path, *, read_only: bool) -> None:
    """The command sends a batch that can be read; the .http file holds the same calls."""
    command, http_file = blocks_of(page_of(schema_called(name, tmp_path), read_only=read_only))
    head, _, rest = command.partition(" <<'END'\n")
    assert head.startswith(f"curl -i {ADDRESS}/v1/api/batch \\\n")
    (content_type,) = re.findall(r"-H 'Content-Type: ([^']+)'", head)
    body, end, after = rest.rpartition("END")
    assert (end, after) == ("END", "")
    assert "\nEND\n" not in body
    batch = read_batch(body.encode(), content_type=content_type.encode())
    (tmp_path / "first.http").write_text(http_file)
    read = read_http_file(tmp_path / "first.http")
    assert read.origin == ADDRESS
    assert [(c.method, c.path, c.query, json_of(c.body)) for c in read.calls] == [
        (c.method, c.path, c.query, json_of(c.body)) for c in batch.calls
    ]
    assert batch.calls[0].method == ("GET" if read_only or name == "empty" else "POST")


def json_of(body: bytes) -> object:
    return json.loads(body) if body else None


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(c * 2 for c in digits)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_its_colours_can_be_read() -> None:
    """Text stands out by 4.5 to 1 at least, light and dark (WCAG 2.2, 1.4.3)."""
    schemes = re.findall(r":root \{(.*?)\}", _STYLE, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        for text in ("ink", "soft", "link"):
            for ground in ("paper", "shade"):
                pair = sorted((_luminance(colours[text]), _luminance(colours[ground])))
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (text, ground)


def test_an_empty_database_has_a_page(tmp_path: Path) -> None:
    """Without tables the page says so."""
    schema = schema_called("empty", tmp_path)
    assert "no tables yet" in page_of(schema)
    assert json_index(schema, base_path="/v1/api") == b"[]"


def test_the_list_of_resources(hostile: Schema) -> None:
    """Each resource with its address and key."""
    listed = json.loads(json_index(hostile, base_path="/v1/api"))
    assert [entry["name"] for entry in listed] == sorted(hostile.tables)
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["v"]["read_only"] is True
    assert by_name["表"] == {
        "name": "表", "href": "/v1/api/%E8%A1%A8", "key": ["列"], "read_only": False,
    }  # fmt: skip
