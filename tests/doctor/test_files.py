"""What handlers do to files: what would be lost is refused, what is temporary is let through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from atomicbatch.doctor import Verdict, examine
from tests.doctor.conftest import by_operation

pytestmark = pytest.mark.slow
_APP = """
import os, shutil, tempfile
from pathlib import Path
from fastapi import FastAPI, UploadFile

app = FastAPI()
{handlers}
"""
_END = "; a rollback does not undo that"
_REFUSED = f" (refused here, see --allow){_END}"
_LOST = {
    "Path('kept').unlink()": "deletes kept",
    "os.remove('kept')": "deletes kept",
    "Path('kept').write_text('')": "writes kept",
    "open('kept', 'r+').close()": "writes kept",
    "open('new', 'x').close()": "writes new",
    "os.close(os.open('kept', os.O_WRONLY | os.O_TRUNC))": "writes kept",
    "os.truncate('kept', 0)": "truncates kept",
    "os.rename('kept', 'new')": "renames kept to new",
    "os.replace('other', 'kept')": "renames other to kept",
    "shutil.copyfile('other', 'kept')": "writes kept",
    "shutil.move('kept', 'new')": "renames kept to new",
    "shutil.rmtree('folder')": "deletes folder",
    "shutil.rmtree('folder', ignore_errors=True)": "deletes folder",
    "os.unlink('in-it', dir_fd=os.open('folder', os.O_RDONLY))": "deletes {here}/folder/in-it",
    "os.rmdir('empty')": "deletes empty",
    "os.mkdir('new')": "makes the folder new",
    "os.symlink('kept', 'new')": "makes the link new",
    "os.link('kept', 'new')": "makes the link new",
    "os.chmod('kept', 0o600)": "changes the mode of kept",
    "Path('kept').touch()": "changes the times of kept",
    "os.utime('kept')": "changes the times of kept",
    "Path('missing').unlink(missing_ok=True)": "deletes missing",
    "os.replace(tempfile.mkstemp()[1], 'kept')": "renames {temporary} to kept",
}
_NOTHING = [
    "tempfile.TemporaryFile().close()",
    "tempfile.NamedTemporaryFile().close()",
    "with tempfile.SpooledTemporaryFile(max_size=1) as spooled: spooled.write(b'ab')",
    "with tempfile.TemporaryDirectory() as made: Path(made, 'x').write_text('x')",
    "with tempfile.TemporaryDirectory() as made: os.rename(shutil.copy('kept', made), f'{made}/b')",
    "os.makedirs('folder', exist_ok=True)",
    "open(os.devnull, 'w').close()",
    "open('kept').close()",
    "import cached",
]


def found(
    write_app: Callable[[str], str], folder: Path, method: str, *bodies: str, allowed: str = ""
) -> list[tuple[Verdict, list[str]]]:
    """What there is to say about handlers with these bodies; each in front of the same files."""
    handlers = "\n".join(
        f"@app.{method}('/{number}', response_model=None)\ndef handle_{number}():\n    {body}\n"
        for number, body in enumerate(bodies)
    )
    for name in ("kept", "other", "folder/in-it"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    (folder / "empty").mkdir()
    (folder / "cached.py").write_text("")
    before = _tree(folder)
    name = write_app(_APP.format(handlers=handlers))
    allow = [allowed] if allowed else []
    findings = by_operation(examine(f"{name}:app", allowed=allow))
    if not allowed:
        after = _tree(folder)
        assert {path: after.get(path) for path in before} == before
    return list(findings.values())


def _tree(folder: Path) -> dict[str, str | int]:
    """The files with their contents, and the folders; without what Python makes itself."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else path.stat().st_mode
        for path in folder.rglob("*")
        if "__pycache__" not in str(path)
    }


def test_what_would_be_lost(write_app: Callable[[str], str], tmp_path: Path) -> None:
    """Each is refused before anything has happened, and makes its handler unsafe."""
    bodies = [body.replace("{here}", str(tmp_path)) for body in _LOST]
    findings = found(write_app, tmp_path, "post", *bodies)
    for (body, change), (verdict, reasons) in zip(_LOST.items(), findings, strict=True):
        assert verdict is Verdict.UNSAFE, body
        start, _, end = change.replace("{here}", str(tmp_path)).partition("{temporary}")
        assert reasons[0].startswith(start), body
        assert reasons[0].endswith(f"{end}{_REFUSED}"), body
    assert not (tmp_path / "new").exists()


def test_what_is_no_loss(write_app: Callable[[str], str], tmp_path: Path) -> None:
    """Temporary files, compiled modules, folders that are there already."""
    for body, (_, reasons) in zip(
        _NOTHING, found(write_app, tmp_path, "get", *_NOTHING), strict=True
    ):
        assert [reason for reason in reasons if _END in reason] == [], body


def test_adding_to_a_file(write_app: Callable[[str], str], tmp_path: Path) -> None:
    """As logs do: it is let through, and a warning."""
    ((verdict, reasons),) = found(write_app, tmp_path, "get", "open('log', 'a').close()")
    assert (verdict, reasons) == (Verdict.WARNING, [f"appends to log{_END}"])


def test_a_safe_method_that_writes(write_app: Callable[[str], str], tmp_path: Path) -> None:
    """It is refused as well; since the handler fails then, more cannot be said."""
    ((verdict, reasons),) = found(write_app, tmp_path, "get", "Path('kept').write_text('')")
    assert (verdict, reasons[0]) == (Verdict.NOT_JUDGED, f"writes kept{_REFUSED}")


def test_files_that_are_allowed(write_app: Callable[[str], str], tmp_path: Path) -> None:
    """--allow takes a file or a folder; others stay refused."""
    bodies = ("Path('folder/new').write_text('x')", "Path('kept').unlink()")
    first, second = found(write_app, tmp_path, "post", *bodies, allowed="folder")
    assert first[0] is Verdict.WARNING  # it has changed no database
    assert first[1][-1] == f"note: writes folder/new, which is allowed{_END}"
    assert (tmp_path / "folder/new").read_text() == "x"
    assert second == (Verdict.UNSAFE, [f"deletes kept{_REFUSED}"])
