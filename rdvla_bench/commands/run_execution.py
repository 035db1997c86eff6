"""What executes a run's episodes: this process, or workers on Ray."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rdvla_bench.commands.run_arguments import RunArguments
from rdvla_bench.errors import MissingExtra, UsageError
from rdvla_bench.limits import Limits
from rdvla_bench.plan import Plan
from rdvla_bench.types import Episode, Outcome

if TYPE_CHECKING:
    from rdvla_bench.ledger import Ledger
    from rdvla_bench.worker import Greeting, Played


def check_all_can_start(plans: Sequence[Plan]) -> None:
    """Find out what would stop a run, or the run of a later benchmark, before anything is played or written.

    Costs one loading of the policy in this process, for each benchmark.

    Raises:
        UsageError: the policy does not fit a benchmark, or what one needs is not installed.
    """
    from rdvla_bench.provenance import check_pins
    from rdvla_bench.registry import load_policy
    from rdvla_bench.worker import check_cameras, runtime_of

    for plan in plans:
        try:
            check_pins(plan.protocol)
            policy = load_policy(plan.policy, plan.settings, plan.benchmark)
            for suite in plan.suites:
                check_cameras(plan.policy, policy, suite)
                runtime_of(suite)
            policy.close()
        except UsageError as error:
            others = ",".join(suite.name for other in plans if other is not plan for suite in other.suites)
            without = f"; without {plan.benchmark}: --suite {others}" if others else ""
            raise UsageError(f"{error} (nothing was played yet{without})") from error


def unfinished(ledger: Ledger, episodes: list[Episode], *, retry_errors: bool) -> list[Episode]:
    """Return those of ``episodes`` that are still to be played, in their order."""
    from rdvla_bench.types import Culprit

    def is_final(episode: Episode) -> bool:
        record = ledger.records.get(episode.id)
        if record is None:
            return False
        if record.result.outcome is not Outcome.ERROR:
            return True
        return not retry_errors and record.result.culprit is not Culprit.INFRA

    return [episode for episode in episodes if not is_final(episode)]


def execute(
    arguments: RunArguments,
    plan: Plan,
    limits: Limits,
    episodes: list[Episode],
    on_greeting: Callable[[Greeting], None],
) -> Generator[Played]:
    """Yield ``episodes`` as they end, played in this process or on Ray."""
    if not episodes:
        return
    from rdvla_bench.worker import Job, runtime_of

    job = Job(plan.policy, plan.settings, plan.protocol, plan.env, plan.benchmark)
    if arguments.workers == 0:
        from rdvla_bench.local import play_locally

        yield from play_locally(job, plan.suites, episodes, limits, on_greeting)
        return
    try:
        from rdvla_bench.ray_executor import play_on_ray
    except ModuleNotFoundError as error:
        raise MissingExtra("--workers above 0", "ray", f"no module '{error.name}'; --workers 0 needs none") from error
    env_vars: dict[str, str] = {}
    if not arguments.ray_address:  # the workers of other machines choose their renderers themselves
        for runtime in {suite.runtime: runtime_of(suite) for suite in plan.suites}.values():
            env_vars |= runtime.worker_env() if runtime else {}
    yield from play_on_ray(
        job,
        plan.suites,
        episodes,
        limits,
        on_greeting,
        workers=arguments.workers,
        address=arguments.ray_address,
        env_vars=env_vars,
        shared_policy={"auto": None, "worker": False, "shared": True}[arguments.policy_placement],
        max_batch=arguments.policy_batch,
    )


def one_cluster(arguments: RunArguments, *, needed: bool) -> AbstractContextManager[None]:
    """Return the Ray session that several runs share; one run alone starts its own."""
    if not needed or arguments.workers == 0:
        return nullcontext()
    try:
        from rdvla_bench.ray_executor import cluster
    except ModuleNotFoundError as error:
        raise MissingExtra("--workers above 0", "ray", f"no module '{error.name}'; --workers 0 needs none") from error
    return cluster(arguments.workers, arguments.ray_address)
