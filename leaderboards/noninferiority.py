"""Non-inferiority: is the success rate, or the chain length, worse than the baseline's by a margin?

- *pass*: the whole interval of the difference run - baseline lies above -margin.
- *regression*: the whole interval lies below -margin.
- *undecided*: it covers -margin. More episodes decide.

The interval has confidence 1 - 2 alpha, so that each of the two wrong verdicts has the chance alpha: S. Wellek, Testing
Statistical Hypotheses of Equivalence and Noninferiority (2nd ed., 2010), sections 2.2 and 5.2.

Non-obvious: failing to find a difference is no pass. Twenty episodes cannot pass a margin of 2 percentage points, even
if all of them come out alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.baseline import Baseline, Frozen
from rdvla_bench.leaderboards.margin import Margin
from rdvla_bench.leaderboards.paired import clustered_interval, count, tango
from rdvla_bench.leaderboards.sequential import Verdict

POWER = 0.8  # of the number of episodes that is said to decide
SEED = 0
"""Of the bootstrap: the same two runs give the same verdict."""

FEWEST_CHAINS = 10  # that a bootstrap may call a regression
Pairs = Sequence[tuple[Frozen, Frozen]]  # (baseline, run)


@dataclass(frozen=True)
class Check:
    """One question and its answer."""

    name: str  # "success rate"
    verdict: Verdict
    line: str  # what was found, in one sentence without the verdict
    advice: str = ""  # what would decide it


class NotComparable(UsageError):
    """Two runs whose results do not speak of the same thing."""


def check_rate(pairs: Pairs, margin: Margin, alpha: float) -> Check:
    """Compare success rates on pairs."""
    counts = count((a.success, b.success) for a, b in pairs)
    low, high = tango(counts, 1 - 2 * alpha)
    method = f"Tango's paired score interval at {100 * (1 - 2 * alpha):.4g} % over {counts.n} common episodes"
    line = _found(margin, counts.rate_a, counts.rate_b, (low, high), method)
    changed = (counts.discordant + 1) / (counts.n + 2)
    return _decide(margin, alpha, line, (low, high), counts.n, counts.difference, changed, fewest_pairs(margin, alpha))


def check_length(pairs: Pairs, margin: Margin, alpha: float) -> Check:
    """Compare average chain lengths on pairs; the repetitions of one chain stay together."""
    found: dict[tuple[str, int, int], list[int]] = {}
    for a, b in pairs:
        found.setdefault((a.suite, a.task, a.start), []).append(chain_length(b) - chain_length(a))
    totals, sizes = np.array([(sum(d), len(d)) for d in found.values()], np.int64).T
    rng = np.random.default_rng(SEED)
    low, high = clustered_interval(totals, sizes, rng, confidence=1 - 2 * alpha)
    differences = np.array([d for ds in found.values() for d in ds], np.float64)
    was, now = (float(np.mean([chain_length(e) for e in side])) for side in zip(*pairs, strict=True))
    method = f"paired bootstrap interval at {100 * (1 - 2 * alpha):.4g} % over {len(found)} common chains"
    line = _found(margin, was, now, (low, high), method)
    n, second_moment = len(differences), float((differences**2).sum())
    changed = (second_moment + 1) / (n + 2)
    return _decide(margin, alpha, line, (low, high), n, float(differences.mean()), changed, fewest_pairs(margin, alpha))


def check_unpaired(baseline: Baseline, run: Baseline, margin: Margin, alpha: float, why: str) -> Check:
    """Compare two runs that share no episode, on the same tasks, equally many episodes of each.

    Success rates: the score interval of O. Miettinen and M. Nurminen, Statist. Med. 4 (1985) 213-226. Chain lengths:
    percentile bootstrap of either run.

    Raises:
        NotComparable: the tasks, or the shares of episodes they have, differ.
    """
    if dict(baseline.tasks) != dict(run.tasks):
        raise NotComparable(f"no common episodes ({why}), and not the same tasks either: there is nothing to compare")
    per_task = [{(e.suite, e.task) for e in side.episodes} for side in (baseline, run)]
    if per_task[0] != per_task[1]:
        raise NotComparable(f"no common episodes ({why}), and one of the two lacks episodes of some tasks")
    a, b = baseline.episodes, run.episodes
    percent = f"{100 * (1 - 2 * alpha):.4g} %"
    if margin.is_length:
        was, now = ([chain_length(e) for e in side] for side in (a, b))
        low, high = _unpaired_bootstrap(was, now, 1 - 2 * alpha)
        method = f"unpaired bootstrap interval at {percent} of {len(a)} and {len(b)} chains, {why}"
        rates = (float(np.mean(was)), float(np.mean(now)))
        spread = float(np.var(was) + np.var(now))
    else:
        from statsmodels.stats.proportion import confint_proportions_2indep

        wins = [sum(e.success for e in side) for side in (a, b)]
        low, high = confint_proportions_2indep(
            wins[1], len(b), wins[0], len(a), method="score", compare="diff", alpha=2 * alpha
        )
        method = f"Miettinen-Nurminen score interval at {percent} of {len(a)} and {len(b)} episodes, {why}"
        rates = (wins[0] / len(a), wins[1] / len(b))
        spread = sum(_shrunk(k, len(side)) for k, side in zip(wins, (a, b), strict=True))
    line = _found(margin, *rates, (float(low), float(high)), method)
    n = min(len(a), len(b))
    fewest = fewest_pairs(margin, alpha) if margin.is_length else 1
    return _decide(margin, alpha, line, (float(low), float(high)), n, rates[1] - rates[0], spread, fewest)


def fewest_pairs(margin: Margin, alpha: float) -> int:
    """Return how many pairs a pass needs at least, if not one of them changed: z^2 (1 - margin) / margin.

    The number from which Tango's interval of no change lies above -margin. For chains the margin counts as a share of
    an episode's instructions, as if a chain that changes lost them all: the bootstrap of no change is a certainty that
    nobody has.
    """
    z = NormalDist().inv_cdf(1 - alpha)
    share = margin.value / margin.n_instructions
    return math.floor(z * z * (1 - share) / share) + 1


def _decide(
    margin: Margin,
    alpha: float,
    line: str,
    interval: tuple[float, float],
    n: int,
    difference: float,
    spread: float,
    fewest: int,
) -> Check:
    low, high = interval
    if high < -margin.value and (not margin.is_length or n >= FEWEST_CHAINS):
        return Check(margin.what, "regression", f"{line}: below the margin of {margin.bound}")
    if low > -margin.value and (not margin.is_length or n >= fewest):
        return Check(margin.what, "pass", f"{line}: above the margin of {margin.bound}")
    if n < fewest:
        advice = f"{n} common episodes are fewer than the {fewest} that this margin and alpha need at least"
    else:
        advice = _more(margin, alpha, n, difference, spread)
    return Check(margin.what, "undecided", f"{line}: the margin of {margin.bound} is not decided", advice)


def _more(margin: Margin, alpha: float, n: int, difference: float, spread: float) -> str:
    """Say how many more episodes decide with ``POWER``: if nothing changed, else at the difference seen."""
    normal = NormalDist()
    z = normal.inv_cdf(1 - alpha) + normal.inv_cdf(POWER)
    assumed = "if nothing changed"
    total = math.ceil(z * z * spread / margin.value**2)
    if total <= n:
        gap = abs(difference + margin.value)
        if gap < margin.value / 20:
            return "the difference seen is the margin itself: hardly any number of episodes would decide"
        assumed = "if the difference stays as it is"
        total = math.ceil(z * z * spread / gap**2)
    more = max(total - n, 1)
    return f"about {more} more episodes would decide with {100 * POWER:.0f} % power {assumed}"


def _found(margin: Margin, was: float, now: float, interval: tuple[float, float], method: str) -> str:
    low, high = interval
    return (
        f"{margin.show_level(was)} -> {margin.show_level(now)}, difference {margin.show(now - was)} "
        f"{margin.show_interval(low, high)} ({method})"
    )


def chain_length(e: Frozen) -> int:
    """Return how many instructions were done in a row.

    Raises:
        NotComparable: the episode is a single task.
    """
    if e.solved is None:
        raise NotComparable(f"{e.suite} t{e.task} s{e.start} is no chain")
    return e.solved


def _shrunk(successes: int, n: int) -> float:
    """Return the variance of an outcome, never 0."""
    rate = (successes + 1) / (n + 2)
    return rate * (1 - rate)


def _unpaired_bootstrap(was: Sequence[int], now: Sequence[int], confidence: float) -> tuple[float, float]:
    rng = np.random.default_rng(SEED)
    means = []
    for lengths in (was, now):
        values, counts = np.unique(lengths, return_counts=True)
        means.append(rng.multinomial(len(lengths), counts / len(lengths), size=10_000) @ values / len(lengths))
    low, high = np.quantile(means[1] - means[0], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
