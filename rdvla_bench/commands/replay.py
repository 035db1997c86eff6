"""``python -m rdvla_bench.replay DIR EPISODE``: simulate a recorded episode again, bit for bit, and film it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rdvla_bench.arithmetic import SWITCH, arithmetic, arithmetic_of
from rdvla_bench.commands.cli import command
from rdvla_bench.commands.film_episode import Caption, Filmed, Frame, write_video
from rdvla_bench.errors import MissingExtra, UnknownName, UsageError
from rdvla_bench.ledger import read_records, read_run
from rdvla_bench.protocol import protocol
from rdvla_bench.record import Record, Result
from rdvla_bench.registry import load_policy, load_suite
from rdvla_bench.rollout import play
from rdvla_bench.run_set import demand_single
from rdvla_bench.types import Outcome

COMPARED = (
    "outcome",
    "steps",
    "horizons",
    "instruction",
    "scene_sha256",
    "frames_sha256",
    "actions_sha256",
    "state_sha256",
)
"""What a replay must reproduce. Depths are read from the recording, so comparing them would prove nothing."""


@dataclass(frozen=True)
class ReplayArguments:
    """Simulate one recorded episode again; exit 0 if every hash agrees, 1 if one differs."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    episode: Annotated[str, tyro.conf.Positional]
    """Episode id, as in episodes.jsonl and results.csv: libero_object-t03-s000-r0."""
    video: Path | None = None
    """Film every control step into this mp4."""


@command
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = tyro.cli(ReplayArguments, args=argv, prog="python -m rdvla_bench.replay")
    demand_single(arguments.run)
    run, records = read_run(arguments.run), read_records(arguments.run)
    if arguments.episode not in records:
        raise UnknownName("episode", arguments.episode, records, f"{arguments.run} holds {len(records)}")
    record = records[arguments.episode]
    if record.result.outcome is Outcome.ERROR:
        last = record.result.error.strip().splitlines()[-1:]
        raise UsageError(
            f"{arguments.episode} ended in an ERROR of {record.result.culprit} ({' '.join(last)}): no result to repeat"
        )
    replayed, frames = replay_episode(arguments.run, run, record, every=1 if arguments.video else None)
    if arguments.video:
        title = f"{run['config']['policy']}  {arguments.episode}  {run['config']['protocol']}"
        fps = load_suite(record.episode.suite).control_hz
        caption = Caption(title, replayed.outcome, replayed.steps, record.result.depths, fps)
        write_video(arguments.video, frames, caption)
        print(f"wrote {arguments.video}: {len(frames)} frames")
    differing = [name for name in COMPARED if getattr(replayed, name) != getattr(record.result, name)]
    for name in differing:
        print(f"{name} differs: recorded {getattr(record.result, name)}, replayed {getattr(replayed, name)}")
    if replayed.error:
        print(replayed.error)
    for hint in hint_at_arithmetic(run) if differing else ():
        print(hint)
    if not differing:
        print(f"{arguments.episode}: {replayed.outcome} after {replayed.steps} steps, identical to the recording")
    return 1 if differing else 0


def hint_at_arithmetic(run: dict[str, Any]) -> list[str]:
    """Return why a replay may differ where the run calculated otherwise than this process; [] where it did not."""
    there = arithmetic_of(run)
    if there == arithmetic():
        return []
    how = f"{SWITCH}=native repeats it there" if there == "native" else f"without {SWITCH} it is repeated"
    return [f"(recorded with {there} arithmetic on {run['machine'].get('cpu') or 'a processor not told'}: {how})"]


def replay_episode(
    run_dir: Path, run: dict[str, Any], record: Record, *, every: int | None
) -> tuple[Result, list[Frame]]:
    """Play the recorded actions; return the result and a frame every so many control steps, none for None.

    Raises:
        UsageError: the run was played under another edition of its protocol card.
        MissingExtra: the suite's simulator is not installed.
    """
    suite, card = load_suite(record.episode.suite), protocol(run["config"]["protocol"])
    cameras = tuple(run["policy_card"]["cameras"])
    if card.hash != run["protocol_hash"]:
        raise UsageError(
            f"{run_dir} was played under another edition of {card.name}: {run['protocol_hash']}, here {card.hash}"
        )
    policy = load_policy("replay", {"run": str(run_dir)})
    settings = run["config"].get("env", {})
    try:
        env = suite.make_env(record.episode.task, card, cameras=None if every else cameras, settings=settings)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"suite '{suite.name}'", suite.extra, f"no module '{error.name}'") from error
    filmed = Filmed(env, cameras, every or 1)
    try:
        result, _ = play(
            lambda: filmed if every else env,
            policy,
            record.episode,
            start_option=suite.start_option,
            max_horizon=None,
        )
    finally:
        env.close()
    return result, filmed.frames
