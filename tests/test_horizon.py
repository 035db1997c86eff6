"""Horizon rules, each in the paper's and in the released code's sense."""

from __future__ import annotations

import numpy as np
import pytest

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.horizon import (
    BinaryHorizon,
    FixedHorizon,
    LinearDecayHorizon,
    ReleasedBinaryHorizon,
    ReleasedLinearDecayHorizon,
)
from rdvla_bench.policy import HorizonRule
from rdvla_bench.types import ActionChunk, Compute

RULES = [
    FixedHorizon(5),
    BinaryHorizon(),
    ReleasedBinaryHorizon(),
    LinearDecayHorizon(),
    ReleasedLinearDecayHorizon(),
]


def chunk(depth: int, length: int = 8) -> ActionChunk:
    return ActionChunk(np.zeros((length, 7), np.float32), Compute(depth=depth))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_every_rule_stays_within_the_chunk(rule) -> None:
    assert isinstance(rule, HorizonRule)
    for length in (1, 3, 8):
        horizons = {rule(chunk(depth, length)) for depth in range(1, 65)}
        assert horizons <= set(range(1, length + 1))
    assert max(rule(chunk(depth)) for depth in range(1, 65)) == rule.longest


def test_paper_executes_fewer_actions_after_more_iterations() -> None:
    rule = BinaryHorizon(short=4, long=8, tau=8)
    assert [rule(chunk(depth)) for depth in (1, 8, 9, 32)] == [8, 8, 4, 4]


def test_released_code_executes_more_actions_after_more_iterations() -> None:
    rule = ReleasedBinaryHorizon()
    assert [rule(chunk(depth)) for depth in (1, 4, 5, 32)] == [4, 4, 8, 8]


def test_the_two_binary_senses_are_opposite_and_never_equal() -> None:
    paper, released = BinaryHorizon(tau=6), ReleasedBinaryHorizon(tau=6)
    assert all({paper(chunk(d)), released(chunk(d))} == {4, 8} for d in range(1, 33))
    assert paper != released
    assert paper.describe() != released.describe()


def test_equation_9_and_the_released_table_differ_at_depth_7_alone() -> None:
    paper, released = LinearDecayHorizon(), ReleasedLinearDecayHorizon()
    assert [released(chunk(d)) for d in (6, 7, 8, 9, 12, 13, 14, 40)] == [8, 7, 7, 6, 3, 2, 2, 2]
    assert [d for d in range(1, 65) if paper(chunk(d)) != released(chunk(d))] == [7]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedHorizon(0), "fixed horizon: n must be a whole number of at least 1, got 0"),
        (lambda: BinaryHorizon(short=8, long=4), "short 8 exceeds long 4"),
        (lambda: BinaryHorizon(tau=0), "tau must be"),
        (lambda: LinearDecayHorizon(h_min=9), "h_min 9 exceeds h_max 8"),
        (lambda: LinearDecayHorizon(h_min=-1), "h_min must be"),
        (lambda: ReleasedBinaryHorizon(short=2.5), "got 2.5"),
    ],
)
def test_impossible_constants_are_refused(make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
