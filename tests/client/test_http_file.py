"""``.http`` files as VS Code and JetBrains write them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomicbatch.client.check import check_http_file
from atomicbatch.client.http_file import HttpFile, HttpFileError, read_http_file
from atomicbatch.wire.batch import read_batch, write_batch


def read(folder: Path, text: str, **variables: str) -> HttpFile:
    path = folder / "calls.http"
    path.write_text(text, encoding="utf-8")
    return read_http_file(path, variables)


FULL = """\
# a comment
@host = http://localhost:8000
@base={{host}}/v1/api
// another

### Create it
# @name create
POST {{base}}/items HTTP/1.1
Content-Type: application/json
# a comment between headers
X-Two:  words here

{
  "name": "{{who}}"
}


###
GET {{base}}/items
    ?name=eq.{{who}}
    &limit=1

### Gone
DELETE /v1/api/items/1
###
"""


def test_a_whole_file(tmp_path: Path) -> None:
    """Separators, names, comments, variables, continued queries, bodies."""
    file = read(tmp_path, FULL, who="Ada")
    assert file.origin == "http://localhost:8000"
    assert file.names == ("create", "", "Gone")
    create, get, delete = file.calls
    assert (create.method, create.path) == ("POST", b"/v1/api/items")
    assert create.headers == ((b"content-type", b"application/json"), (b"x-two", b"words here"))
    assert create.body == b'{\n  "name": "Ada"\n}'
    assert (get.method, get.path, get.query) == ("GET", b"/v1/api/items", b"name=eq.Ada&limit=1")
    assert (delete.method, delete.path, delete.body) == ("DELETE", b"/v1/api/items/1", b"")


def test_line_ends_of_windows(tmp_path: Path) -> None:
    """CRLF and a byte order mark make no difference."""
    path = tmp_path / "calls.http"
    path.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert read_http_file(path, {"who": "Ada"}) == read(tmp_path, FULL, who="Ada")


def test_what_is_given_beats_the_file(tmp_path: Path) -> None:
    """--var overrides the file's own value, also within other variables."""
    file = read(tmp_path, FULL, who="x", host="http://example.org")
    assert file.origin == "http://example.org"


def test_a_url_alone_is_a_get_and_is_encoded(tmp_path: Path) -> None:
    """Text of any script, and what is encoded already, arrive as they are meant."""
    (call,) = read(tmp_path, "/v1/api/x?name=eq.Zürich&b=a%20b").calls
    assert (call.method, call.path) == ("GET", b"/v1/api/x")
    assert call.query == b"name=eq.Z%C3%BCrich&b=a%20b"


def test_dynamic_variables(tmp_path: Path) -> None:
    """Made-up values have the form that the editors give them."""
    text = "/{{$guid}}/{{$timestamp}}/{{$isoTimestamp}}/{{$randomInt 5 6}}/{{$uuid}}"
    (call,) = read(tmp_path, text).calls
    _, guid, stamp, iso, number, _ = call.path.decode().split("/")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", guid)
    assert stamp.isdigit()
    assert iso.startswith("20")
    assert number == "5"


def test_included_bodies(tmp_path: Path) -> None:
    """< includes a file as it is, <@ with its variables; XML is no include."""
    (tmp_path / "body.json").write_text('{"a": "{{x}}"}')
    (call,) = read(tmp_path, "POST /a\n\n< ./body.json").calls
    assert call.body == b'{"a": "{{x}}"}'
    (call,) = read(tmp_path, "POST /a\n\n<@ ./body.json", x="1").calls
    assert call.body == b'{"a": "1"}'
    (call,) = read(tmp_path, "POST /a\n\n<root>\n< b>x</ b>\n</root>").calls
    assert call.body.startswith(b"<root>")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no request"),
        ("### only a name\n# and a comment\n", "no request"),
        ("GET /a/{{nope}}", ":1: there is no variable 'nope'"),
        ("@a = {{b}}\n@b = {{a}}\nGET /{{a}}", ":3: its variables refer to each other"),
        ("GET http://a/x\n###\nGET http://b/x", ":3: one batch goes to one server"),
        ("GET ftp://a/x", "not the URL of a web server"),
        ("GET x", "a URL is '/path'"),
        ("POST /a\nno header\n", ":2: this is not a header"),
        ("POST /a\nX: {{v}}\n", "control character"),
        ("GET /a\n\n> {% client.test() %}", "cannot run in a batch"),
        ("GET /a\n\n>> out.json", "cannot run in a batch"),
        ("< {% x %}\nGET /a", "cannot run in a batch"),
        ("POST /a\n\n< ../secret", "outside the folder"),
        ("POST /a\n\n< ./missing", "cannot include"),
    ],
)
def test_what_no_batch_can_do_is_told(tmp_path: Path, text: str, told: str) -> None:
    """The message names file, line, and what is wrong."""
    (tmp_path / "inner").mkdir()
    with pytest.raises(HttpFileError) as caught:
        read(tmp_path / "inner", text, v="a\nb")
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A file that cannot be read is an error of its own kind."""
    with pytest.raises(HttpFileError):
        read_http_file(tmp_path / "missing.http")


CORPUS = Path(__file__).parent / "corpus"
INDEX = tomllib.loads((CORPUS / "index.toml").read_text("utf-8"))


def stem(case: dict[str, Any]) -> str:
    return Path(case["file"]).stem


def test_every_file_of_the_corpus_is_in_the_index_once() -> None:
    """No file is forgotten."""
    files = [case["file"] for case in INDEX["good"] + INDEX["bad"]]
    assert sorted(files) == sorted(path.name for path in CORPUS.glob("*.http"))


@pytest.mark.parametrize("case", INDEX["good"], ids=stem)
def test_a_file_as_the_editors_read_it(case: dict[str, Any]) -> None:
    """The calls, their headers and bodies are those that the editors would have sent."""
    file = read_http_file(CORPUS / case["file"], case.get("variables"))
    assert file.origin == case.get("origin")
    if "names" in case:
        assert list(file.names) == case["names"]
    assert [
        [
            call.method,
            (call.path + (b"?" + call.query if call.query else b"")).decode(),
            [f"{name.decode()}: {value.decode()}" for name, value in call.headers],
            call.body.decode(),
        ]
        for call in file.calls
    ] == case["calls"]
    content_type, body = write_batch(file.calls)
    assert len(read_batch(body, content_type=content_type).calls) == len(file.calls)


@pytest.mark.parametrize("case", INDEX["bad"], ids=stem)
def test_a_file_that_is_refused(case: dict[str, Any]) -> None:
    """Before anything is sent, with the line and what is wrong with it."""
    with pytest.raises(HttpFileError) as caught:
        read_http_file(CORPUS / case["file"], case.get("variables"))
    assert f"{case['file']}{case['message']}" in str(caught.value)


def test_made_up_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the editors make up from the clock, from chance and from the environment."""
    monkeypatch.setenv("WHO", "Ada")
    text = (
        "/{{$processEnv WHO}}/{{$env.WHO}}/{{$random.integer(5, 6)}}/{{$random.hexadecimal(8)}}"
        "/{{$timestamp -1 d}}/{{$datetime iso8601}}?a={{$datetime rfc1123}}&b={{$random.email}}"
    )
    (call,) = read(tmp_path, text).calls
    pattern = rb"/Ada/Ada/5/[0-9a-f]{8}/\d{10}/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(pattern, call.path)
    assert re.fullmatch(rb"a=\w{3},%20.*GMT&b=\w+@example.com", call.query)
    for bad in ("$random.integer(9,1)", "$processEnv NO_SUCH", "$datetime x", "$nothing", "", "$"):
        with pytest.raises(HttpFileError, match="no variable"):
            read(tmp_path, f"/{{{{{bad}}}}}")


def test_check_reads_what_send_sends(tmp_path: Path) -> None:
    """The calls of a good file are listed; the line of a bad one is named."""
    found = check_http_file(CORPUS / "paths-only.http", {})
    assert found == (True, "ok: 2 calls\n1. POST /v1/api/items, 32 bytes\n2. PURGE /cache/items")
    found = check_http_file(CORPUS / "no-separator.http", {})
    assert not found.good
    assert "no-separator.http:6: another request starts here" in found.text
    assert check_http_file(CORPUS / "environment.http", {"who": "x", "tenant": "y"}).good


PIECES = [
    "GET ", "post ", "DELETE ", "http://h", "h:1", "/a", "?b=c", "&d=e", "#", " HTTP/1.1",
    "HTTP/2 ", "\n", "\n", "\n\n", "\r\n", "###", "### x\n", "# ", "// ", "@a = 1\n",
    "@a={{b}}\n", "{{a}}", "{{%a}}", "{{", "}}", "{{$guid}}", "Host: h\n",
    "Content-Type: application/json\n", "X: y\n",
    "Content-Type: application/x-www-form-urlencoded\n", "Content-Type: multipart/mixed\n", "  ",
    "\t", "< ./x", "<@ ", "<> r\n", "> {%", "{}", "a=b&", "\\", "é", "\u0000", "\u007f", "\u2028",
    "[::1", "*", ":", "Authorization: Basic a b\n", "# @name n\n", "# @note\n", "%", "%41",
    "\udc80",
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join))
def test_any_text_is_calls_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """Nothing but HttpFileError is raised, and what is read can be sent and is no more calls."""
    path = tmp_path_factory.getbasetemp() / "any.http"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        calls = read_http_file(path).calls
    except HttpFileError:
        return
    content_type, body = write_batch(calls)
    received = read_batch(body, content_type=content_type).calls
    assert [(c.method, c.path, c.query, c.body) for c in received] == [
        (c.method, c.path, c.query, c.body) for c in calls
    ]
    assert not any("{{" in part.decode() for c in calls for part in (c.path, c.query))


@pytest.mark.parametrize(
    ("content", "told"), [(b"GET /\xff", "not UTF-8 text (byte 5)"), (None, "No such file")]
)
def test_what_cannot_be_read_is_told_in_plain_words(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    """The name of the file, once, and what is the matter; no words of Python's own."""
    path = tmp_path / "calls.http"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HttpFileError) as raised:
        read_http_file(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert str(raised.value).count(path.name) == 1
    assert told in str(raised.value)
    assert "codec" not in str(raised.value)
    assert "Errno" not in str(raised.value)


def test_line_separators_within_a_line_are_text(tmp_path: Path) -> None:
    """Only the line ends of files end a line; a JSON string may hold the others."""
    body = '{"a": "x\u2028y\u0085z\x0c"}'
    path = tmp_path / "calls.http"
    path.write_text(f"POST /a\n\n{body}\n", encoding="utf-8")
    assert read_http_file(path).calls[0].body == body.encode()


def test_a_script_needs_no_blank(tmp_path: Path) -> None:
    """A response handler is refused however it is written, never sent as part of a body."""
    path = tmp_path / "calls.http"
    path.write_text("POST /a\n\n{}\n\n>{% client.log(1) %}\n")
    with pytest.raises(HttpFileError, match=":5: scripts"):
        read_http_file(path)
