"""``replay``: execute the recorded actions of another run, query by query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import LedgerError, PolicyFault
from rdvla_bench.ledger import actions_path, read_run
from rdvla_bench.policy import Policy, PolicyCard
from rdvla_bench.types import ActionChunk, Compute, Episode, Observation


@dataclass(frozen=True, eq=False)
class Recording:
    """One recorded episode and how much of it was replayed."""

    actions: NDArray[np.float32]  # (N, A), every action executed
    horizons: NDArray[np.int32]  # (Q,), actions executed a query
    depths: NDArray[np.int32]  # (Q,)
    query: int = 0


class Replay(Policy):
    """Answers each query with the actions that the recorded policy's answer led to.

    Non-obvious: what a chunk held beyond its executed actions is not recorded, so chunks are as long as horizons.
    """

    def __init__(self, run_dir: Path) -> None:
        """Read the run's card; recordings are read one by one as their episodes begin.

        Raises:
            LedgerError: ``run_dir`` is no run folder.
        """
        run = read_run(run_dir)
        self._run_dir = run_dir
        source = {"policy": run["config"]["policy"], "policy_hash": run["policy_hash"], "seed": run["config"]["seed"]}
        self.card = PolicyCard("replay", weights="none", chunk=1, config={"recorded": source})

    def initial_state(self, episode: Episode) -> Recording:
        """Read the recording of ``episode``.

        Raises:
            PolicyFault: there is none, or it was made with another seed.
        """
        path = actions_path(self._run_dir, episode.id)
        try:
            with np.load(path, allow_pickle=False) as stored:
                recording = Recording(stored["actions"], stored["horizons"], stored["depths"])
                seed = int(stored["seed"])
        except (OSError, KeyError, ValueError) as error:
            raise PolicyFault(f"no recording of episode {episode.id} in {self._run_dir}: {error}") from error
        if seed != episode.seed:
            raise PolicyFault(f"episode {episode.id} was recorded with --seed {seed}, not {episode.seed}")
        return recording

    def next_subtask(self, state: Recording, episode: Episode) -> Recording:
        """Return the same recording: it goes on through a chain."""
        del episode
        return state

    def act(self, obs: Observation, state: Recording, rng: np.random.Generator) -> tuple[ActionChunk, Recording]:
        """Return the next recorded actions.

        Raises:
            PolicyFault: the recording ends here, before the episode does.
        """
        del obs, rng
        if state.query >= len(state.horizons):
            raise PolicyFault(f"the recording ends after {len(state.horizons)} queries, before the episode does")
        first = int(state.horizons[: state.query].sum())
        actions = state.actions[first : first + int(state.horizons[state.query])]
        return ActionChunk(actions, Compute(depth=int(state.depths[state.query]))), replace(
            state, query=state.query + 1
        )


def replay(*, run: str) -> Policy:
    """Execute the recorded actions of another run folder, given by --set run=DIR."""
    try:
        return Replay(Path(run))
    except LedgerError as error:
        raise LedgerError(f"--set run={run}: {error}") from error
