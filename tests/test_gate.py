"""Claims about single checks: margins, non-inferiority, ceilings, equality, and how they are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.baseline import Baseline, Frozen
from rdvla_bench.leaderboards.gate import (
    Gate,
    check_comparable,
    check_depth,
    check_exact,
    check_model_ms,
    common,
    notes,
    task_rows,
)
from rdvla_bench.leaderboards.gate_summary import summary
from rdvla_bench.leaderboards.junit import junit
from rdvla_bench.leaderboards.margin import Margin, check_alpha, parse_margin
from rdvla_bench.leaderboards.noninferiority import (
    Check,
    NotComparable,
    check_length,
    check_rate,
    check_unpaired,
    fewest_pairs,
)

TWO_POINTS = Margin(0.02)


def episodes(outcomes: Sequence[int], *, is_chain: bool = False, task: int = 0) -> tuple[Frozen, ...]:
    return tuple(
        Frozen("suite", task, i, 0, value > 0, value if is_chain else None, 100, 2, 16, f"{value:012x}")
        for i, value in enumerate(outcomes)
    )


def baseline(outcomes: Sequence[int] = (1, 1, 0, 1), *, seed: int = 0, is_chain: bool = False) -> Baseline:
    return Baseline(
        policy={"name": "tiny", "hash": "aa", "weights": "none", "settings": {}, "privileged": False},
        protocol={"name": "libero/paired@1", "hash": "bb"},
        seed=seed,
        tasks={"suite": (0,)},
        episodes_per_task=len(outcomes),
        task_names={"suite": {"0": "fill|it"}},
        n_instructions={"suite": 5 if is_chain else 1},
        appearances=(),
        versions={"mujoco": "3.3.2"},
        git_commit="c0ffee",
        timing={"model_ms_p50": 10.0, "model_ms_p95": 20.0, "model_ms_p99": 30.0},
        episodes=episodes(outcomes, is_chain=is_chain),
    )


def rate(a: Sequence[int], b: Sequence[int], margin: float = 0.02) -> Check:
    return check_rate(common(baseline(a), baseline(b)), Margin(margin), 0.05)


@pytest.mark.parametrize("text", ["2pp", "2%", "0.02", " 2 pp ", "2PP"])
def test_a_margin_is_read_as_people_write_it(text: str) -> None:
    assert parse_margin(text, 1).value == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("text", "n", "shown"), [("0.25pp", 1, "-0.25 pp"), ("7%", 1, "-7 pp"), ("0.125", 5, "-0.125")]
)
def test_a_margin_is_shown_as_it_was_given(text: str, n: int, shown: str) -> None:
    assert parse_margin(text, n).bound == shown


@pytest.mark.parametrize(
    ("text", "n_instructions", "message"),
    [
        ("2", 1, 'Did you mean "2pp"?'),
        ("0", 1, "above 0 and below 1"),
        ("-1pp", 1, "above 0 and below 1"),
        ("100pp", 1, "above 0 and below 1"),
        ("nan", 1, "above 0 and below 1"),
        ("two", 1, "expected a share"),
        ("", 1, "expected a share"),
        ("2pp", 5, "these episodes are chains"),
        ("5", 5, "above 0 and below 5"),
    ],
)
def test_a_margin_out_of_range_is_refused(text: str, n_instructions: int, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_margin(text, n_instructions)
    assert message in str(error.value)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0, float("nan"), 5.0])
def test_an_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(UsageError, match="expected a chance of error"):
        check_alpha(alpha)


def test_equal_outcomes_pass_only_with_enough_episodes() -> None:
    needed = fewest_pairs(TWO_POINTS, 0.05)
    assert needed == 133
    assert rate([1] * needed, [1] * needed).verdict == "pass"
    short = rate([1] * (needed - 1), [1] * (needed - 1))
    assert short.verdict == "undecided"
    assert "132 common episodes are fewer than the 133" in short.advice


def test_twenty_episodes_find_a_regression_only_if_it_is_large() -> None:
    assert rate([1] * 20, [1] * 18 + [0] * 2).verdict == "undecided"
    assert rate([1] * 20, [1] * 10 + [0] * 10).verdict == "regression"


def test_a_run_that_is_much_better_passes_with_few_episodes() -> None:
    assert rate([0] * 20, [1] * 20).verdict == "pass"


def test_a_wrong_verdict_is_as_rare_as_alpha_at_the_margin() -> None:
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(400):  # a true loss of exactly 10 points, a fifth of the episodes changed
        a = rng.random(150) < 0.9
        u = rng.random(150)
        b = np.where(a, u >= 0.15 / 0.9, u < 0.05 / 0.1)
        verdicts.append(rate([int(x) for x in a], [int(x) for x in b], 0.1).verdict)
    assert 0.02 < verdicts.count("pass") / 400 < 0.09
    assert 0.02 < verdicts.count("regression") / 400 < 0.09


def test_an_undecided_check_says_how_many_more_episodes_decide() -> None:
    found = rate([1] * 190 + [0] * 10, [0] * 8 + [1] * 190 + [0] * 2)
    assert found.verdict == "undecided"
    # z^2 changed / margin^2 - n with z = 1.645 + 0.842, changed = (16 + 1) / 202: by hand
    assert "about 1101 more episodes would decide with 80 % power if nothing changed" in found.advice


def test_the_advice_is_enough() -> None:
    rng = np.random.default_rng(1)
    passes = 0
    for _ in range(200):
        u = rng.random(1225)
        b = np.where(u < 16 / 202, 0, 1)
        a = np.where((u < 8 / 202) | (u > 1 - 8 / 202), 0, 1)
        passes += rate(a.tolist(), b.tolist()).verdict == "pass"
    assert passes > 0.7 * 200


def length(a: Sequence[int], b: Sequence[int], margin: float) -> Check:
    return check_length(common(baseline(a, is_chain=True), baseline(b, is_chain=True)), Margin(margin, 5), 0.05)


def test_chains_are_compared_by_their_length() -> None:
    assert length([5] * 25, [5] * 25, 0.5).verdict == "pass"
    assert length([5] * 24, [5] * 24, 0.5).verdict == "undecided"  # no change in few chains is no certainty
    assert length([5] * 25, [3] * 25, 0.5).verdict == "regression"
    found = length([5, 4] * 50, [4, 4] * 50, 0.5)
    assert found.verdict == "undecided"
    assert "4.50 -> 4.00, difference -0.50" in found.line


def test_runs_of_other_seeds_are_compared_unpaired_by_a_named_method() -> None:
    a, b = baseline([1] * 180 + [0] * 20), baseline([1] * 90 + [0] * 110, seed=1)
    assert not common(a, b)
    found = check_unpaired(a, b, TWO_POINTS, 0.05, "seeds differ")
    assert found.verdict == "regression"
    assert "Miettinen-Nurminen" in found.line
    assert check_unpaired(a, replace(a, seed=1), TWO_POINTS, 0.05, "").verdict == "undecided"
    chains = [baseline([5, 4, 3, 2] * 50, seed=s, is_chain=True) for s in (0, 1)]
    assert check_unpaired(*chains, Margin(0.5, 5), 0.05, "").verdict == "pass"


def test_runs_of_other_tasks_are_not_compared_unpaired() -> None:
    other = replace(baseline(seed=1), tasks={"suite": (0, 1)})
    with pytest.raises(NotComparable, match="not the same tasks"):
        check_unpaired(baseline(), other, TWO_POINTS, 0.05, "")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(baseline(), protocol={"name": "libero/openpi@1", "hash": "cc"}), "under libero/openpi@1 (cc)"),
        (replace(baseline(), protocol={"name": "libero/paired@1", "hash": "cc"}), "under libero/paired@1 (cc)"),
        (replace(baseline(), policy={**baseline().policy, "privileged": True}), "only the run's policy reads"),
        (replace(baseline(), tasks={"other": (0,)}), "no suite in common"),
    ],
)
def test_what_follows_other_rules_is_not_compared(other: Baseline, message: str) -> None:
    with pytest.raises(NotComparable) as error:
        check_comparable(baseline(), other)
    assert message in str(error.value)


def test_pictures_of_another_appearance_are_not_compared() -> None:
    a, b = (replace(baseline(), appearances=(text,)) for text in ("original", "procedural"))
    check_comparable(a, a)
    with pytest.raises(NotComparable, match="drawn from original, the run's from procedural"):
        check_comparable(a, b)


def test_other_versions_are_said() -> None:
    said = notes(baseline(), replace(baseline(), versions={"mujoco": "3.9.0"}))
    assert "mujoco: 3.3.2 in the baseline, 3.9.0 in the run" in said


def test_ceilings_are_on_the_run() -> None:
    run = baseline()
    assert check_depth(run, 8.0).verdict == "pass"  # 16 iterations in 2 queries an episode
    assert check_depth(run, 7.9).verdict == "regression"
    assert check_model_ms(run, 10.0).verdict == "pass"
    assert check_model_ms(run, 9.9).verdict == "regression"
    with pytest.raises(UsageError, match="no recurrent core"):
        check_depth(replace(run, episodes=tuple(replace(e, iterations=0) for e in run.episodes)), 8.0)
    with pytest.raises(UsageError, match="expected above 0"):
        check_depth(run, 0.0)


def test_exact_lists_every_changed_episode() -> None:
    a = baseline([1, 1, 0, 1])
    assert check_exact(a, a)[0].verdict == "pass"
    changed = (replace(a.episodes[0], success=False, steps=280), replace(a.episodes[1], digest="f" * 12))
    check, listed = check_exact(a, replace(a, episodes=(*changed, *a.episodes[2:])))
    assert check.verdict == "regression"
    assert "2 of 4 episodes have another result, 1 of them another outcome" in check.line
    assert listed[0] == "suite-t00-s000-r0: success -> failure, steps 100 -> 280"
    assert listed[1].startswith("suite-t00-s001-r0: other bits")
    with pytest.raises(NotComparable, match="lacks 1 of the baseline's 4"):
        check_exact(a, replace(a, episodes=a.episodes[1:]))


def gate(*verdicts: str, changed: tuple[str, ...] = ()) -> Gate:
    checks = tuple(Check(f"check {i}", verdict, "found <this> & that") for i, verdict in enumerate(verdicts))  # type: ignore[arg-type]
    a = baseline()
    return Gate(a, a, checks, ("a note",), changed, task_rows(common(a, a), a, TWO_POINTS))


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        (("pass", "pass"), "pass"),
        (("pass", "undecided"), "undecided"),
        (("undecided", "regression", "pass"), "regression"),
    ],
)
def test_the_worst_check_is_the_verdict(verdicts: tuple[str, ...], worst: str) -> None:
    assert gate(*verdicts).verdict == worst
    assert gate(*verdicts).line.startswith(worst.upper())
    assert gate(*verdicts).line.count("\n") == 0


def test_junit_counts_regressions_as_failures_and_the_undecided_as_errors() -> None:
    text = junit(gate("pass", "regression", "undecided", changed=("suite-t00-s000-r0: bell \x07",)))
    suite = ET.fromstring(text).find("testsuite")
    assert suite is not None
    assert {k: suite.get(k) for k in ("tests", "failures", "errors")} == {"tests": "4", "failures": "2", "errors": "1"}
    assert [case.get("name") for case in suite.iter("testcase")][-1] == "suite-t00-s000-r0"
    assert "found <this> & that" in (suite.findtext("testcase/failure") or "")


def test_the_summary_shows_checks_tasks_and_changes_in_tables_that_hold() -> None:
    text = summary(gate("pass", "regression", changed=tuple(f"e{i}: x" for i in range(60))), TWO_POINTS)
    assert text.startswith("## ❌ tiny: regression")
    assert "| suite | 0 | fill\\|it | 4 | 75.0 % | 75.0 % | +0.0 pp |" in text
    assert text.count("- e") == 50
    assert "and 10 more" in text
