"""run.json of a run folder: what was asked for, and what the workers said of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdvla_bench.arithmetic import arithmetic_of
from rdvla_bench.errors import RunMismatch, UsageError
from rdvla_bench.plan import Plan, differences
from rdvla_bench.run_set import MEANING, kind_of

if TYPE_CHECKING:
    from rdvla_bench.worker import Greeting


@dataclass
class RunFolder:
    """run.json while a run goes: written with the first greeting, checked against every later one."""

    plan: Plan
    out: Path
    run: dict[str, Any] = field(default_factory=dict)

    def open(self) -> None:
        """Read run.json if there is one.

        Raises:
            RunMismatch: the folder belongs to another configuration.
            LedgerError: the folder cannot be read.
        """
        from rdvla_bench.ledger import EPISODES, RUN, read_run

        kind = kind_of(self.out)
        if kind is not None:
            holds, lacks = MEANING[kind]
            raise UsageError(f"{self.out} holds {holds}: {lacks}, or choose another --out")
        if (self.out / RUN).exists():
            self.run = read_run(self.out)
            differs = differences(self.run["config"], self.plan.identity())
            if differs:
                raise RunMismatch(self.out, differs)
        elif (self.out / EPISODES).exists() and (self.out / EPISODES).stat().st_size:
            raise UsageError(
                f"{self.out} has a ledger but no run.json: it cannot be told what it is. Choose another --out"
            )
        elif self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file, expected a folder")

    def greet(self, greeting: Greeting) -> None:
        """Write run.json from the first worker's greeting; hold every other worker against it.

        Raises:
            RunMismatch: another policy card, renderer, arithmetic or decisive version than the run began with.
        """
        from rdvla_bench.provenance import DECISIVE, check_pins

        here = {
            "policy_card": greeting.policy_hash,
            "gl canary": greeting.gl.get("canary_sha256", ""),
            "arithmetic": greeting.arithmetic,
            **{name: greeting.versions.get(name, "") for name in DECISIVE},
        }
        if not self.run:
            check_pins(self.plan.protocol)
            self._create(greeting)
            return
        there = {
            "policy_card": self.run["policy_hash"],
            "gl canary": self.run["gl"].get("canary_sha256", ""),
            "arithmetic": arithmetic_of(self.run),
            **{name: self.run["versions"].get(name, "") for name in DECISIVE},
        }
        differs = differences(there, here)
        if differs:
            raise RunMismatch(self.out, [*differs, f"worker on {greeting.host}"])

    def _create(self, greeting: Greeting) -> None:
        from rdvla_bench.provenance import git_commit, machine
        from rdvla_bench.record import SCHEMA

        plan = self.plan
        self.run = {
            "schema": SCHEMA,
            "status": "running",
            "config": plan.identity(),
            "planned": len(plan.episodes()),
            "full": plan.n_episodes == plan.protocol.n_trials,
            "task_names": {s.name: {str(t): s.tasks[t].name for t in plan.tasks[s.name]} for s in plan.suites},
            "n_instructions": {s.name: s.n_instructions for s in plan.suites},
            "policy_card": greeting.policy_card,
            "policy_hash": greeting.policy_hash,
            "protocol_card": plan.protocol.to_json(),
            "protocol_hash": plan.protocol.hash,
            "versions": greeting.versions,
            "gl": greeting.gl,
            "machine": machine() | {"arithmetic": greeting.arithmetic},
            "git_commit": git_commit(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.save("running")

    def save(self, status: str) -> None:
        """Write run.json with a new status."""
        from rdvla_bench.ledger import write_run

        if self.run:
            self.run["status"] = status
            write_run(self.out, self.run)
