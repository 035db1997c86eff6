"""What ``rdvla-bench run`` is asked for, and the runs that this means; nothing is played here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rdvla_bench.errors import UsageError
from rdvla_bench.limits import Limits
from rdvla_bench.plan import Plan
from rdvla_bench.protocol import protocol
from rdvla_bench.registry import parse_settings
from rdvla_bench.run_set import Runs, default_out, folder_name, mix_identity, open_set
from rdvla_bench.slices import QUICK, Part, parts_of
from rdvla_bench.sweep import combinations, identity, make_points, parse_axes


@dataclass(frozen=True)
class RunArguments:
    """Evaluate a policy on a benchmark. The same command again resumes; a finished run just prints its board."""

    policy: str
    """Name of the policy (rdvla-bench list policies)."""
    suite: str = QUICK
    """Suites, separated by commas, of one benchmark or several (rdvla-bench list suites); libero and calvin stand for
    those of the full benchmark. quick is a fixed slice of both, for a first look within minutes."""
    tasks: str | None = None
    """Tasks of each suite: "0,3", "0-4" or names; all by default."""
    episodes: Literal["full"] | int | None = None
    """Episodes a task, or chains of CALVIN; 1 by default. "full" is what the protocol card calls an evaluation."""
    seed: int = 0
    """Seed of the run: fixtures and every random draw of the policy derive from it."""
    protocol: str | None = None
    """Protocol card (rdvla-bench list protocols); the suites' default if not given. Suites of several benchmarks keep
    their defaults."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE of the policy's settings; may be repeated."""
    sweep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE,VALUE,... of a policy's setting: one run a value in one resumable folder; repeated, their product."""
    env: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE of the environment's settings, such as assets=PATH for CALVIN; may be repeated. Of several benchmarks,
    each takes those that it knows."""
    out: Path | None = None
    """Run folder, or the folder of several runs: of a sweep, of several benchmarks; runs/POLICY-HASH by default."""
    workers: int = 2
    """Parallel workers on Ray; 0 plays in this process without Ray."""
    ray_address: str | None = None
    """Join this Ray cluster instead of starting one here."""
    policy_placement: Literal["auto", "worker", "shared"] = "auto"
    """One policy a worker, or one shared by all; auto shares iff the cluster has a GPU."""
    policy_batch: int | None = None
    """Queries a shared policy answers together. By default several iff that changes no bit; a number above 1 batches
    in any case, and results may then depend on which queries met."""
    retry_errors: bool = False
    """Play again the episodes that ended in an ERROR of the policy or the env (those of infra always are)."""
    log: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Also feed a tracker while the run goes: tensorboard, wandb or mlflow; may be repeated. None can fail the run."""
    policy_timeout: float = Limits.policy_s
    """Seconds the policy may take for one answer."""
    env_timeout: float = Limits.env_s
    """Seconds the simulator may take to be built and reset, or for one chunk."""


def parse(argv: list[str] | None) -> RunArguments:
    """Read the command line.

    Raises:
        UsageError: a number out of its range.
    """
    arguments = tyro.cli(RunArguments, args=argv, prog="python -m rdvla_bench.run")
    if arguments.workers < 0:
        raise UsageError(f"--workers {arguments.workers}: expected 0 (this process) or more")
    if arguments.policy_batch is not None and arguments.policy_batch < 1:
        raise UsageError(f"--policy-batch {arguments.policy_batch}: expected 1 (each query alone) or more")
    return arguments


def command_line(arguments: RunArguments) -> str:
    """Return the command that gives ``arguments``; what is at its default is left out."""
    words = ["python", "-m", "rdvla_bench.run"]
    for field in fields(arguments):
        value = getattr(arguments, field.name)
        if value == field.default:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag)
        else:
            words += [word for one in (value if isinstance(value, tuple) else (value,)) for word in (flag, str(one))]
    return shlex.join(words)


def make_plans(arguments: RunArguments, swept: Mapping[str, str] | None = None) -> tuple[Plan, ...]:
    """Return one plan a benchmark; every wrong name is reported before anything is started. ``swept`` joins settings.

    Raises:
        UsageError.
    """
    parts = parts_of(arguments.suite, arguments.tasks, arguments.episodes)
    settings = {**_settings(arguments), **(swept or {})}
    parse_settings(arguments.policy, settings)
    if len(parts) > 1:
        _check_mix(arguments, settings, parts)
    env = dict(_setting("--env", text) for text in arguments.env)
    return tuple(_plan(arguments, part, settings, _env_of(part, parts, env)) for part in parts)


def _check_mix(arguments: RunArguments, settings: Mapping[str, str], parts: Sequence[Part]) -> None:
    """Refuse what holds for one benchmark only."""
    benchmarks = " and ".join(part.suites[0].benchmark for part in parts)
    for flag, value in (("--protocol", arguments.protocol), ("--set benchmark", settings.get("benchmark"))):
        if value is not None:
            why = "a protocol card holds the rules of one" if flag == "--protocol" else "each run says what it plays"
            raise UsageError(
                f"{flag} {value} beside suites of {benchmarks}: {why}, and each benchmark is a run of its own. "
                f"Leave it out, or name the --suite of one benchmark"
            )


def _env_of(part: Part, parts: Sequence[Part], env: Mapping[str, str]) -> dict[str, str]:
    """Return the settings for this part's environments: all, but those that only other parts' know."""

    def knows(other: Part, key: str) -> bool:
        return any(key in suite.settings for suite in other.suites)

    return {
        key: value for key, value in env.items() if knows(part, key) or not any(knows(other, key) for other in parts)
    }


def _plan(arguments: RunArguments, part: Part, settings: Mapping[str, str], env: Mapping[str, str]) -> Plan:
    card = protocol(arguments.protocol or part.suites[0].default_protocol)
    return Plan(
        policy=arguments.policy,
        settings=settings,
        protocol=card,
        suites=part.suites,
        tasks=part.tasks,
        n_episodes=card.n_trials if part.n_episodes == "full" else part.n_episodes,
        seed=arguments.seed,
        env={key: value for suite in part.suites for key, value in suite.resolve_settings(env).items()},
    )


def make_runs(arguments: RunArguments) -> Runs:
    """Return every run asked for; where they are several, their folder is written, or held against this call.

    Raises:
        UsageError.
    """
    settings = _settings(arguments)
    axes = parse_axes(arguments.policy, arguments.sweep, settings)
    bases = [replace(plan, settings=settings) for plan in make_plans(arguments, next(combinations(axes)))]
    known = [(base, identity(base, axes)) for base in bases]
    if len(bases) == 1:
        base, here = known[0]
        out = arguments.out or (default_out(base.policy, "sweep", here) if axes else Path(base.default_out))
        folders = [out]
    else:
        here = mix_identity(known)
        out = arguments.out or default_out(arguments.policy, QUICK if arguments.suite == QUICK else "mix", here)
        folders = [out / folder_name(base.benchmark) for base in bases]
    parts = tuple(make_points(base, axes, folder) for base, folder in zip(bases, folders, strict=True))
    if len(bases) > 1:
        open_set("mix", out, here, [folder.name for folder in folders])
    if axes:
        for (_, of_sweep), folder, points in zip(known, folders, parts, strict=True):
            open_set("sweep", folder, of_sweep, [point.name for point in points])
    return Runs(out, parts)


def _settings(arguments: RunArguments) -> dict[str, str]:
    return dict(_setting("--set", text) for text in arguments.set)


def _setting(flag: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{flag} {text}: expected KEY=VALUE")
    return key, value
