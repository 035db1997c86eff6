"""How many paired episodes a question needs, and what a number of episodes can answer.

``python -m rdvla_bench.leaderboards.power`` prints both as tables.

Two numbers decide: the difference d in success rate (B minus A) and the discordance, the share of episodes whose
outcomes differ between the runs. Two unrelated policies of 90 % disagree on 18 %; two versions of one policy on the
same episodes disagree on far fewer, and that is what pairing buys.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import numpy as np
from scipy.stats import binom


def independent_discordance(rate_a: float, rate_b: float) -> float:
    """Return the discordance of two runs that have nothing in common: the most cautious guess in a plan."""
    return rate_a * (1 - rate_b) + rate_b * (1 - rate_a)


def connor(difference: float, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the number of pairs with which McNemar's chi-squared test sees ``difference``, by formula.

    R. J. Connor, Biometrics 43 (1987) 207-211, unconditional; after O. S. Miettinen, Biometrics 24 (1968) 339-352:
    n = (z_alpha/2 sqrt(psi) + z_power sqrt(psi - d^2))^2 / d^2.

    Raises:
        ValueError: no difference, one larger than the discordance, or a level outside 0..1.
    """
    _check(difference, discordance, power, alpha)
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
    root = z_alpha * math.sqrt(discordance) + z_power * math.sqrt(discordance - difference**2)
    return math.ceil((root / difference) ** 2)


def power_of(n: int, difference: float, discordance: float, alpha: float = 0.05) -> float:
    """Return the chance that the exact McNemar test rejects with ``n`` pairs.

    By summation, no approximation: the number of discordant pairs is binomial(n, discordance), and among them the
    episodes that B wins are binomial with chance (1 + d / discordance) / 2.

    Raises:
        ValueError: as ``connor``.
    """
    _check(difference, discordance, 0.5, alpha)
    reach = np.arange(n + 1)
    weights = binom.pmf(reach, n, discordance)
    likely = reach[weights > 1e-12]
    chance = (1 + difference / discordance) / 2
    last = np.array([_last_rejected(int(m), alpha) for m in likely])
    rejects = binom.cdf(last, likely, chance) + binom.cdf(last, likely, 1 - chance)
    return float(np.sum(weights[likely] * np.where(last < 0, 0.0, rejects)))


def pairs_needed(difference: float, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the smallest number of pairs, from Connor's formula upwards, with which the exact test has ``power``.

    The exact test is stricter than the formula's by a few episodes. Its power rises in small teeth.

    Raises:
        ValueError: as ``connor``.
    """
    n = connor(difference, discordance, power=power, alpha=alpha)
    while power_of(n, difference, discordance, alpha) < power:
        n += max(1, n // 200)
    return n


def detectable(n: int, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Return the smallest difference that ``n`` pairs show with ``power``; None if none up to the discordance.

    Raises:
        ValueError: as ``connor``.
    """
    _check(discordance, discordance, power, alpha)
    if power_of(n, discordance, discordance, alpha) < power:
        return None
    low, high = 0.0, discordance
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(n, middle, discordance, alpha) >= power else (middle, high)
    return high


@cache
def _last_rejected(m: int, alpha: float) -> int:
    """Return the most wins of the lesser run among ``m`` discordant pairs at which the test rejects, -1 if none."""
    k = int(binom.ppf(alpha / 2, m, 0.5))  # the first whose tail exceeds, or equals, alpha / 2
    return k if 2 * binom.cdf(k, m, 0.5) <= alpha else k - 1


def _check(difference: float, discordance: float, power: float, alpha: float) -> None:
    if not 0 < abs(difference) <= discordance <= 1:
        raise ValueError(f"a difference of {difference:g} at discordance {discordance:g}: 0 < |d| <= discordance <= 1")
    if not (0 < power < 1 and 0 < alpha < 1):
        raise ValueError(f"power {power:g} and alpha {alpha:g}: both lie between 0 and 1")


def main() -> int:
    """Print the pairs that differences need, and the differences that pairs show, at several discordances."""
    psis = (0.02, 0.05, 0.10, 0.20)
    head = " | ".join(f"{100 * psi:g} % differ" for psi in psis)
    print(f"| difference | {head} | unrelated runs near 90 % |\n|{' --: |' * (len(psis) + 2)}")
    for d in (0.01, 0.02, 0.03, 0.05, 0.10):
        needed = [str(pairs_needed(d, psi)) if d <= psi else "–" for psi in psis]
        unrelated = pairs_needed(d, independent_discordance(0.9 - d / 2, 0.9 + d / 2))
        print(f"| {100 * d:g} pp | {' | '.join(needed)} | {unrelated} |")
    print(f"\n| pairs | {head} |\n|{' --: |' * (len(psis) + 1)}")
    for n in (20, 50, 100, 500, 2000):
        seen = [detectable(n, psi) for psi in psis]
        print(f"| {n} | {' | '.join('–' if d is None else f'{100 * d:.1f}' for d in seen)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
