"""Exit rules decide from chunks alone."""

from __future__ import annotations

import numpy as np
import pytest

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla.exit_rules import (
    CosineSimilarity,
    ExitRule,
    FixedDepth,
    L2SquaredChange,
    MeanSquaredChange,
)

RULES: list[ExitRule] = [FixedDepth(3), MeanSquaredChange(), L2SquaredChange(), CosineSimilarity()]


def chunks(seed: int = 0, batch: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, 8, 7)).astype(np.float32)


def test_l2_is_56_times_the_mean_square() -> None:
    a, b = chunks(0), chunks(1)
    np.testing.assert_allclose(L2SquaredChange().value(a, b), 56 * MeanSquaredChange().value(a, b), rtol=1e-12)


def test_mean_square_of_a_known_change() -> None:
    a = np.zeros((1, 8, 7), np.float32)
    b = a.copy()
    b[0, 0, 0] = 0.5
    assert MeanSquaredChange().value(a, b) == pytest.approx([0.25 / 56])
    assert L2SquaredChange().value(a, b) == pytest.approx([0.25])


def test_change_must_be_strictly_below_delta() -> None:
    rule = MeanSquaredChange(delta=1e-3)
    assert not rule.stops(1e-3)
    assert rule.stops(np.nextafter(1e-3, 0))
    assert not rule.stops(float("nan"))


def test_cosine_of_scaled_chunk_is_one_and_of_zero_chunk_is_zero() -> None:
    a = chunks()
    assert CosineSimilarity().value(a, 3 * a) == pytest.approx(np.ones(4))
    assert CosineSimilarity().value(np.zeros_like(a), a) == pytest.approx(np.zeros(4))
    assert CosineSimilarity().stops(0.9995)
    assert not CosineSimilarity().stops(0.999)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_sample_is_judged_without_its_neighbours(rule: ExitRule) -> None:
    a, b = chunks(0), chunks(1)
    alone = [rule.value(a[i : i + 1], b[i : i + 1])[0] for i in range(4)]
    np.testing.assert_array_equal(rule.value(a, b), alone)


def test_fixed_depth_reads_no_chunk() -> None:
    rule = FixedDepth(12)
    assert not any(rule.reads(depth) for depth in range(1, 13))
    assert rule.max_depth == 12


def test_chunks_below_the_earliest_comparison_are_not_decoded() -> None:
    rule = MeanSquaredChange(min_depth=5)
    assert [rule.reads(depth) for depth in range(1, 7)] == [False, False, False, True, True, True]


def test_descriptions_name_the_scale() -> None:
    assert MeanSquaredChange().describe() == {
        "rule": "chunk-change",
        "scale": "mean square (code, Table II)",
        "max_depth": 32,
        "min_depth": 2,
        "delta": 5e-4,
    }
    assert "eq. 7" in L2SquaredChange().describe()["scale"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedDepth(0), "depth must be a whole number from 1 to 1024, got 0"),
        (lambda: FixedDepth(-3), "got -3"),
        (lambda: MeanSquaredChange(delta=0.0), "delta must be a finite number above 0, got 0.0"),
        (lambda: L2SquaredChange(delta=float("nan")), "got nan"),
        (lambda: MeanSquaredChange(min_depth=1), "min_depth must be a whole number from 2"),
        (lambda: MeanSquaredChange(min_depth=9, max_depth=8), "min_depth 9 exceeds max_depth 8"),
        (lambda: CosineSimilarity(threshold=1.0), "threshold must be a cosine"),
    ],
)
def test_impossible_constants_are_refused(make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
