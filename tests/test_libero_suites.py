"""Claims about the suites as data: they are the benchmark's, and cost nothing to have."""

from __future__ import annotations

import string
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest

import rdvla_bench.envs
from rdvla_bench.envs.libero.suites import STANDARD_SUITES, SUITES
from rdvla_bench.protocol import CARDS
from rdvla_bench.suite import Suite

suites = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
standard = pytest.mark.parametrize("suite", STANDARD_SUITES, ids=[suite.name for suite in STANDARD_SUITES])

SAVED = [suite for suite in SUITES.values() if suite.start_option == "init_state"]
saved = pytest.mark.parametrize("suite", SAVED, ids=[suite.name for suite in SAVED])


def test_libero_itself_has_130_tasks() -> None:
    assert {suite.name: len(suite.tasks) for suite in STANDARD_SUITES} == {
        "libero_spatial": 10,
        "libero_object": 10,
        "libero_goal": 10,
        "libero_10": 10,
        "libero_90": 90,
    }


@standard
def test_names_order_and_instructions_are_the_benchmarks(suite: Suite) -> None:
    benchmark = pytest.importorskip("libero.libero.benchmark").get_benchmark(suite.name)(task_order_index=0)
    assert [(t.name, t.instruction) for t in suite.tasks] == [(t.name, t.language) for t in benchmark.tasks]


@saved
def test_every_task_has_the_promised_number_of_start_states(suite: Suite) -> None:
    benchmark = pytest.importorskip("libero.libero.benchmark").get_benchmark(suite.name)(task_order_index=0)
    assert {len(benchmark.get_task_init_states(i)) for i in range(len(suite.tasks))} == {suite.n_starts}


@standard
def test_instructions_are_plain_words(suite: Suite) -> None:
    allowed = set(string.ascii_lowercase + " ")
    assert all(set(task.instruction) <= allowed for task in suite.tasks)


@suites
def test_layouts_name_every_value(suite: Suite) -> None:
    assert (len(suite.actions), len(suite.proprio)) == (7, 8)


@standard
def test_every_libero_card_caps_the_suite(suite: Suite) -> None:
    assert suite.default_protocol in CARDS
    assert all(suite.name in card.max_steps for card in CARDS.values() if card.name.startswith("libero/"))


@suites
def test_the_suite_is_registered_without_a_step_cap(suite: Suite) -> None:
    spec = gymnasium.spec(suite.env_id)
    assert (spec.entry_point, spec.kwargs) == (suite.env_entry, {"suite": suite.name})
    assert spec.max_episode_steps is None


def test_registering_again_changes_nothing_and_warns_of_nothing() -> None:
    before = dict(gymnasium.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rdvla_bench.envs.register()
    assert dict(gymnasium.registry) == before


def test_importing_the_environments_imports_no_simulator() -> None:
    code = (
        "import sys, rdvla_bench.envs, rdvla_bench.envs.libero.suites as s; assert len(s.SUITES) == 25;"
        "print([m for m in ('mujoco', 'robosuite', 'libero', 'torch', 'OpenGL', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_default_protocol_settles_with_a_valid_action() -> None:
    for suite in SUITES.values():
        action = np.asarray(CARDS[suite.default_protocol].settle_action)
        assert action.shape == (len(suite.actions),)
        assert (np.abs(action) <= 1).all()
