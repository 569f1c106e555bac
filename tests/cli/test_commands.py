"""The command line as a whole: its help, and mistakes that users make."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "missing.sqlite"], "there is no file missing.sqlite"),
        (["serve", "x", "--host", "0.0.0.0"], "--allow-anonymous"),
        (["serve", "x", "--limit", "max_calls"], "must be a number"),
        (["serve", "x", "--limit", "nope=1"], "no limit 'nope'"),
        (["serve", "x", "--limit", "max_calls=0"], "must be positive"),
        (["serve", "x", "--workers", "0"], "--workers"),
        (["serve", "x", "--port", "70000"], "--port"),
        (["serve"], "DATABASE"),
        (["send", __file__, "--var", "y"], "'y' is not of the form 'name=value'"),
        (["nope"], "nope"),
    ],
)
def test_mistakes_are_told(arguments: list[str], told: str, tmp_path: Path) -> None:
    """Exit status 2, and what is wrong on standard error."""
    status, printed, errors = run(*arguments, folder=tmp_path)
    assert (status, printed) == (2, "")
    assert told in errors
    assert "Traceback" not in errors


def test_version_and_help() -> None:
    """The version alone, and every command in the help."""
    assert run("--version")[1].startswith("atomicbatch 0.")
    _, printed, _ = run("-h")
    for command in ("serve", "send", "check", "sample"):
        assert command in printed


@pytest.mark.parametrize(("package", "extra"), [("click", "server"), ("httpx", "client")])
def test_a_missing_package_names_the_extra(tmp_path: Path, package: str, extra: str) -> None:
    """Without click nothing runs, without httpx nothing is sent; each says what to install."""
    path = tmp_path / "calls.http"
    path.write_text("GET /a")
    code = (
        f"import sys; sys.modules[{package!r}] = None; "
        f"sys.argv = ['atomicbatch', 'send', {str(path)!r}]; "
        "from atomicbatch.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, "not sent"
    assert f"pip install 'atomicbatch[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["click.core", "sqlalchemy.exc"])
def test_ctrl_c_while_the_command_is_imported(module: str) -> None:
    """It ends like any other Ctrl-C: status 130, and no traceback."""
    code = (
        "import sys; sys.argv = ['atomicbatch', 'serve', 'x']; from atomicbatch.cli import main; "
    )
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-c", code + "main()"],
        stderr=subprocess.PIPE,
        text=True,
        # Children of a process in the background inherit that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        # Python tells of each module once it is imported.
        while module not in (line := process.stderr.readline()):
            assert line, "the module was never imported"
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(30) == 130
    assert "Traceback" not in told
