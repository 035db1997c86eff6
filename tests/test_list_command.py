"""Claims about the ``list`` command."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints, entry_points

import pytest

from rdvla_bench import registry
from rdvla_bench.commands.list import main
from rdvla_bench.protocol import CARDS


@pytest.fixture
def broken_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a policy and a suite whose modules do not exist."""

    def with_broken(*, group: str) -> EntryPoints:
        return EntryPoints([*entry_points(group=group), EntryPoint("spoilt", "no_such_module:factory", group)])

    monkeypatch.setattr(registry, "entry_points", with_broken)


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, list[dict[str, object]]]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, list[dict[str, object]]] = json.loads(capsys.readouterr().out)
    return found


def test_the_default_shows_policies_suites_and_protocol_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    for name in ("rdvla-adaptive", "random", "libero_object", "libero/paired@1"):
        assert name in printed


def test_a_policy_is_listed_with_its_distribution_and_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    by_name = {entry["name"]: entry for entry in listed(capsys, "policies")["policies"]}
    assert by_name["random"]["distribution"] == "rdvla-bench"
    assert by_name["random"]["summary"]
    assert by_name["random"]["settings"] == {"chunk": "8"}


@pytest.mark.usefixtures("broken_plugins")
@pytest.mark.parametrize("kind", ["policies", "suites"])
def test_a_broken_plugin_is_shown_as_broken_and_hides_no_other(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    by_name = {entry["name"]: entry for entry in listed(capsys, kind)[kind]}
    assert "no_such_module" in str(by_name["spoilt"]["broken"])
    assert len(by_name) > 2
    assert main([kind]) == 0
    assert "BROKEN: " in capsys.readouterr().out


@pytest.mark.usefixtures("broken_plugins")
def test_tasks_of_a_broken_suite_are_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert "spoilt" not in {entry["suite"] for entry in listed(capsys, "tasks")["tasks"]}


def test_the_tasks_of_libero_pro_and_of_the_validation_suites_are_listed_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = [entry for entry in listed(capsys, "tasks")["tasks"] if str(entry["suite"]).startswith("libero_")]
    assert len(tasks) == 130 + 160 + 40


def test_suite_restricts_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = listed(capsys, "tasks", "--suite", "libero_goal")["tasks"]
    assert [(entry["suite"], entry["task"]) for entry in tasks] == [("libero_goal", i) for i in range(10)]


def test_an_unknown_suite_is_answered_with_the_nearest_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--suite", "libero_gaol"]) == 2
    assert "Did you mean 'libero_goal'?" in capsys.readouterr().err


def test_protocol_cards_are_shown_with_numbers_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols"]) == 0
    printed = capsys.readouterr().out
    for card in CARDS.values():
        assert card.name in printed
        assert card.hash in printed
        for source in card.sources.values():
            assert source in printed


def test_listing_imports_no_simulator_and_no_model_library() -> None:
    code = (
        "import sys; from rdvla_bench.commands.list import main; main(['--json'])\n"
        "print(*{'torch', 'transformers', 'mujoco', 'ray', 'pandas'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
