"""
The tables of a benchmark: printed row by row, and kept as JSON for ``docs/explanation``.

``python -m benchmarks.report FOLDER`` writes the tables of all JSON files of a folder into the page
``performance.md``, each between the lines ``<!-- measured: NAME -->`` and ``<!-- end -->``, and its
program's title between those of ``PROGRAM.title``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
_PLACE = "<!-- measured: {} -->"
_END = "<!-- end -->"


class Table:
    """
    One table.

    Args:
        columns: Their heads; the first column is text, the others are figures.
        aside: Heads of columns that are printed, but not on the page.
    """

    def __init__(self, columns: Sequence[str], aside: Sequence[str] = ()) -> None:
        self.columns, self.aside = columns, aside
        self.rows: list[list[str]] = []
        self._widths = [
            40 if not place else max(9, len(head) + 2) for place, head in enumerate(columns)
        ]

    def show(self) -> None:
        """Print the heads, and the rows that there are."""
        print("\n" + "\n".join(map(self._line, (self.columns, *self.rows))), flush=True)

    def add(self, *cells: str) -> None:
        """Print a row."""
        self.rows.append(list(cells))
        print(self._line(cells), flush=True)

    def _line(self, cells: Sequence[str]) -> str:
        first, *others = zip(cells, self._widths, strict=False)
        figures = "".join(f"{cell:>{width}}" for cell, width in others)
        return f"{first[0]:<{first[1]}}{figures}"

    def markdown(self) -> list[str]:
        """The lines of the page."""
        shown = [place for place, head in enumerate(self.columns) if head not in self.aside]
        rows = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1), *self.rows]
        return ["| " + " | ".join(row[place] for place in shown) + " |" for row in rows]


class Report:
    """All tables of a program."""

    def __init__(self, program: str, title: str) -> None:
        self._tables: dict[str, Table] = {}
        self.texts: dict[str, list[str]] = {f"{program}.title": [f"{title}."]}
        """What else stands on the page: place -> lines."""
        print(title, flush=True)

    def table(self, name: str, columns: Sequence[str], aside: Sequence[str] = ()) -> Table:
        """A new table; ``show`` it before the first row is added, or at the end."""
        table = self._tables[name] = Table(columns, aside)
        return table

    def save(self, file: Path | None, **more: Any) -> None:
        """Write it for the page, with what else is to be known of the run."""
        if file is not None:
            tables = {name: table.markdown() for name, table in self._tables.items()}
            places = {**tables, **self.texts}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"places": places, **more}, indent=1) + "\n")


def add_option(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables there")


def filled(page: str, places: dict[str, list[str]]) -> str:
    """
    The page with these texts in their places.

    Raises:
        ValueError: It has no such place.
    """
    for name, lines in places.items():
        start = _PLACE.format(name)
        before, found, rest = page.partition(start)
        if not found:
            raise ValueError(f"there is no line {start} on the page")
        _, end, after = rest.partition(_END)
        page = before + "\n".join((start, *lines, end)) + after
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", type=Path, help="with the JSON files of the programs")
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    page = arguments.page.read_text()
    for file in sorted(arguments.folder.glob("*.json")):
        page = filled(page, json.loads(file.read_text())["places"])
        print(file)
    arguments.page.write_text(page)


if __name__ == "__main__":
    main()
