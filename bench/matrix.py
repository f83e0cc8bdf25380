"""
Tables of measurements with targets: several seeds each, on several processes.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

#: Runs of each line for a short look.
QUICK_SEEDS = 1
#: What one run gives: a value for each reading.
Measure = Callable[[int], Sequence[float]]


@dataclass(frozen=True)
class Reading:
    """
    A figure, and what it should be.

    :ivar low: at least. :ivar high: at most. Neither: for information.
    :ivar curve: the line of the picture that it belongs to, if any. :ivar x: where on it.
    """

    name: str
    unit: str
    low: float | None = None
    high: float | None = None
    curve: str = ""
    x: float = 0.0

    def is_met(self, value: float) -> bool:
        """
        Whether a value is within the target.
        """
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def worst(self, values: Sequence[float]) -> float:
        """
        The value farthest on the wrong side.
        """
        low, high = self.low, self.high
        if low is None:
            return max(values)
        if high is None:
            return min(values)
        # Two-sided targets are ratios: how many times too large, or too small.
        middle = math.sqrt(low * high)
        return max(values, key=lambda value: abs(math.log(max(value, 1e-6) / middle)))

    @property
    def target(self) -> str:
        """
        In words, empty when there is none.
        """
        low = "" if self.low is None else f">= {self.low:.4g}"
        high = "" if self.high is None else f"<= {self.high:.4g}"
        return f"{low} {high}".strip()


@dataclass(frozen=True)
class Case:
    """
    One kind of run, and what is read off it.

    :ivar measure: by seed. :ivar is_quick: for a short look, as in CI.
    """

    readings: tuple[Reading, ...]
    measure: Measure
    is_quick: bool = False


@dataclass
class Result:
    """
    What came out for one reading.

    :ivar values: one for each seed.
    """

    reading: Reading
    values: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """
        Over the seeds.
        """
        return statistics.fmean(self.values)

    @property
    def is_met(self) -> bool:
        """
        Whether the mean is within the target.
        """
        return self.reading.is_met(self.mean)


#: Draws the results of one table into a file.
Draw = Callable[[Sequence[Result], Path], None]


@dataclass(frozen=True)
class Table:
    """
    Cases that belong together.

    :ivar title: what stands above it.
    """

    title: str
    cases: Sequence[Case]


def measure(case: Case, seed: int) -> Sequence[float]:
    """
    One run; at module level so that other processes can be asked for it.
    """
    values = case.measure(seed)
    if len(values) != len(case.readings):
        raise ValueError(f"{case.readings[0].name}: {len(values)} values")
    return values


def add_arguments(parser: argparse.ArgumentParser, *, seeds: int, first_seed: int) -> None:
    """
    What every matrix can be told.
    """
    parser.set_defaults(all_seeds=seeds)
    parser.add_argument("--seeds", type=int, help=f"runs of each line; {seeds}, or {QUICK_SEEDS}")
    parser.add_argument("--first-seed", type=int, default=first_seed)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", default="", help="lines whose name contains this")
    parser.add_argument("--quick", action="store_true", help="few lines, for CI")
    parser.add_argument("--markdown", action="store_true", help="tables for the documents")


def run(tables: Mapping[str, Table], options: argparse.Namespace) -> dict[str, list[Result]]:
    """
    Measure and print.

    :param tables: by name.
    :return: the results of each.
    """
    count = options.seeds or (QUICK_SEEDS if options.quick else options.all_seeds)
    seeds = range(options.first_seed, options.first_seed + count)
    results: dict[str, list[Result]] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        runs = [
            (name, case, [pool.submit(measure, case, seed) for seed in seeds])
            for name, table in tables.items()
            for case in table.cases
            if (case.is_quick or not options.quick)
            and any(options.only in reading.name for reading in case.readings)
        ]
        for name, case, futures in runs:
            if name not in results:
                results[name] = []
                print(_heading(tables[name].title, is_markdown=options.markdown), flush=True)
            columns = zip(*(future.result() for future in futures), strict=True)
            for reading, values in zip(case.readings, columns, strict=True):
                result = Result(reading, list(values))
                results[name].append(result)
                print(_line(result, is_markdown=options.markdown), flush=True)
    return results


def count_missed(results: Mapping[str, Sequence[Result]]) -> int:
    """
    How many means are outside of their targets.
    """
    return sum(not result.is_met for table in results.values() for result in table)


def _heading(title: str, *, is_markdown: bool) -> str:
    if is_markdown:
        return f"\n{title}:\n\n| | mean | worst | target | met |\n|---|---|---|---|---|"
    return f"\n{title}\n{'':44} {'mean':>9} {'worst':>9}         target"


def _line(result: Result, *, is_markdown: bool) -> str:
    reading, values = result.reading, result.values
    worst = reading.worst(values)
    met = f"{sum(map(reading.is_met, values))}/{len(values)}" if reading.target else ""
    if is_markdown:
        met = met if result.is_met else f"**{met}**"
        return (
            f"| {reading.name}, {reading.unit} | {result.mean:,.4g} | {worst:,.4g}"
            f" | {reading.target.replace('>=', '≥').replace('<=', '≤')} | {met} |"
        )
    missed = "" if result.is_met else "MISSED"
    return (
        f"{reading.name:44} {result.mean:9.4g} {worst:9.4g} {reading.unit:7}"
        f" {reading.target:18} {met:>5} {missed}"
    ).rstrip()
