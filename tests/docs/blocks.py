"""
Runs the blocks of a Markdown document, as a reader would.

All ``sh`` blocks of a document run in order in one folder, which is laid out as a fresh clone is.
A ``text`` block right after one is what the command prints; what differs from run to run
(boundaries, dates, ETags, the port) counts as equal. Before a block may stand:

``<!-- server -->``  the command keeps running; it is waited for until it prints its address
``<!-- fails -->``   the command ends with a status other than 0
``<!-- not run: why -->``  the command is only shown
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^>]+) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_VARYING = [
    (re.compile(r"batchresponse_[0-9a-f]+"), "batchresponse_X"),
    (re.compile(r"(?i)^(date: ).*$", re.MULTILINE), r"\1D"),
    (re.compile(r'(?i)^(etag: )"[0-9a-f]+"', re.MULTILINE), r"\1E"),
    (re.compile(r"127\.0\.0\.1:\d+|localhost:\d+"), "ADDRESS"),
    (re.compile(r"\r|[ \t]+$", re.MULTILINE), ""),
]


@dataclass
class Block:
    """One fenced block: its kind, text, mark, and the line that it starts at."""

    kind: str
    text: str
    mark: str
    line: int


def blocks_of(markdown: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [
        Block(m["kind"], m["text"], m["mark"] or "", markdown.count("\n", 0, m.start()) + 1)
        for m in _BLOCK.finditer(markdown)
    ]


def same(printed: str) -> str:
    """``printed`` without what differs from run to run."""
    for pattern, replacement in _VARYING:
        printed = pattern.sub(replacement, printed)
    return printed.strip()


def lay_out(folder: Path, port: int) -> None:
    """A clone whose environment is installed already, and whose port 8000 is another one."""
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
        os.utime(folder / name, (0, 0))  # older than the environment: nothing to install
    shutil.copytree(ROOT / "examples", folder / "examples")
    for example in (folder / "examples").rglob("*.http"):
        example.write_text(example.read_text().replace(":8000", f":{port}"))
    environment = folder / ".venv"
    environment.mkdir()
    (environment / "bin").symlink_to(Path(sys.executable).parent)
    for stamp in ("run", "example", "test"):
        (environment / stamp).touch()


# What the documents need of curl, for machines that have none.
_CURL = """\
#!{python}
import sys, urllib.error, urllib.request
headers, data, url, shown = {{}}, None, "", False
words = iter(sys.argv[1:])
for word in words:
    if word == "-H":
        name, _, value = next(words).partition(":")
        headers[name] = value.strip()
    elif word == "--data-binary":
        data = sys.stdin.buffer.read() if next(words) == "@-" else b""
    elif word.startswith("-"):
        shown = "i" in word
    else:
        url = word
request = urllib.request.Request(url, data, headers)
try:
    response = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    response = error
if shown:
    print("HTTP/1.1", response.status, response.reason)
    for name, value in response.headers.items():
        if name.lower() != "connection":
            print(f"{{name}}: {{value}}")
    print(flush=True)
sys.stdout.buffer.write(response.read())
"""


class Reader:
    """Somebody who types what a document says; ``own_curl``: with our stand-in for curl."""

    def __init__(self, folder: Path, port: int, *, own_curl: bool | None = None) -> None:
        self._folder = folder
        self._port = port
        self._path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        if own_curl or (own_curl is None and shutil.which("curl") is None):
            curl = folder / "programs" / "curl"
            curl.parent.mkdir()
            curl.write_text(_CURL.format(python=sys.executable))
            curl.chmod(0o755)
            self._path = f"{curl.parent}:{self._path}"
        self._servers: list[subprocess.Popen[str]] = []

    def read(self, markdown: str) -> int:
        """
        Run all blocks; how many were run.

        Raises:
            AssertionError: A command failed, or printed something else.
        """
        blocks = blocks_of(markdown)
        ran = 0
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            if block.kind != "sh" or block.mark.startswith("not run: "):
                continue
            printed = self._run(block)
            ran += 1
            if after is not None and after.kind == "text":
                assert same(printed) == same(after.text), f"line {after.line}: {printed}"
        return ran

    def _run(self, block: Block) -> str:
        command = block.text.replace(":8000", f":{self._port}")
        environment = {
            **os.environ,
            "PATH": self._path,
            "PORT": str(self._port),
        }
        if block.mark == "server":
            return self._serve(command, environment)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        wanted = block.mark == "fails"
        assert (done.returncode != 0) == wanted, f"line {block.line}: {done.stdout}{done.stderr}"
        return done.stdout

    def _serve(self, command: str, environment: dict[str, str]) -> str:
        server = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # where uvicorn prints its address
            text=True,
            start_new_session=True,
        )
        self._servers.append(server)
        assert server.stdout is not None
        for line in server.stdout:
            if "http://" in line:
                return line
        raise AssertionError(f"the server ended with status {server.wait()}")

    def close(self) -> None:
        """Stop what was started."""
        for server in self._servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)
            assert server.stdout is not None
            server.stdout.close()
