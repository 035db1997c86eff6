"""A suite is pure data: its tasks, its start states, and where its environment is to be found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from rdvla_bench.errors import UnknownName, UnknownTask, UsageError

if TYPE_CHECKING:
    from rdvla_bench.demo_counterfactual import Alternatives
    from rdvla_bench.env import BenchEnv
    from rdvla_bench.protocol_card import ProtocolCard


@dataclass(frozen=True)
class Task:
    """One task of a suite."""

    name: str
    instruction: str


@dataclass(frozen=True)
class Suite:
    """A named list of tasks with one environment class and one observation and action layout."""

    name: str
    benchmark: str  # protocol cards named "<benchmark>/..." apply to it
    tasks: tuple[Task, ...]
    n_starts: int  # the benchmark's own start states a task
    start_option: str  # the key of reset(options={...: k})
    env_id: str  # Gymnasium id
    env_entry: str  # "module:class", imported only when an environment is made
    cameras: Mapping[str, tuple[int, int]]  # camera -> (H, W)
    proprio: tuple[str, ...]  # the meaning of each proprio value, with unit and frame
    actions: tuple[str, ...]  # the meaning of each action value, with unit and frame
    default_protocol: str
    extra: str  # the pip extra that installs its simulator
    runtime: str = ""  # module with worker_env() and describe(): chooses and names the renderer of a process
    n_instructions: int = 1  # an episode; above 1 it is a chain
    files: str = ""  # the suite whose scene files it plays; "" for its own
    control_hz: int = 20  # control steps a second of simulated time
    settings: Mapping[str, Literal["path", "text"]] = field(default_factory=dict)  # --env keys its environment takes
    demo_starts: str = ""  # "module:function" of demonstrations' start states, never the benchmark's; "" for none
    demo_spread: bool = False  # whether that function takes ``spread``, in m
    demo_alternatives: str = ""  # "module:class" of what a demonstration's frames might be about instead; "" for none

    def task_ids(self, wanted: str | None = None) -> tuple[int, ...]:
        """Return the task indices of ``"0,3"``, ``"0-4"``, task names, or all for None; each once, ascending."""
        if wanted is None:
            return tuple(range(len(self.tasks)))
        names = {task.name: i for i, task in enumerate(self.tasks)}
        found: set[int] = set()
        for part in (p.strip() for p in wanted.split(",")):
            first, dash, last = part.partition("-")
            if part in names:
                found.add(names[part])
            elif first.isdigit() and (last.isdigit() if dash else True):
                found.update(range(int(first), int(last or first) + 1))
            else:
                raise UnknownTask(self.name, f"'{part}'", len(self.tasks))
        for task in found:
            if task >= len(self.tasks):
                raise UnknownTask(self.name, task, len(self.tasks))
        if not found:
            raise UnknownTask(self.name, f"'{wanted}'", len(self.tasks))
        return tuple(sorted(found))

    def resolve_settings(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Return ``--env`` texts with paths made absolute, since workers run in other folders.

        Raises:
            UnknownName: the environment takes no such setting.
        """
        for key in texts:
            if key not in self.settings:
                takes = ", ".join(self.settings) or "none"
                raise UnknownName("environment setting", key, self.settings, f"suite '{self.name}' takes {takes}")
        return {k: str(Path(v).expanduser().resolve()) if self.settings[k] == "path" else v for k, v in texts.items()}

    def demo_start(self, task: int, seed: int, number: int, spread: float = 0.0) -> dict[str, Any]:
        """Return the reset options of demonstration ``number``: another start than any that is evaluated.

        ``spread``: metres by which things may lie further from where the task places them.

        Raises:
            UsageError: the suite is for evaluation alone, or has no spread.
        """
        if not self.demo_starts:
            raise UsageError(
                f"suite '{self.name}' is for evaluation alone and has no demonstrations: choose another suite of "
                f"{self.benchmark} (rdvla-bench list suites)"
            )
        if spread and not self.demo_spread:
            raise UsageError(f"the starts of suite '{self.name}' have no spread: record it without --spread")
        more = {"spread": spread} if spread else {}
        module, _, attribute = self.demo_starts.partition(":")
        start: dict[str, Any] = getattr(import_module(module), attribute)(self.name, task, seed, number, **more)
        return start

    def alternatives(self, start: Mapping[str, Any]) -> Alternatives:
        """Return what frames of the demonstration from ``start`` (reset options) might be about instead.

        Raises:
            UsageError: the suite does not say.
        """
        if not self.demo_alternatives:
            raise UsageError(
                f"suite '{self.name}' does not say which other task a frame might be about (demo_alternatives): "
                f"record it without --counterfactuals"
            )
        module, _, attribute = self.demo_alternatives.partition(":")
        return cast("Alternatives", getattr(import_module(module), attribute)(self.name, start))

    def make_env(
        self,
        task: int,
        protocol: ProtocolCard,
        *,
        cameras: tuple[str, ...] | None = None,
        privileged: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> BenchEnv:
        """Build the environment of one task. ``cameras=None`` means all; ``()`` renders nothing, ever."""
        module, _, attribute = self.env_entry.partition(":")
        factory: Any = getattr(import_module(module), attribute)
        return cast(
            "BenchEnv",
            factory(
                suite=self.name,
                task=task,
                protocol=protocol,
                cameras=cameras,
                privileged=privileged,
                **self.resolve_settings(settings or {}),
            ),
        )
