"""Claims about compute curves: what is measured, what may be compared, what is refused."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import synthetic_runs as synthetic

from rdvla_bench.commands.curves import load, main
from rdvla_bench.leaderboards.curves import Curves, make_curves
from rdvla_bench.leaderboards.pareto import beside, front, front_shares, matched
from rdvla_bench.leaderboards.resampling import Resampling, Sample, draw_counts


def sample(value: Sequence[float], depth: float, *, first: int = 0, cost: float = 1.0) -> Sample:
    """Return episodes of one query each, at one depth, ``first`` the start of the first."""
    ones = np.ones(len(value))
    keys = tuple(("libero_object", 0, first + i, 0, 0) for i in range(len(value)))
    return Sample(
        keys, np.array(value, float), depth * ones, ones, ones, cost * depth * 1e9 * ones, 0.01 * depth * ones
    )


def half(n: int, share: float) -> list[float]:
    return [1.0] * round(share * n) + [0.0] * (n - round(share * n))


def curves_of(*folders: Path) -> Curves:
    return make_curves(load(folders))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return synthetic.write_example(tmp_path_factory.mktemp("example"), n_tasks=3, n_episodes=40)


@pytest.fixture(scope="module")
def curves(example: tuple[Path, Path]) -> Curves:
    return curves_of(*example)


def test_a_front_is_what_nothing_dominates() -> None:
    costs, values = np.array([1.0, 2.0, 3.0, 2.0]), np.array([0.2, 0.5, 0.4, 0.5])
    assert front(costs, values).tolist() == [True, True, False, True]


def test_a_front_holds_the_best_and_the_cheapest_and_rises() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        costs, values = rng.random(12), rng.integers(0, 6, 12) / 5
        on = front(costs, values)
        best = np.flatnonzero(values == values.max())
        assert on[best[np.argmin(costs[best])]]
        assert on[np.argmin(costs)]
        assert (np.diff(values[on][np.argsort(costs[on])]) > 0).all()


def test_a_clear_front_is_sure_and_a_tie_is_not() -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.permutation(half(200, 0.8)) for _ in range(2)]
    cheap, dear, worse = sample(noisy[0], 2), sample(noisy[1], 4), sample(half(200, 0.2), 8)
    shares = front_shares([cheap, dear, worse], "depth", Resampling())
    assert shares[0] == (True, 1.0)
    assert 0.2 < shares[1][1] < 0.8
    assert shares[2] == (False, 0.0)


def test_runs_that_never_succeed_are_not_surely_dominated() -> None:
    failed = [sample([0.0] * 10, depth) for depth in (1, 2, 4)]
    (first, sure), *others = front_shares(failed, "depth", Resampling())
    assert (first, sure) == (True, 1.0)
    assert all(not on and share > 0.05 for on, share in others)


def test_resamples_keep_the_number_of_episodes_of_every_task() -> None:
    keys = [("s", task, i, 0, 0) for task, n in ((0, 5), (1, 11)) for i in range(n)]
    counts = draw_counts(keys, np.random.default_rng(0), 300)
    assert (counts[:, :5].sum(1) == 5).all()
    assert (counts[:, 5:].sum(1) == 11).all()


def test_equal_sets_of_episodes_get_equal_draws_even_after_they_were_forgotten() -> None:
    resampling = Resampling(50)
    one = sample([1.0] * 9, 1).keys
    before = resampling.counts(one).copy()
    for first in range(1, 20):
        assert not np.array_equal(resampling.counts(sample([1.0] * 9, 1, first=first).keys), before)
    assert np.array_equal(resampling.counts(one), before)


def test_equal_depth_is_interpolated_between_the_neighbours() -> None:
    low, high = sample(half(100, 0.4), 4), sample(half(100, 0.8), 8)
    found = matched(sample(half(100, 0.7), 5), low, high, "depth", Resampling())
    assert found is not None
    assert (found.weight, found.is_paired, found.n_episodes) == (0.25, True, 100)
    assert math.isclose(found.fixed, 0.5)
    assert math.isclose(found.difference.value, 0.2)
    assert found.verdict == "higher"


def test_the_interpolation_is_a_coin_tossed_between_two_depths() -> None:
    rng = np.random.default_rng(1)
    low, high = rng.permutation(half(4000, 0.5)), rng.permutation(half(4000, 0.9))
    coin = rng.random(4000) < 0.25
    mixed = Sample(
        sample(low, 4).keys,
        np.where(coin, high, low), np.where(coin, 8.0, 4.0), *(np.ones(4000) for _ in range(4)),
    )  # fmt: skip
    found = matched(mixed, sample(low, 4), sample(high, 8), "depth", Resampling())
    assert found is not None
    assert found.verdict == "undecided"
    assert abs(found.difference.value) < 0.02


def test_nothing_is_extrapolated() -> None:
    low, high = sample(half(50, 0.4), 4), sample(half(50, 0.8), 8)
    assert matched(sample(half(50, 0.7), 9), low, high, "depth", Resampling()) is None


def test_only_common_episodes_are_paired() -> None:
    a, b = sample(half(60, 0.5), 4), sample(half(60, 0.5), 4, first=40)
    assert (beside(a, b, Resampling()).n_episodes, beside(a, b, Resampling()).is_paired) == (20, True)
    c = sample(half(60, 0.5), 4, first=100)
    assert (beside(a, c, Resampling()).n_episodes, beside(a, c, Resampling()).is_paired) == (60, False)


def test_pairing_narrows_the_interval_of_runs_that_agree() -> None:
    rng = np.random.default_rng(0)
    value = rng.permutation(half(200, 0.5))
    other = value.copy()
    other[:6] = 1 - other[:6]
    together = beside(sample(value, 4), sample(other, 2), Resampling()).difference
    apart = beside(sample(value, 4), sample(other, 2, first=1000), Resampling()).difference
    assert together.high - together.low < 0.6 * (apart.high - apart.low)


def test_runs_that_agree_everywhere_are_not_certain_to_be_equal() -> None:
    values = [1.0] * 20
    low, high = sample(values, 4), sample(values, 8)
    for found in (
        beside(sample(values, 5), low, Resampling()),
        matched(sample(values, 5), low, high, "depth", Resampling()),
    ):
        assert found is not None
        assert found.difference.low < -0.03
        assert found.difference.high > 0.03


@pytest.mark.parametrize("n", [40, 200])
def test_the_interval_at_equal_depth_covers_the_truth(n: int) -> None:
    """95 % intervals cover 92 to 99 % of 300 simulated comparisons (standard error 1.3 %)."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        shared, luck = rng.random(n) < 0.5, rng.random(n)
        best, low, high = (np.where(shared, luck, rng.random(n)) < p for p in (0.8, 0.6, 0.9))
        resampling = Resampling(400, int(rng.integers(1 << 30)))
        found = matched(sample(best, 6), sample(low, 4), sample(high, 8), "depth", resampling)
        assert found is not None
        covered += found.difference.low <= 0.05 <= found.difference.high  # 0.8 - (0.6 + 0.9) / 2
    assert 0.92 <= covered / 300 <= 0.99


def test_points_say_what_was_reached_and_spent(curves: Curves) -> None:
    fixed = [point for point in curves.points if point.series == "rdvla-fixed"]
    assert [point.label for point in fixed] == [f"depth {depth}" for depth in synthetic.DEPTHS]
    assert [point.depth for point in fixed] == list(synthetic.DEPTHS)
    assert {point.n for point in curves.points} == {120}
    assert curves.of("libero_object")[0].kind == "adaptive"
    first = fixed[0].costs["gflop"]
    assert first is not None
    assert first.low <= first.value <= first.high


def test_every_adaptive_run_is_shown_beside_fixed_depths_2_and_4(curves: Curves) -> None:
    for run in {point.run for point in curves.points if point.kind == "adaptive"}:
        assert [b.depth for b in curves.besides if b.run == run] == [2, 4]


def test_other_weights_are_no_match(tmp_path: Path) -> None:
    for depth in (2, 8):
        synthetic.write(tmp_path / f"f{depth}", synthetic.fixed(depth), n_tasks=1)
    folder = synthetic.write(tmp_path / "a", synthetic.adaptive(1e-3), n_tasks=1)
    stored = json.loads((folder / "run.json").read_text())
    stored["policy_card"]["weights_sha256"] = "another"
    (folder / "run.json").write_text(json.dumps(stored))
    found = curves_of(tmp_path / "f2", tmp_path / "f8", folder)
    assert not found.besides
    assert {match.note for match in found.matches} == {"no fixed depth of the same weights"}


def test_a_run_with_errors_or_privilege_is_compared_with_nothing(tmp_path: Path) -> None:
    folders = [
        synthetic.write(tmp_path / "f2", synthetic.fixed(2), n_tasks=2),
        synthetic.write(tmp_path / "f8", synthetic.fixed(8), n_tasks=2, n_errors=1),
        synthetic.write(tmp_path / "f9", synthetic.fixed(9), n_tasks=2, privileged=True),
        synthetic.write(tmp_path / "a", synthetic.adaptive(1e-3), n_tasks=2),
    ]
    found = curves_of(*folders)
    by = {Path(point.run).name: point for point in found.points}
    assert (by["f8"].standing, by["f9"].standing, by["f8"].n) == ("1 error", "privileged", 39)
    assert not by["f8"].front
    assert not by["f9"].front
    assert "depth" in by["f2"].front
    assert all(match.difference is None for match in found.matches)
    assert any("f8" in note and "1 error" in note for note in found.notes)


def test_depth_follows_the_episode(curves: Curves) -> None:
    profile = next(p for p in curves.profiles if p.label == "delta 0.0002")
    grasp, begin = (next(d for d in profile.by_fraction if d.at == at) for at in (0.45, 0.05))
    assert grasp.low > begin.high
    assert [round(d.at, 2) for d in profile.by_fraction] == [round(0.05 + 0.1 * i, 2) for i in range(10)]
    assert sum(d.n_queries for d in profile.by_fraction) == sum(d.n_queries for d in profile.by_task)
    assert [d.name for d in profile.by_task] == ["pick up thing 0", "pick up thing 1", "pick up thing 2"]


def test_the_exit_map_has_whole_columns_and_ends_where_the_queries_end(curves: Curves) -> None:
    exits = next(p for p in curves.profiles if p.label == "delta 0.001").exits
    assert exits is not None
    assert exits.iterations[0] == 2
    assert np.allclose(np.sum(exits.shares, axis=0), 1)
    assert exits.running[0] == 1.0
    assert list(exits.running) == sorted(exits.running, reverse=True)
    assert next(p for p in curves.profiles if p.kind == "fixed").exits is None


def test_chains_have_lengths_and_depth_by_subtask(tmp_path: Path) -> None:
    options = {"suites": ("calvin_d",), "n_episodes": 60, "protocol": "calvin/procedural@1"}
    found = curves_of(*synthetic.write_example(tmp_path, **options))
    assert found.measure == "average chain length"
    assert max(point.value.value for point in found.points) > 3
    profile = next(p for p in found.profiles if p.kind == "adaptive")
    assert {d.name for d in profile.by_task} == set(synthetic.CHAIN)


def test_a_policy_without_recurrence_has_no_depth(tmp_path: Path) -> None:
    found = curves_of(synthetic.write(tmp_path / "hold", synthetic.plain(), n_tasks=1))
    (point,) = found.points
    assert (point.kind, point.depth, point.depth_sd) == ("plain", None, None)
    assert point.latency_ms is not None
    assert not found.profiles
    assert not found.matches


def test_suites_stand_apart_and_together(tmp_path: Path) -> None:
    folder = synthetic.write(
        tmp_path / "a", synthetic.fixed(4), suites=("libero_object", "libero_goal"), n_tasks=2, n_episodes=10
    )
    found = curves_of(folder)
    assert found.suites == ("libero_object", "libero_goal", "all suites")
    assert [point.n for point in found.points] == [20, 20, 40]


def test_the_same_runs_give_the_same_bytes(example: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main([*map(str, example), "--out", str(tmp_path / name), "--plots", "none"]) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["beside.csv", "curves.json", "depths.csv", "exit-traces.csv", "matched.csv", "points.csv"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_files_hold_what_is_drawn(example: tuple[Path, Path], tmp_path: Path, curves: Curves) -> None:
    main([*map(str, example), "--out", str(tmp_path), "--plots", "none"])
    with (tmp_path / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(curves.points)
    assert math.isclose(float(rows[0]["success_rate"]), curves.points[0].value.value)
    stored = json.loads((tmp_path / "curves.json").read_text())
    assert stored["schema"] == 1
    assert "coin" in stored["method"]
    assert "on the front" in stored["fronts"]["libero_object"]["depth"]


def test_the_table_prints_depths_2_and_4_below_each_adaptive_run(
    example: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*map(str, example)]) == 0
    lines = capsys.readouterr().out.splitlines()
    starts = [i for i, line in enumerate(lines) if "rdvla-adaptive delta" in line and "front" not in line]
    assert len(starts) == len(synthetic.DELTAS)
    for start in starts:
        assert "beside depth 2" in lines[start + 1]
        assert "beside depth 4" in lines[start + 2]
        assert "=depth" in lines[start + 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: [], "no run given"),
        (lambda at: [at / "nowhere"], "there is no folder"),
        (lambda at: [at], "is no run folder"),
        (lambda at: [synthetic.write(at / "a", synthetic.fixed(2), n_tasks=1, n_episodes=0)], "has no episode yet"),
        (
            lambda at: [synthetic.write(at / "a", synthetic.fixed(2), n_tasks=1, n_episodes=2, n_errors=2)],
            "has no scored episode",
        ),
        (lambda at: 2 * [synthetic.write(at / "a", synthetic.fixed(2), n_tasks=1)], "is given twice"),
        (
            lambda at: [
                synthetic.write(at / "a", synthetic.fixed(2), n_tasks=1),
                synthetic.write(at / "b", synthetic.fixed(4), n_tasks=1, protocol="libero/openpi@1"),
            ],
            "different protocol cards share no curve",
        ),
        (
            lambda at: [
                synthetic.write(at / "a", synthetic.fixed(2), n_tasks=1),
                synthetic.write(at / "b", synthetic.fixed(4), n_tasks=2),
            ],
            "a curve over different tasks",
        ),
    ],
)
def test_a_wrong_call_gets_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, message: str
) -> None:
    folders = make(tmp_path)  # type: ignore[operator]
    assert main([*map(str, folders), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_needs_neither_pandas_nor_matplotlib() -> None:
    code = (
        "import sys\nfrom rdvla_bench.commands.curves import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
