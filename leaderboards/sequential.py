"""An anytime-valid test of paired differences: look after each episode, stop when it is decided.

Two bets run side by side on the differences d = new - baseline, each with the capital 1:

- *pass* bets against "the mean difference is at most -margin". Capital 1/alpha decides: no worse than the margin.
- *regression* bets against "the mean difference is at least -margin". Capital 1/alpha decides: worse than the margin.

If the hypothesis bet against holds, its capital is a non-negative supermartingale, which ever reaches 1/alpha with
probability alpha at most (J. Ville, Étude critique de la notion de collectif, 1939): looking after each episode costs
nothing. I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting, J. R. Stat. Soc. B 86
(2024) 1-27: section 4 for a sample, section 5 for a finite population drawn without replacement.

Non-obvious:
- Any stake that is fixed before the next difference is seen keeps the error rate; a good one only saves episodes.
  *Pass* stakes what would grow fastest (Kelly) if there were no change and differences stayed as large as so far;
  *regression*, which must find large and small losses, spreads its capital over several fixed stakes.
- The differences must come in an order drawn by chance. ``order`` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["pass", "regression", "undecided"]

STAKES = (0.03, 0.06, 0.12, 0.25, 0.5, 0.8)
"""Of *regression*, as shares of the largest stake that cannot lose more than there is."""

LARGEST_STAKE = 0.9
"""Of *pass*, as such a share: one lost episode never takes everything."""

PRIOR_EPISODES = 20.0
PRIOR_CHANGED = 0.05
"""Before anything is seen, *pass* stakes as if it had seen this many episodes with this share of them changed."""

HALVINGS = 24  # of the interval that holds the best stake

Item = TypeVar("Item")


def order(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """Return ``items`` in an order drawn from ``rng``: what is seen first is a fair sample of all, tasks mixed."""
    return [items[i] for i in rng.permutation(len(items))]


@dataclass
class SequentialTest:
    """Both bets on one stream of differences, or on many independent streams at once (for simulation)."""

    margin: float  # > 0, in the unit of the differences
    alpha: float  # of either wrong verdict
    bound: int = 1  # the largest |difference| there can be: 1 for success or not, 5 for CALVIN's chains
    population: int | None = None  # the claim is about exactly that many episodes; None: they are a sample
    streams: int = 1
    n: int = 0  # differences seen
    sums: NDArray[np.int64] = field(init=False)  # (streams,)
    verdicts: NDArray[np.int8] = field(init=False)  # (streams,) 1 pass, -1 regression, 0 undecided
    decided_at: NDArray[np.int64] = field(init=False)  # (streams,) differences seen by then; 0 while undecided
    _sizes: NDArray[np.float64] = field(init=False)  # (streams, bound + 1) how often |d| was 0, 1, ..., prior included
    _log_pass: NDArray[np.float64] = field(init=False)  # (streams,) log capital
    _log_regression: NDArray[np.float64] = field(init=False)  # (streams, stakes)

    def __post_init__(self) -> None:
        """Begin with the capital 1 on each side."""
        shape = self.streams
        self.sums, self.decided_at = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.verdicts = np.zeros(shape, np.int8)
        prior = np.full(self.bound + 1, PRIOR_CHANGED / self.bound)
        prior[0] = 1 - PRIOR_CHANGED
        self._sizes = np.tile(PRIOR_EPISODES * prior, (shape, 1))
        self._log_pass = np.zeros(shape)
        self._log_regression = np.zeros((shape, len(STAKES)))

    def observe(self, differences: NDArray[np.int64]) -> None:
        """Take one difference of each stream, (streams,), whole numbers in -bound..bound."""
        null = self._null_mean()
        d = differences / self.bound
        stake = _kelly_stake(self._sizes, null)
        with np.errstate(divide="ignore", invalid="ignore"):  # a population that is known ends in certainty
            self._log_pass += np.log(np.maximum(1 + stake * (d - null), 0))
            stakes = np.asarray(STAKES) / np.maximum(1 - null, 1e-9)[:, None]
            self._log_regression += np.log(np.maximum(1 - stakes * (d - null)[:, None], 0))
        self.n += 1
        self.sums += differences
        self._sizes[np.arange(self.streams), np.abs(differences)] += 1
        self._decide()

    @property
    def verdict(self) -> Verdict:
        """Return that of the only stream."""
        names: dict[int, Verdict] = {1: "pass", -1: "regression", 0: "undecided"}
        return names[int(self.verdicts[0])]

    @property
    def capitals(self) -> tuple[float, float]:
        """Return those of *pass* and *regression*, of the only stream; 1/alpha decides."""
        return float(np.exp(self._log_pass[0])), float(np.exp(self._log_regression[0]).mean())

    def _null_mean(self) -> NDArray[np.float64]:
        """Return what the next difference / bound is on average if the mean of all is exactly -margin."""
        if self.population is None:
            return np.full(self.streams, -self.margin / self.bound)
        left = self.population - self.n
        if left <= 0:
            raise ValueError(f"more differences than the population of {self.population}")
        return (-self.margin * self.population - self.sums) / (left * self.bound)

    def _decide(self) -> None:
        log_needed = np.log(1 / self.alpha)
        highest = self._log_regression.max(axis=1)
        with np.errstate(invalid="ignore"):
            mixed = highest + np.log(np.exp(self._log_regression - highest[:, None]).mean(axis=1))
        passed, regressed = self._log_pass >= log_needed, mixed >= log_needed
        if self.population is not None:  # what is left cannot change it any more
            slack = self.sums + self.margin * self.population
            reach = (self.population - self.n) * self.bound
            passed, regressed = passed | (slack - reach > 1e-9), regressed | (slack + reach < -1e-9)
        fresh = self.verdicts == 0
        self.verdicts[fresh & passed] = 1
        self.verdicts[fresh & regressed & ~passed] = -1
        self.decided_at[fresh & (self.verdicts != 0)] = self.n


def fewest_episodes(test: SequentialTest) -> int:
    """Return after how many episodes *pass* is decided at the earliest, if not one of them changes."""
    trial = SequentialTest(test.margin, test.alpha, test.bound, test.population)
    while trial.verdict == "undecided":
        trial.observe(np.zeros(1, np.int64))
    return trial.n


def _kelly_stake(sizes: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the stake that grows fastest if |d| is distributed as ``sizes`` and either sign is as likely.

    The derivative of the expected log capital falls with the stake, so its zero is found by halving.
    """
    bound = sizes.shape[1] - 1
    k = np.arange(bound + 1) / bound
    weights = sizes / (2 * sizes.sum(axis=1, keepdims=True))
    up, down = k - null[:, None], -k - null[:, None]
    low = np.zeros(len(null))
    high = np.where(null < 0, LARGEST_STAKE / np.maximum(1 + null, 1e-9), 0.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        stake = middle[:, None]
        slope = (weights * (up / (1 + stake * up) + down / (1 + stake * down))).sum(axis=1)
        rises = slope > 0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    return low
