"""Claims about depth by phase: what is contact, what is replayed, what is kept, what is drawn."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rdvla_fakes
import synthetic_contacts
import synthetic_runs as synthetic

from rdvla_bench.commands import curves_contacts
from rdvla_bench.commands.curves import load, main
from rdvla_bench.commands.curves_contacts import CONTACTS, contacts_of
from rdvla_bench.commands.run import main as run_main
from rdvla_bench.contact import Felt
from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.phases import Phase, PhaseProfile, phase_profiles, phases
from rdvla_bench.ledger import EPISODES, actions_path, read_records
from rdvla_bench.record import Record
from rdvla_bench.types import Outcome

LETTER = {Phase.BEFORE: "b", Phase.CONTACT: "c", Phase.AFTER: "a"}


def letters(marks: str, *, begins_held: bool = False) -> str:
    return "".join(LETTER[phase] for phase in phases([mark == "1" for mark in marks], begins_held=begins_held))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("0011100", "bbcccaa"),
        ("0101", "bcac"),  # a second try is no approach
        ("0000", "bbbb"),  # never touched anything
        ("11", "cc"),
        ("", ""),
    ],
)
def test_free_motion_before_the_first_contact_is_told_from_that_after(marks: str, expected: str) -> None:
    assert letters(marks) == expected


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("110011", "ccbbcc"),  # lets go of the last thing, takes the next
        ("1100", "ccaa"),  # places what it held
        ("0010", "bbca"),
        ("111", "ccc"),
    ],
)
def test_what_the_last_subtask_held_is_its_first_contact_only_without_another(marks: str, expected: str) -> None:
    assert letters(marks, begins_held=True) == expected


def profile_of(folder: Path, **contacts: tuple[bool, ...]) -> PhaseProfile:
    (profile,) = phase_profiles(load([folder]), {str(folder): contacts or contacts_of(folder)})
    return profile


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Twelve made-up episodes that think more at a grasp and a place."""
    folder = synthetic.write(tmp_path / "run", synthetic.adaptive(1e-3), n_tasks=2, n_episodes=6)
    return synthetic_contacts.write(folder)


def test_means_and_shares_are_over_the_queries_of_a_phase(run: Path) -> None:
    found: dict[Phase, list[int]] = {phase: [] for phase in Phase}
    contacts = contacts_of(run)
    for name, record in read_records(run).items():
        for phase, depth in zip(phases(contacts[name]), record.result.depths, strict=True):
            found[phase].append(depth)
    profile = profile_of(run)
    assert [depth.name for depth in profile.depths] == [phase.value for phase in Phase]
    for depth, phase in zip(profile.depths, Phase, strict=True):
        assert depth.mean == pytest.approx(np.mean(found[phase]))
        assert depth.n_queries == len(found[phase])
        assert depth.low <= depth.mean <= depth.high
        assert profile.shares[phase] == pytest.approx(len(found[phase]) / sum(map(len, found.values())))
    free = found[Phase.BEFORE] + found[Phase.AFTER]
    assert profile.difference is not None
    assert profile.difference.value == pytest.approx(np.mean(found[Phase.CONTACT]) - np.mean(free))
    assert profile.difference.low < profile.difference.value < profile.difference.high


def test_a_chain_is_cut_into_its_subtasks(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "chains", synthetic.adaptive(1e-3), suites=["calvin_d"], n_episodes=8)
    contacts: dict[str, tuple[bool, ...]] = {}
    n_before = 0
    for name, record in read_records(folder).items():
        ends = np.cumsum(record.result.subtask_steps)
        begun = np.cumsum((0, *record.result.horizons[:-1]))
        of = np.minimum(np.searchsorted(ends, begun, side="right"), len(ends) - 1)
        marks = [False] * len(of)
        for subtask in range(len(ends)):  # each subtask: one free query, then contact
            first = int(np.argmax(of == subtask))
            n_before += 1
            for query in range(first + 1, int((of == subtask).sum()) + first):
                marks[query] = True
        contacts[name] = tuple(marks)
    profile = profile_of(folder, **contacts)
    found = {depth.name: depth.n_queries for depth in profile.depths}
    assert found == {Phase.BEFORE: n_before, Phase.CONTACT: sum(map(sum, contacts.values()))}


def test_an_interval_is_over_episodes_not_queries(tmp_path: Path) -> None:
    """Two kinds of episodes that differ in depth: however many queries, the mean is no surer than 10 episodes."""
    folder = synthetic.write(tmp_path / "run", synthetic.adaptive(1e-3), n_tasks=1, n_episodes=10)
    rows = [json.loads(line) for line in (folder / EPISODES).read_text().splitlines()]
    for i, row in enumerate(rows):
        row["result"]["depths"] = [2 + 4 * (i % 2)] * len(row["result"]["depths"])
        row["result"]["exit_traces"] = [[] for _ in row["result"]["depths"]]
    (folder / EPISODES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (before, *_) = profile_of(synthetic_contacts.write(folder, lambda fraction: False)).depths
    assert before.high - before.low > 1.5


def test_episodes_without_contacts_are_left_out_and_counted(run: Path) -> None:
    contacts = contacts_of(run)
    name = next(iter(contacts))
    profile = profile_of(run, **{key: value for key, value in contacts.items() if key != name})
    assert profile.n_left_out == 1
    assert sum(depth.n_queries for depth in profile.depths) == sum(
        len(value) for key, value in contacts.items() if key != name
    )


def test_the_option_writes_rows_and_a_plot_and_prints_a_table(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "200")
    assert main([str(run), "--phases", "--out", str(tmp_path / "out"), "--plots", "svg", "png"]) == 0
    said = capsys.readouterr().out
    assert "mean depth by phase, libero_object" in said
    rows = list(csv.DictReader((tmp_path / "out" / "phases.csv").open()))
    assert [row["phase"] for row in rows] == [*Phase, "contact minus free"]
    assert f"{float(rows[1]['mean']):.2f} [{float(rows[1]['low']):.2f}, {float(rows[1]['high']):.2f}]" in said
    assert len(json.loads((tmp_path / "out" / "curves.json").read_text())["phases"]) == 4
    assert (tmp_path / "out" / "depth-phases.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "out" / "depth-phases.png").exists()


def test_the_plot_has_units_and_names_every_run_inside_its_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from rdvla_bench.leaderboards.phase_plot import phase_plot
    from rdvla_bench.leaderboards.plot_style import style

    folders = [
        synthetic_contacts.write(
            synthetic.write(tmp_path / f"{delta:g}", synthetic.adaptive(delta), n_tasks=1, n_episodes=8)
        )
        for delta in synthetic.DELTAS
    ]
    profiles = phase_profiles(load(folders), {str(folder): contacts_of(folder) for folder in folders})
    figure = phase_plot(profiles, "made up.")
    assert figure is not None
    with style():
        FigureCanvasAgg(figure).draw()
    (axis,) = figure.axes
    assert "iterations a query" in axis.get_ylabel()
    assert [text.get_text() for text in axis.texts] == ["δ 0.01", "δ 0.003", "δ 0.001", "δ 0.0002"]
    boxes = [text.get_window_extent() for text in axis.texts]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_runs_of_no_phase_draw_nothing() -> None:
    pytest.importorskip("matplotlib")
    from rdvla_bench.leaderboards.phase_plot import phase_plot

    assert phase_plot([], "") is None


# --- replaying, on a bucket whose fingers touch the water once it is half full


class TouchingEnv(rdvla_fakes.FakeEnv):
    made = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        type(self).made += 1
        assert named["cameras"] == ()
        assert named["privileged"]

    def _felt(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "privileged": {"fingers_touch": ("water",) if self.state[0] > 2.5 else ()}}

    def reset(self, **named: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = super().reset(**named)
        return obs, self._felt(info)

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        *rest, info = super().step_chunk(actions)
        return (*rest, self._felt(info))


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """Six episodes of the fake policy on two tasks, played without touch."""
    out = tmp_path / "played"
    arguments = ["--policy", "fake", "--suite", "fake_suite", "--tasks", "0,1", "--episodes", "3", "--workers", "0"]
    assert run_main([*arguments, "--out", str(out)]) == 0
    capsys.readouterr()
    monkeypatch.setattr(rdvla_fakes, "FakeEnv", TouchingEnv)
    monkeypatch.setattr(TouchingEnv, "made", 0)
    return out


def test_each_query_gets_what_the_fingers_touch_when_it_is_asked(played: Path) -> None:
    found = contacts_of(played)
    records = read_records(played)
    assert set(found) == set(records)
    assert TouchingEnv.made == 2  # one a task
    for name, record in records.items():
        with np.load(actions_path(played, name)) as stored:
            actions = stored["actions"]
        env = rdvla_fakes.FakeEnv("fake_suite", record.episode.task, rdvla_fakes.CARD, cameras=(), privileged=True)
        _, info = env.reset(seed=record.episode.env_seed, options={"start": record.episode.start})
        expected = []
        for horizon in record.result.horizons:
            expected.append(bool(info["privileged"]["fingers_touch"]))
            *_, info = env.step_chunk(actions[:horizon])
            actions = actions[horizon:]
        assert found[name] == tuple(expected)
    assert any(any(marks) and not all(marks) for marks in found.values())


def test_a_second_call_replays_nothing(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = contacts_of(played)
    monkeypatch.delattr(curves_contacts, "replay_all")
    assert contacts_of(played) == first


def rewrite(folder: Path, name: str, **changes: Any) -> None:
    """Change one recorded result."""
    rows = [json.loads(line) for line in (folder / EPISODES).read_text().splitlines()]
    for row in rows:
        row["result"] |= changes if row["id"] == name else {}
    (folder / EPISODES).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_an_episode_played_anew_is_replayed_anew_and_no_other(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = contacts_of(played)
    name = next(iter(first))
    stored = json.loads((played / CONTACTS).read_text())
    stored["episodes"][name] |= {"of": "of another recording", "contact": "1"}
    (played / CONTACTS).write_text(json.dumps(stored))
    asked: list[Record] = []
    real = curves_contacts.replay_all
    monkeypatch.setattr(curves_contacts, "replay_all", lambda at, records: asked.extend(records) or real(at, records))
    assert contacts_of(played) == first
    assert [record.episode.id for record in asked] == [name]


def test_a_replay_that_differs_is_left_out(played: Path) -> None:
    name = "fake_suite-t01-s001-r0"
    rewrite(played, name, state_sha256="0" * 64)
    found = contacts_of(played)
    assert name not in found
    assert len(found) == 5


def test_what_was_replayed_before_an_interrupt_is_kept(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = curves_contacts.replay_all

    def interrupted(folder: Path, records: Any) -> Any:
        for i, replayed in enumerate(real(folder, records)):
            if i == 2:
                raise KeyboardInterrupt
            yield replayed

    monkeypatch.setattr(curves_contacts, "replay_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        contacts_of(played)
    assert len(json.loads((played / CONTACTS).read_text())["episodes"]) == 2


def test_an_episode_that_ended_in_an_error_is_not_replayed(played: Path) -> None:
    name = "fake_suite-t00-s000-r0"
    rewrite(played, name, outcome=Outcome.ERROR.value, culprit="env", error="EnvFault: made up")
    assert name not in contacts_of(played)


def test_a_wrapped_environment_forgets_the_episode_before() -> None:
    env = Felt(TouchingEnv("fake_suite", 0, rdvla_fakes.CARD, cameras=(), privileged=True), "a bucket")
    for _ in range(2):
        env.reset(seed=0, options={"start": 0})
        env.step_chunk(np.ones((2, 2), np.float32))
        assert len(env.touched) == 2


def test_an_environment_that_feels_nothing_is_refused() -> None:
    env = Felt(rdvla_fakes.FakeEnv("fake_suite", 0, rdvla_fakes.CARD), "a bucket")
    with pytest.raises(UsageError, match="a bucket does not say what its fingers touch"):
        env.reset(seed=0, options={"start": 0})


def without_actions(at: Path) -> Path:
    return synthetic.write(at / "a", synthetic.adaptive(1e-3), n_tasks=1)


def garbled(at: Path) -> Path:
    folder = synthetic.write(at / "a", synthetic.adaptive(1e-3), n_tasks=1)
    (folder / CONTACTS).write_text("{")
    return folder


def of_another_edition(at: Path) -> Path:
    folder = without_actions(at)
    (folder / "actions").mkdir()
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: synthetic.write(at / "a", synthetic.fixed(4), n_tasks=1), "no run's depth varies"),
        (lambda at: synthetic.write(at / "a", synthetic.plain(), n_tasks=1), "(no depth)"),
        (without_actions, "has no actions/"),
        (garbled, "is garbled"),
        (of_another_edition, "another edition of libero/paired@1"),
    ],
)
def test_a_wrong_call_gets_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any, message: str
) -> None:
    assert main([str(make(tmp_path)), "--phases", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert message in said
    assert "Error" in said
    assert not (tmp_path / "out").exists()


def test_a_missing_simulator_is_named(
    played: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*arguments: Any, **named: Any) -> None:
        raise ModuleNotFoundError("No module named 'mujoco'", name="mujoco")

    monkeypatch.setattr(rdvla_fakes, "FakeEnv", absent)
    assert main([str(played), "--phases"]) == 2
    assert 'pip install "rdvla-bench[libero]"' in capsys.readouterr().err.splitlines()[-1]


def test_a_run_that_replays_nowhere_says_in_what_it_differs(played: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in read_records(played):
        rewrite(played, name, state_sha256="0" * 64)
    assert main([str(played), "--phases"]) == 2
    assert "state_sha256 differ" in capsys.readouterr().err.splitlines()[-1]
    assert not (played / CONTACTS).exists()


# --- the simulators


def played_by_the_expert(tmp_path: Path, suite: str) -> tuple[tuple[bool, ...], np.ndarray, Record]:
    """Return contact and action of each control step of one episode."""
    out = tmp_path / "expert"
    assert run_main(["--policy", "expert", "--suite", suite, "--episodes", "1", "--tasks", "0", "--workers", "0",
                     "--out", str(out)]) == 0  # fmt: skip
    ((name, contact),) = contacts_of(out).items()
    with np.load(actions_path(out, name)) as stored:
        actions = stored["actions"]
    record = read_records(out)[name]
    assert record.result.outcome is Outcome.SUCCESS
    assert set(record.result.horizons) == {1}
    return contact, actions, record


@pytest.mark.libero
def test_in_libero_contact_lasts_from_the_grasp_to_the_release(tmp_path: Path) -> None:
    pytest.importorskip("libero")
    contact, actions, _ = played_by_the_expert(tmp_path, "libero_object")
    closes = int(np.argmax(actions[:, 6] > 0))
    opens = closes + int(np.argmax(actions[closes:, 6] < 0))
    begins, ends = contact.index(True), len(contact) - contact[::-1].index(True)
    assert closes < begins <= closes + 10
    assert opens <= ends <= opens + 10 or ends == len(contact)
    assert all(contact[begins:opens])


@pytest.mark.calvin
def test_in_calvin_contact_begins_when_the_gripper_has_closed(tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    contact, actions, record = played_by_the_expert(tmp_path, "calvin_d")
    assert record.result.subtasks[0] == "rotate_blue_block_right"
    closes = int(np.argmax(actions[:, 6] < 0))
    begins = contact.index(True)
    assert closes < begins <= closes + 10
    assert all(contact[begins : begins + 10])
    assert not all(contact[begins:])  # the hand goes on to the door
