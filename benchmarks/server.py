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
from benchmarks import calls, servers
from benchmarks.bars import BARS, Cell, verdict
from benchmarks.contestants import DATABASES, our_server
from benchmarks.machine import described, load
from benchmarks.rounds import Contestant, Figures, compete

CELLS: list[Cell] = [
    *(("create", count) for count in (1, 10, 100, 1000, 10_000)),
    *(("mix", count) for count in (100, 1000)),
]
COLUMNS = ("batch", "separate", "raw", "raw pipeline", "PocketBase")


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


def line(database: str, cell: Cell, found: dict[str, Figures]) -> str:
    """One row of the table: medians, what ours is of the floor, and the bar."""
    cells = [f"{found[name].median:10.1f}" if name in found else f"{'':10}" for name in COLUMNS]
    ours, raw = found["batch"], found["raw"]
    text = f"{cell[0]:<7}{cell[1]:>6}{''.join(cells)}{ours.median / raw.median:8.2f}"
    text += f"{ours.median_cpu:9.1f}{raw.median_cpu:8.1f}{raw.spread:8.0%}"
    bar = BARS.get(database, {}).get(cell)
    if bar is not None and bar.other in found:
        ratio = ours.median / found[bar.other].median
        text += f"   {ratio:.2f} x {bar.other}, {verdict(ratio, bar.most)}"
    return text


def head(database: str) -> str:
    """The names of the columns."""
    names = "".join(f"{name:>{len(name) + 1 if len(name) > 9 else 10}}" for name in COLUMNS)
    return f"{database + ', calls':<13}{names}   /raw  our CPU raw CPU  spread"


def contest(
    database: str, rounds: int, checkout: Path | None, *, content_ids: bool
) -> list[dict[str, object]]:
    """Measure a database, print its table; returns all figures."""
    rng = random.Random(7)
    told: list[dict[str, object]] = []
    with (
        DATABASES[database](rng) as (address, others),
        our_server(address, checkout=checkout, content_ids=content_ids) as ours,
    ):
        print(f"\n{head(database)}", flush=True)
        for cell in CELLS:
            found = measure([*ours, *others], cell, rounds, rng)
            print(line(database, cell, found), flush=True)
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    machine = described(arguments.checkout)
    print(machine)
    print(
        "microseconds a call, medians; CPU of our server and of the raw driver's process; spread:"
    )
    print("the distance between the quartiles of raw's rounds, in parts of its median")
    before, figures = load(), []
    for database in arguments.database or DATABASES:
        figures += contest(
            database, arguments.rounds, arguments.checkout, content_ids=arguments.content_ids
        )
    print(f"\nload {before:.1f} before, {load():.1f} after")
    if arguments.json:
        servers.as_json({"machine": machine, "figures": figures}, arguments.json)


if __name__ == "__main__":
    main()
