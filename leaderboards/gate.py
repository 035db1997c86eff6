"""A gate: all that is asked of a run that is held against a baseline, and the one verdict that follows.

A check passes, finds a regression, or cannot tell. Success and chain length are judged in ``noninferiority`` and
``sequential``; ceilings on compute and equality to the bit here.
"""

from __future__ import annotations

from dataclasses import dataclass

from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.baseline import Baseline, Frozen
from rdvla_bench.leaderboards.margin import Margin
from rdvla_bench.leaderboards.noninferiority import Check, NotComparable, Pairs, chain_length
from rdvla_bench.leaderboards.sequential import SequentialTest, Verdict


@dataclass(frozen=True)
class TaskRow:
    """One task on the pairs, for reading; tasks alone decide nothing."""

    suite: str
    task: int
    name: str
    n: int
    baseline: float  # mean over the pairs: success rate, or chain length
    run: float


@dataclass(frozen=True)
class Gate:
    """All checks of one run against one baseline."""

    baseline: Baseline
    run: Baseline
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # episodes whose result is another, where that is asked for
    tasks: tuple[TaskRow, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Return the worst of the checks."""
        found = {check.verdict for check in self.checks}
        return "regression" if "regression" in found else "undecided" if "undecided" in found else "pass"

    @property
    def line(self) -> str:
        """Return the verdict in one line: the checks that made it so."""
        verdict = self.verdict
        deciding = [check for check in self.checks if check.verdict == verdict]
        return f"{verdict.upper()}: " + "; ".join(f"{c.name} {c.line}{_sentence(c.advice)}" for c in deciding)


def check_comparable(baseline: Baseline, run: Baseline) -> None:
    """Refuse a run that was played by other rules than the baseline.

    Raises:
        NotComparable: naming what differs.
    """
    if baseline.protocol != run.protocol:
        there, here = (f"{b.protocol['name']} ({b.protocol['hash']})" for b in (baseline, run))
        raise NotComparable(
            f"the baseline was played under {there}, the run under {here}: results of two protocol cards have no "
            f"difference. Play the run under {baseline.protocol['name']}, or freeze a new baseline"
        )
    if baseline.policy["privileged"] != run.policy["privileged"]:
        which = "baseline's" if baseline.policy["privileged"] else "run's"
        raise NotComparable(f"only the {which} policy reads the simulator's state: such results have no difference")
    if baseline.appearances and run.appearances and baseline.appearances != run.appearances:
        there, here = (" and ".join(b.appearances) for b in (baseline, run))
        raise NotComparable(f"the baseline's pictures were drawn from {there}, the run's from {here}")
    if not set(baseline.tasks) & set(run.tasks):
        there, here = (", ".join(b.tasks) for b in (baseline, run))
        raise NotComparable(f"the baseline has {there}, the run has {here}: no suite in common")


def notes(baseline: Baseline, run: Baseline) -> tuple[str, ...]:
    """Return what differs between the two and may explain a difference, or what is not compared."""
    n = len(common(baseline, run))
    said = (
        [f"{n} of the baseline's {len(baseline.episodes)} episodes are in the run"]
        if n < len(baseline.episodes)
        else []
    )
    for name in sorted({*baseline.versions, *run.versions}):
        there, here = (b.versions.get(name, "absent") for b in (baseline, run))
        if there != here:
            said.append(f"{name}: {there} in the baseline, {here} in the run")
    if baseline.policy["hash"] == run.policy["hash"]:
        said.append(f"same policy card ({run.policy['hash']})")
    return tuple(said)


def common(baseline: Baseline, run: Baseline) -> Pairs:
    """Return the pairs of episodes equal in suite, task, start, repetition and seed, in the order of the board."""
    here = run.find()
    return [(frozen, here[episode]) for episode, frozen in baseline.find().items() if episode in here]


def check_depth(run: Baseline, ceiling: float) -> Check:
    """Hold the mean depth a query against a ceiling.

    Raises:
        UsageError: the policy has no recurrent core.
    """
    depth = run.mean_depth
    if depth is None:
        raise UsageError("--max-mean-depth: the run's policy has no recurrent core, so it has no depth")
    return _ceiling("mean depth", depth, ceiling, "iterations a query")


def check_model_ms(run: Baseline, ceiling: float) -> Check:
    """Hold the median model time a query against a ceiling; the median, because one hiccup of a machine is none of it.

    Raises:
        UsageError: no model time was measured.
    """
    median = run.timing["model_ms_p50"]
    if median is None:
        raise UsageError("--max-model-ms: the run has no query whose model time was measured")
    return _ceiling("model time", median, ceiling, "ms, median a query")


def check_exact(baseline: Baseline, run: Baseline) -> tuple[Check, tuple[str, ...]]:
    """Ask whether every episode of the baseline has the same result in the run, to the bit; list those that have not.

    Raises:
        NotComparable: the run lacks episodes of the baseline.
    """
    pairs = common(baseline, run)
    lacking = len(baseline.episodes) - len(pairs)
    if lacking:
        raise NotComparable(
            f"--exact: the run lacks {lacking} of the baseline's {len(baseline.episodes)} episodes "
            f"(seed {baseline.seed} there, {run.seed} here)"
        )
    changed = tuple(_change(a, b, baseline.seed) for a, b in pairs if a != b)
    outcomes = sum((a.success, a.solved) != (b.success, b.solved) for a, b in pairs)
    line = (
        f"{len(changed)} of {len(pairs)} episodes have another result, {outcomes} of them another outcome"
        if changed
        else f"all {len(pairs)} episodes have the same result, to the bit"
    )
    return Check("exact", "regression" if changed else "pass", line), changed


def check_sequential(test: SequentialTest, margin: Margin, planned: int) -> Check:
    """Say what a sequential test found."""
    difference = float(test.sums[0]) / test.n if test.n else 0.0
    for_pass, for_regression = test.capitals
    seen = f"{test.n} of {planned} common episodes"
    about = "for these episodes" if test.population else "in general"
    line = f"difference {margin.show(difference)} after {seen}"
    match test.verdict:
        case "pass":
            line += f": above the margin of {margin.bound} {about}"
        case "regression":
            line += f": below the margin of {margin.bound} {about}"
        case _:
            line += f": the margin of {margin.bound} is not decided"
    line += f" (betting, alpha {test.alpha:g}, capital {for_pass:.3g} for pass, {for_regression:.3g} for regression)"
    advice = ""
    if test.verdict == "undecided" and test.n < planned:
        advice = "the run lacks the next episode of the order: play on"
    elif test.verdict == "undecided":
        advice = "a baseline of more episodes, or a wider margin, would decide"
    return Check(margin.what, test.verdict, line, advice)


def task_rows(pairs: Pairs, baseline: Baseline, margin: Margin) -> tuple[TaskRow, ...]:
    """Return the tasks of the pairs."""
    rows: dict[tuple[str, int], list[tuple[float, float]]] = {}
    value = chain_length if margin.is_length else _won
    for a, b in pairs:
        rows.setdefault((a.suite, a.task), []).append((value(a), value(b)))
    return tuple(
        TaskRow(
            suite,
            task,
            baseline.task_names.get(suite, {}).get(str(task), ""),
            len(values),
            sum(a for a, _ in values) / len(values),
            sum(b for _, b in values) / len(values),
        )
        for (suite, task), values in rows.items()
    )


def _ceiling(name: str, value: float, ceiling: float, unit: str) -> Check:
    if not ceiling > 0:
        raise UsageError(f"the ceiling of the {name} is {ceiling:g}, expected above 0")
    is_over = value > ceiling
    comparison = f"{value:.3g} {unit}, {'over' if is_over else 'within'} the ceiling of {ceiling:g}"
    return Check(name, "regression" if is_over else "pass", comparison)


def _change(a: Frozen, b: Frozen, seed: int) -> str:
    said = []
    if a.success != b.success:
        said.append("success -> failure" if a.success else "failure -> success")
    for name in ("solved", "steps", "queries", "iterations"):
        was, now = getattr(a, name), getattr(b, name)
        if was != now:
            said.append(f"{name} {was} -> {now}")
    return f"{a.episode(seed).id}: {', '.join(said) or f'other bits ({a.digest} -> {b.digest})'}"


def _sentence(advice: str) -> str:
    return f"; {advice}" if advice else ""


def _won(e: Frozen) -> int:
    return int(e.success)
