"""What ``gate`` is asked, with episodes that were played and with such as it plays itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from rdvla_bench.leaderboards.baseline import Baseline
    from rdvla_bench.leaderboards.noninferiority import Check


@dataclass(frozen=True)
class Options:
    """Hold a run against a baseline. Exit code 0: pass. 1: regression. 2: undecided, or not comparable.

    A pass means: with the given chance of error, the run is not worse by as much as the margin. Too few episodes never
    pass. With --sequential and --policy episodes are played, but only as many as the decision needs; the same command
    again resumes.
    """

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder. None with --policy, which plays."""
    baseline: Path | None = None
    """File written by rdvla-bench baseline."""
    margin: str | None = None
    """How much worse is still good enough: "2pp", "2%" or 0.02 of the success rate (2pp if not given); for chains a
    number of instructions (0.1)."""
    alpha: float = 0.05
    """Chance of either wrong verdict."""
    exact: bool = False
    """Instead: every episode's result must be the same, to the bit. For deterministic policies, with one arithmetic."""
    max_mean_depth: float | None = None
    """Ceiling on the mean depth a query."""
    max_model_ms: float | None = None
    """Ceiling on the median model time a query, in ms."""
    junit: Path | None = None
    """Write JUnit XML here."""
    summary: Path | None = None
    """Write Markdown here. Under GitHub Actions it is also added to the job's summary."""
    sequential: bool = False
    """Look after each episode and stop when it is decided; the chance of error stays alpha."""
    claim: Literal["policy", "episodes"] = "policy"
    """With --sequential: what the verdict is about. The policy, of whose episodes these are a sample; or just the
    baseline's episodes, had all been played: fewer are needed."""
    order: int = 0
    """With --sequential: seed of the order of episodes."""
    policy: str | None = None
    """With --sequential: play this policy on the baseline's episodes."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE of the policy's settings; may be repeated."""
    env: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE of the environment's settings; may be repeated."""
    suite: str | None = None
    """Play only these of the baseline's suites."""
    tasks: str | None = None
    """Play only these of the baseline's tasks."""
    out: Path | None = None
    """Run folder to play into; that of the same full run if not given, runs/POLICY-HASH."""
    workers: int = 2
    """Parallel workers on Ray; 0 plays in this process without Ray."""
    retry_errors: bool = False
    """Play again the episodes that ended in an ERROR."""


def ceilings(options: Options, run: Baseline) -> list[Check]:
    """Return the checks of compute that were asked for."""
    from rdvla_bench.leaderboards.gate import check_depth, check_model_ms

    found = [] if options.max_mean_depth is None else [check_depth(run, options.max_mean_depth)]
    return found if options.max_model_ms is None else [*found, check_model_ms(run, options.max_model_ms)]
