"""Simulated error rates and savings of the sequential gate: ``python -m rdvla_bench.leaderboards.gate_simulation``.

Paired episodes are drawn independently: the run loses one that the baseline won, wins one that it lost, or does
neither. ``changed`` is the share of the first two, ``difference`` what the run's rate gains.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.leaderboards.paired import Counts, tango_z
from rdvla_bench.leaderboards.sequential import SequentialTest


@dataclass(frozen=True)
class Scene:
    """What is true, and how many episodes there are."""

    margin: float
    changed: float
    difference: float
    most: int  # episodes of the baseline, after which the test gives up
    about: bool = False  # whether the claim is about exactly these episodes


@dataclass(frozen=True)
class Found:
    """What many simulated gates did."""

    passes: float  # share
    regressions: float
    mean: float  # episodes played
    median: float


def draw(scene: Scene, streams: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return paired differences, (most, streams) of -1, 0 or 1. With ``about`` each stream's sum is exact."""
    up, down = (scene.changed + scene.difference) / 2, (scene.changed - scene.difference) / 2
    if scene.about:
        wins, losses = round(up * scene.most), round(down * scene.most)
        urn = np.repeat(np.array([1, -1, 0]), [wins, losses, scene.most - wins - losses])
        return rng.permuted(np.tile(urn[:, None], (1, streams)), axis=0)
    u = rng.random((scene.most, streams))
    return np.where(u < up, 1, np.where(u < up + down, -1, 0)).astype(np.int64)


def simulate(scene: Scene, alpha: float, streams: int, rng: np.random.Generator) -> Found:
    """Run the sequential gate on ``streams`` independent streams."""
    population = scene.most if scene.about else None
    test = SequentialTest(scene.margin, alpha, population=population, streams=streams)
    for row in draw(scene, streams, rng):
        test.observe(row)
        if test.verdicts.all():
            break
    played = np.where(test.verdicts == 0, scene.most, test.decided_at)
    return Found(
        float((test.verdicts == 1).mean()),
        float((test.verdicts == -1).mean()),
        float(played.mean()),
        float(np.median(played)),
    )


def fixed_power(n: int, scene: Scene, alpha: float, streams: int, rng: np.random.Generator) -> float:
    """Return how often Tango's one-sided test passes with ``n`` paired episodes, by simulation."""
    up, down = (scene.changed + scene.difference) / 2, (scene.changed - scene.difference) / 2
    drawn = rng.multinomial(n, [up, down, 1 - up - down], size=streams)
    kinds, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    z = NormalDist().inv_cdf(1 - alpha)
    passes = [tango_z(Counts(n - int(b) - int(c), int(c), int(b), 0), -scene.margin) > z for b, c in kinds]
    return float(counts[passes].sum() / streams)


def fixed_size(scene: Scene, alpha: float, power: float) -> int:
    """Return the number of episodes at which Tango's test passes with ``power``, the truth being known in the plan."""
    normal = NormalDist()
    z = normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)
    n = max(10, math.ceil(z * z * (scene.changed - scene.difference**2) / (scene.margin + scene.difference) ** 2) // 2)
    while fixed_power(n, scene, alpha, 4000, np.random.default_rng(1)) < power:
        n = math.ceil(n * 1.03)
    return n


def tables(streams: int, alpha: float = 0.05) -> Iterator[str]:
    """Yield Markdown lines: the two errors, then what is saved."""
    yield "| margin | changed | true difference | claim | passes | regressions |"
    yield "|--:|--:|--:|---|--:|--:|"
    for margin in (0.02, 0.05):
        for changed in (0.05, 0.10, 0.30):
            for about in (False, True):
                scene = Scene(margin, changed, -margin, 2000, about)
                found = simulate(scene, alpha, streams, np.random.default_rng(0))
                yield (
                    f"| {100 * margin:g} pp | {100 * changed:g} % | {-100 * margin:g} pp | "
                    f"{'episodes' if about else 'policy'} | "
                    f"{100 * found.passes:.1f} % | {100 * found.regressions:.1f} % |"
                )
    yield ""
    yield (
        "| margin | changed | true difference | fixed 80 % | fixed 90 % | mean | median | decided "
        "| of 2000: mean, saved | `--claim episodes`: mean, saved |"
    )
    yield "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for margin, changed, difference in (
        (0.02, 0.0, 0.0),
        (0.02, 0.01, 0.0),
        (0.02, 0.03, 0.0),
        (0.02, 0.05, 0.0),
        (0.02, 0.05, 0.01),
        (0.02, 0.10, 0.0),
        (0.02, 0.10, -0.05),
        (0.02, 0.15, -0.10),
        (0.05, 0.05, 0.0),
        (0.05, 0.10, 0.0),
        (0.05, 0.20, 0.0),
        (0.05, 0.30, -0.20),
    ):
        yield _saving(margin, changed, difference, streams, alpha)


def _saving(margin: float, changed: float, difference: float, streams: int, alpha: float) -> str:
    scene = Scene(margin, changed, difference, 2000)
    sizes = [fixed_size(scene, alpha, power) if difference > -margin else None for power in (0.8, 0.9)]
    patient = simulate(Scene(margin, changed, difference, 8000), alpha, streams, np.random.default_rng(0))
    full = simulate(scene, alpha, streams, np.random.default_rng(0))
    about = simulate(Scene(margin, changed, difference, 2000, True), alpha, streams, np.random.default_rng(0))
    return (
        f"| {100 * margin:g} pp | {100 * changed:g} % | {100 * difference:+g} pp | {sizes[0] or '–'} | "
        f"{sizes[1] or '–'} | {patient.mean:.0f} | {patient.median:.0f} | "
        f"{100 * max(patient.passes, patient.regressions):.1f} % | "
        f"{full.mean:.0f}, {2000 / full.mean:.1f}x | {about.mean:.0f}, {2000 / about.mean:.1f}x |"
    )


if __name__ == "__main__":
    print("\n".join(tables(streams=2000)))
