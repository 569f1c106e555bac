"""
What a call costs on ``atomicbatch serve``, over a real socket, beside what users would do else.

All contestants of a database (``benchmarks/contestants.py``) run in turn, so that ratios are fair.
Figures are microseconds a call, medians over rounds. Run it with ``python -m benchmarks.server``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from atomicbatch.model import Call
from benchmarks import calls
from benchmarks.bars import BARS, Cell, met
from benchmarks.contestants import DATABASES, our_server
from benchmarks.machine import described, load
from benchmarks.report import Report, Table, add_option
from benchmarks.rounds import Contestant, Figures, compete

CELLS: list[Cell] = [
    *(("create", count) for count in (1, 10, 100, 1000, 10_000)),
    *(("mix", count) for count in (100, 1000)),
]
COLUMNS = {
    "SQLite": ("batch", "separate", "raw", "PocketBase"),
    "PostgreSQL": ("batch", "separate", "raw", "raw pipeline"),
    "MariaDB": ("batch", "separate", "raw"),
}

# What benchmarks/plot.py draws.
PICTURE = [
    "<picture>",
    '  <source media="(prefers-color-scheme: dark)" srcset="cost-per-call-dark.svg">',
    '  <img alt="Microseconds a create over the calls in a batch, on SQLite and PostgreSQL"',
    '    src="cost-per-call-light.svg">',
    "</picture>",
]


def rounds_of(count: int, rounds: int) -> int:
    """Cheap batches get more rounds."""
    share = {1: 4.0, 1000: 0.35, 10_000: 0.12}.get(count, 1.0)
    return max(3, round(rounds * share))


def measure(
    contestants: Sequence[Contestant[Call]], cell: Cell, rounds: int, rng: random.Random
) -> dict[str, Figures]:
    """One kind and size of batches."""
    kind, count = cell
    if kind == "mix":
        contestants = [one for one in contestants if one.name != "PocketBase"]
    make = partial(calls.KINDS[kind], count, rng)
    return compete(contestants, make, rounds_of(count, rounds))


class Tables:
    """Of one database: what each contestant takes, and which bars are met."""

    def __init__(self, report: Report, database: str, bars: Table) -> None:
        self._bars, self._database = bars, database
        names = (*COLUMNS[database], "batch / raw")
        aside = ("CPU: ours", "CPU: raw", "spread")
        self._costs = report.table(f"server.{database}", (f"{database}, µs", *names, *aside), aside)
        self._costs.show()

    def add(self, cell: Cell, found: dict[str, Figures]) -> None:
        """One kind and size of batches."""
        ours, raw = found["batch"], found["raw"]
        bar = BARS.get(self._database, {}).get(cell)
        self._costs.add(
            f"{cell[0]} {cell[1]:,}",
            *(shown(found.get(name)) for name in COLUMNS[self._database]),
            f"{ours.median / raw.median:.2f}",
            f"{ours.median_cpu:.1f}",
            f"{raw.median_cpu:.1f}",
            f"{raw.spread:.0%}",
        )
        if bar is not None and bar.other in found:
            ratio = ours.median / found[bar.other].median
            what = f"{self._database}, {cell[0]} {cell[1]:,}, batch / {bar.other}"
            self._bars.rows.append([what, f"{ratio:.2f}", f"{bar.most:g}", met(ratio, bar.most)])


def shown(figures: Figures | None) -> str:
    """A median."""
    return "" if figures is None else f"{figures.median:.1f}"


def contest(
    database: str, rounds: int, checkout: Path | None, tables: Tables, *, content_ids: bool
) -> list[dict[str, object]]:
    """Measure a database; returns all figures."""
    rng = random.Random(7)
    told: list[dict[str, object]] = []
    with (
        DATABASES[database](rng) as (address, others),
        our_server(address, checkout=checkout, content_ids=content_ids) as ours,
    ):
        for cell in CELLS:
            found = measure([*ours, *others], cell, rounds, rng)
            tables.add(cell, found)
            told += [
                {
                    "database": database, "kind": cell[0], "calls": cell[1], "who": name,
                    "microseconds": figures.wall, "cpu_microseconds": figures.cpu,
                }
                for name, figures in found.items()
            ]  # fmt: skip
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=50, help="of batches of 10 and of 100")
    parser.add_argument("--database", action="append", choices=DATABASES, help="default: all")
    parser.add_argument("--checkout", type=Path, help="measure the code of this source tree")
    parser.add_argument("--content-ids", action="store_true", help="give each part its own")
    add_option(parser)
    arguments = parser.parse_args()
    report = Report("server", described(arguments.checkout))
    print(
        "microseconds a call, medians; CPU of our server and of the raw driver's process; spread:"
    )
    print("the distance between the quartiles of raw's rounds, in parts of its median")
    before, figures = load(), []
    bars = report.table("server.bars", ("ratio", "measured", "at most", ""))
    for database in arguments.database or DATABASES:
        tables = Tables(report, database, bars)
        figures += contest(
            database, arguments.rounds, arguments.checkout, tables,
            content_ids=arguments.content_ids,
        )  # fmt: skip
    bars.show()
    print(f"\nload {before:.1f} before, {load():.1f} after")
    report.texts["server.plot"] = PICTURE
    report.save(arguments.json, figures=figures)


if __name__ == "__main__":
    main()
