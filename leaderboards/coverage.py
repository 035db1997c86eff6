"""How often intervals hold the truth, by simulation: ``python -m rdvla_bench.leaderboards.coverage``.

Each cell draws runs from known rates and counts those whose 95 % interval holds the true value. docs/statistics.md
repeats the table.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from scipy.stats import binom

from rdvla_bench.leaderboards.chains import length_interval
from rdvla_bench.leaderboards.intervals import (
    clustered_bootstrap,
    equally_weighted,
    stratified_bootstrap,
    stratified_wilson,
)
from rdvla_bench.leaderboards.paired import Counts, clustered_interval, mcnemar, tango
from rdvla_bench.leaderboards.statistics import wilson

RUNS = 2000  # simulated a cell; their chance is 0.5 points, one standard deviation
RESAMPLES = 1000
TASKS = {
    "10 tasks, all 97 %": np.full(10, 0.97),
    "10 tasks, 80 to 100 %": np.linspace(0.80, 1.00, 10),
    "10 tasks, 30 to 95 %": np.linspace(0.30, 0.95, 10),
    "10 tasks, nine of 100 %, one of 90 %": np.array([0.9, *[1.0] * 9]),
}
LENGTHS = {
    "spread over 0 to 5": [0.1, 0.1, 0.15, 0.15, 0.2, 0.3],
    "95 % complete": [0.01, 0.01, 0.01, 0.01, 0.01, 0.95],
    "90 % at 0": [0.9, 0.06, 0.02, 0.01, 0.01, 0.0],
}
Counted = list[tuple[int, int]]  # (successes, n) of each task


def of_wilson(n: int) -> float:
    """Return Wilson's exact coverage, averaged over rates of 1 to 99 %."""
    ends = np.array([wilson(k, n) for k in range(n + 1)])
    rates = np.linspace(0.01, 0.99, 197)
    inside = (ends[:, :1] <= rates) & (rates <= ends[:, 1:])  # (n + 1, rates)
    return float((binom.pmf(np.arange(n + 1)[:, None], n, rates) * inside).sum(axis=0).mean())


def of_tasks(method: Callable[[Counted], tuple[float, float]], rates: np.ndarray, n: int, runs: int = RUNS) -> float:
    """Return the coverage of the mean rate of these tasks, ``n`` episodes each."""
    drawn = np.random.default_rng(0).binomial(n, rates, size=(runs, len(rates)))
    truth = float(rates.mean())
    return _share([method([(s, n) for s in successes]) for successes in drawn.tolist()], truth)


def of_tasks_drawn(n_tasks: int, runs: int = RUNS) -> float:
    """Return the clustered bootstrap's coverage of the mean over all tasks, of which some are drawn: Beta(4, 2)."""
    rng = np.random.default_rng(0)
    rates = rng.binomial(20, rng.beta(4, 2, size=(runs, n_tasks))) / 20
    return _share([clustered_bootstrap(row, rng, resamples=RESAMPLES) for row in rates.tolist()], 4 / 6)


def of_tango(n: int, only_a: float, only_b: float, runs: int = RUNS) -> float:
    """Return the coverage of the paired difference."""
    drawn = np.random.default_rng(0).multinomial(n, [only_a, only_b, 1 - only_a - only_b], size=runs)
    ends = cache(lambda a, b: tango(Counts(n - a - b, a, b, 0)))
    return _share([ends(a, b) for a, b, _ in drawn.tolist()], only_b - only_a)


def of_length(chances: list[float], n: int, runs: int = RUNS) -> float:
    """Return the coverage of the mean chain length."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(chances), size=(runs, n), p=chances)
    truth = float(np.arange(len(chances)) @ np.array(chances))
    return _share([length_interval(row, len(chances) - 1, rng, resamples=RESAMPLES) for row in drawn.tolist()], truth)


def of_length_difference(discordance: float, n: int, runs: int = RUNS) -> float:
    """Return the coverage of the paired difference in chain length, where so many chains differ, by -3 to 4."""
    rng = np.random.default_rng(0)
    values, ones = np.array([-3, -2, -1, 1, 2, 3, 4]), np.ones(n, np.int64)
    drawn = np.where(rng.random((runs, n)) < discordance, rng.choice(values, size=(runs, n)), 0)
    truth = discordance * float(values.mean())
    return _share([clustered_interval(row, ones, rng, resamples=RESAMPLES) for row in drawn], truth)


def of_plain_bootstrap(values: np.ndarray, truth: float) -> float:
    """Return the coverage of the textbook's percentile bootstrap of the mean of each row. ``values``: (runs, n)."""
    rng = np.random.default_rng(0)
    n = values.shape[1]
    ends = []
    for row in values:
        means = row[rng.integers(0, n, (RESAMPLES, n))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        ends.append((float(low), float(high)))
    return _share(ends, truth)


def plain() -> Iterator[tuple[str, str, float]]:
    """Yield the coverage of the plain bootstrap, where this package uses another."""
    rng = np.random.default_rng(0)
    values = np.array([-3, -2, -1, 1, 2, 3, 4])
    for discordance, n in ((0.1, 20), (0.1, 100), (0.5, 100)):
        drawn = np.where(rng.random((RUNS, n)) < discordance, rng.choice(values, size=(RUNS, n)), 0)
        scene = f"{n} pairs of chains, {100 * discordance:.0f} % differ"
        yield "plain bootstrap", scene, of_plain_bootstrap(drawn, discordance * float(values.mean()))
    for n in (20, 100):
        lengths = rng.choice(6, size=(RUNS, n), p=LENGTHS["95 % complete"])
        yield "plain bootstrap", f"{n} chains, 95 % complete", of_plain_bootstrap(lengths, 4.85)
    for n in (5, 10, 40):
        rates = rng.binomial(20, rng.beta(4, 2, size=(RUNS, n))) / 20
        yield "plain bootstrap", f"{n} tasks drawn, 20 episodes each", of_plain_bootstrap(rates, 4 / 6)


def mcnemar_level(n: int, discordance: float, alpha: float = 0.05) -> float:
    """Return the exact chance that McNemar's test rejects where both runs are equally good."""
    discordant = np.arange(n + 1)
    last = np.array([_last_rejected(int(m), alpha) for m in discordant])
    return float((binom.pmf(discordant, n, discordance) * 2 * binom.cdf(last, discordant, 0.5)).sum())


@cache
def _last_rejected(m: int, alpha: float) -> int:
    """Return the most wins of the lesser run among ``m`` discordant pairs at which the test rejects, -1 if none."""
    return bisect_left(range(m // 2 + 1), True, key=lambda k: mcnemar(Counts(0, k, m - k, 0)) > alpha) - 1


def _share(intervals: list[tuple[float, float]], truth: float) -> float:
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


def table() -> Iterator[tuple[str, str, float]]:
    """Yield method, scene and coverage, or level, of every cell."""
    rng = np.random.default_rng(0)
    for n in (10, 50, 500):
        yield "Wilson, exact, mean over rates", f"{n} episodes", of_wilson(n)
    for name, rates in TASKS.items():
        for n in (10, 50):
            scene = f"{name}, {n} episodes each"
            yield "Wilson, tasks as strata", scene, of_tasks(lambda c: stratified_wilson(equally_weighted(c)), rates, n)
            yield (
                "bootstrap within tasks",
                scene,
                of_tasks(lambda c: stratified_bootstrap(equally_weighted(c), rng, resamples=RESAMPLES), rates, n),
            )
    for n in (5, 10, 40):
        yield "bootstrap over tasks", f"{n} tasks drawn, 20 episodes each", of_tasks_drawn(n)
    for n in (50, 200, 500):
        for a, b in ((0.02, 0.02), (0.05, 0.05), (0.02, 0.06), (0.10, 0.20)):
            yield "Tango", f"{n} pairs, only A {100 * a:.0f} %, only B {100 * b:.0f} %", of_tango(n, a, b)
    for name, chances in LENGTHS.items():
        for n in (20, 100, 1000):
            yield "chain length, bootstrap", f"{n} chains, {name}", of_length(chances, n)
    for discordance in (0.02, 0.1, 0.5):
        for n in (20, 100, 1000):
            scene = f"{n} pairs, {100 * discordance:.0f} % differ"
            yield "difference in length, paired bootstrap", scene, of_length_difference(discordance, n)
    yield from plain()
    for n in (50, 200, 500):
        for discordance in (0.05, 0.2):
            scene = f"{n} pairs, {100 * discordance:.0f} % differ"
            yield "McNemar, exact level at 5 %", scene, mcnemar_level(n, discordance)


def main() -> int:
    """Print the table as Markdown."""
    print("| method | scene | share |\n| --- | --- | --: |")
    for method, scene, share in table():
        print(f"| {method} | {scene} | {100 * share:.1f} % |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
