"""What is kept of one episode: its result, which is reproducible, and its execution, which is not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rdvla_bench.types import Culprit, Episode, Outcome

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """A pure function of (protocol card, policy card, episode). The same on every machine and in every order.

    The tuples have one entry a query, in order; ``steps`` equals ``sum(horizons)`` unless the episode ended
    inside the last chunk or with an error.
    """

    outcome: Outcome
    steps: int = 0  # control steps executed, settle steps not counted
    instruction: str = ""
    depths: tuple[int, ...] = ()  # iterations of the recurrent core
    horizons: tuple[int, ...] = ()  # actions executed
    exit_traces: tuple[tuple[float, ...], ...] = ()  # the exit criterion after each iteration
    flops: float | None = None  # of all queries together; None where a query's are unknown
    solved: int | None = None  # instructions done in a row; None where an episode is one task, not a chain
    subtasks: tuple[str, ...] = ()  # those of the chain that were attempted, in order
    subtask_steps: tuple[int, ...] = ()  # control steps spent on each
    appearance: str = ""  # what the pictures were drawn from and with; "" for a policy without cameras
    scene_sha256: str = ""  # what reset placed
    frames_sha256: str = ""  # every image the policy was shown, in order; "" for a policy without cameras
    actions_sha256: str = ""  # every action executed, float32
    state_sha256: str = ""  # the simulator's full state at the end
    culprit: Culprit | None = None  # set iff outcome is ERROR
    error: str = ""  # the traceback, its last line the message


@dataclass(frozen=True)
class Execution:
    """The circumstances of this one execution; never part of a result."""

    attempts: int = 1
    worker: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0  # of the process that ran the episode, user + system, environment building left out
    build_cpu_s: float = 0.0  # building the environment, if this episode had to
    model_s: tuple[float, ...] = ()  # seconds inside the model, one entry a query
    batch_sizes: tuple[int, ...] = ()  # one entry a query
    backbone_s: tuple[float, ...] = ()  # the part of ``model_s`` before the head; empty where not measured apart
    head_s: tuple[float, ...] = ()
    peak_memory_bytes: int | None = None  # of the accelerator, the most seen at a query


@dataclass(frozen=True)
class Record:
    """One line of the ledger."""

    episode: Episode
    result: Result
    execution: Execution = Execution()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, result and execution apart."""
        return {
            "schema": SCHEMA,
            "id": self.episode.id,
            "episode": asdict(self.episode),
            "result": asdict(self.result),
            "execution": asdict(self.execution),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Record:
        """Rebuild a record.

        Raises:
            KeyError, TypeError, ValueError: the row is not one that ``to_json`` wrote.
        """
        if row["schema"] != SCHEMA:
            raise ValueError(f"schema {row['schema']}, this version reads {SCHEMA}")
        result, execution = dict(row["result"]), dict(row["execution"])
        result["outcome"] = Outcome(result["outcome"])
        result["culprit"] = Culprit(result["culprit"]) if result["culprit"] else None
        result["exit_traces"] = tuple(tuple(trace) for trace in result["exit_traces"])
        for key in ("depths", "horizons"):
            result[key] = tuple(result[key])
        for key in ("subtasks", "subtask_steps"):  # not in the first ledgers
            result[key] = tuple(result.get(key, ()))
        for key in ("model_s", "batch_sizes"):
            execution[key] = tuple(execution[key])
        for key in ("backbone_s", "head_s"):  # not in the first ledgers
            execution[key] = tuple(execution.get(key, ()))
        return cls(Episode(**row["episode"]), Result(**result), Execution(**execution))
