"""The architecture page names only what is there."""

from __future__ import annotations

import re

from tests.docs.blocks import ROOT


def test_every_path_exists() -> None:
    """Each path in code font is a file or folder of the project."""
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    paths = re.findall(r"`((?:src|tests|docs|benchmarks|fuzz|examples)/[\w./-]*)`", text)
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []
    names = re.findall(r"^ *(?:->)? *[\w ,]*?((?:\w+/)*\w+\.py)", text, re.MULTILINE)
    assert names
    source = ROOT / "src" / "atomicbatch"
    assert [name for name in names if not (source / name).exists()] == []


def test_every_package_is_on_the_map() -> None:
    """No top-level module of the package is missing from the code map."""
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    for path in (ROOT / "src" / "atomicbatch").iterdir():
        if path.name.startswith("__") or path.name == "py.typed":
            continue
        assert f"`src/atomicbatch/{path.name}{'/' if path.is_dir() else ''}`" in text, path.name
