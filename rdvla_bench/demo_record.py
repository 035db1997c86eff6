"""Recording one demonstration in two passes over the same episode, both through ``rollout``.

The first plays the expert without cameras, with bursts of noise on what is executed; its own actions are the labels.
The second executes the same actions again, in chunks that end at the frames worth keeping, so that no other frame is
rendered and each is what a policy would be shown at this point, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.demo_noise import Bursts, NoiseRecipe, advance, begin
from rdvla_bench.env import BenchEnv, EnvWrapper
from rdvla_bench.policy import Policy, PolicyCard
from rdvla_bench.record import Result
from rdvla_bench.rollout import Phase, Trace, play
from rdvla_bench.seeding import generator
from rdvla_bench.types import ActionChunk, Array, Culprit, Episode, Observation, Outcome

Options = Mapping[str, Any]  # of reset: where an episode starts
Shrink = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # a camera's image to the one that is stored
OnPhase = Callable[[Phase], None]

_CONTACT = 8  # control steps before and after the gripper opens or closes
_START = "start"


@dataclass(frozen=True)
class FrameRule:
    """Which frames are kept."""

    chunk: int  # K, actions of a label
    stride: int = 4  # control steps between kept frames
    contact_stride: int = 2  # the same while the gripper is about to open or close, or just did


@dataclass(frozen=True, eq=False)
class Take:
    """What the first pass wrote down; N control steps."""

    result: Result
    labels: NDArray[np.float32]  # (N, A), the expert's own actions
    executed: NDArray[np.float32]  # (N, A)
    clean: NDArray[np.bool_]  # (N,), no noise in this step
    segments: tuple[tuple[int, int], ...]  # [first, end) the expert's part of each task that was solved, or of subtasks
    told: tuple[str, ...]  # the instruction of each; "" where the expert had no part
    seen: tuple[Observation, ...] = ()  # N of them, what the expert was shown; kept where it had the whole episode


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A kept frame under the instruction of another task (``demo_counterfactual``)."""

    row: int  # of the kept frames
    instruction: str
    chunk: NDArray[np.float32]  # (K, A)
    goal: NDArray[np.float32]  # (P,), proprioception where the gripper next switches or else the task ends


@dataclass(frozen=True, eq=False)
class Demonstration:
    """One episode as it is stored; F kept frames. A dropped episode has none."""

    episode: Episode
    take: Take
    frames: NDArray[np.int32]  # (F,), the control step that follows the frame
    images: Mapping[str, NDArray[np.uint8]]  # camera -> (F, S, S, 3)
    proprio: NDArray[np.float32]  # (F, P)
    chunks: NDArray[np.float32]  # (F, K, A)
    instructions: tuple[str, ...]  # F of them
    counterfactuals: tuple[Counterfactual, ...] = ()


class Started(EnvWrapper):
    """An environment whose episodes all start from the same reset options."""

    def __init__(self, env: BenchEnv, options: Options) -> None:
        """Wrap ``env``."""
        super().__init__(env)
        self._options = dict(options)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start from the options of this object, whatever the caller asks for."""
        del options
        return self._env.reset(seed=seed, options=dict(self._options))


@runtime_checkable
class Successor(Protocol):
    """An expert that can begin in the middle: it is shown the start of the task, and told when the hand is its own."""

    def take_over(self, state: Any) -> Any:
        """Return the state before its first action, from that after it was shown the start."""


@dataclass(frozen=True, eq=False)
class _Turn:
    expert: Any
    bursts: Bursts


@dataclass(eq=False)
class Demonstrator(Policy):
    """Plays an expert with noise and writes its own actions down; serves one episode."""

    expert: Policy
    recipe: NoiseRecipe
    chunk: int
    labels: list[NDArray[np.float32]] = field(default_factory=list)
    clean: list[bool] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # a step
    seen: list[Observation] = field(default_factory=list)  # a step

    def __post_init__(self) -> None:
        """Take over the expert's card."""
        self.card: PolicyCard = self.expert.card

    def initial_state(self, episode: Episode) -> _Turn:
        """Draw the episode's kind of noise."""
        rng = generator("demonstration", episode.seed, episode.suite, episode.task, episode.start)
        return _Turn(self.expert.initial_state(episode), begin(self.recipe, self.chunk, rng))

    def next_subtask(self, state: _Turn, episode: Episode) -> _Turn:
        """Tell the expert; a burst goes on."""
        return replace(state, expert=self.expert.next_subtask(state.expert, episode))

    def watch(self, obs: Observation, state: _Turn, rng: np.random.Generator) -> _Turn:
        """Show the expert the start of a task that another policy begins."""
        return replace(state, expert=self.expert.act(obs, state.expert, rng)[1])

    def take_over(self, state: _Turn) -> _Turn:
        """Begin in the middle of a task, with a clean chunk."""
        expert = self.expert.take_over(state.expert) if isinstance(self.expert, Successor) else state.expert
        return _Turn(expert, replace(state.bursts, left=0, quiet=state.bursts.step + self.chunk))

    def act(self, obs: Observation, state: _Turn, rng: np.random.Generator) -> tuple[ActionChunk, _Turn]:
        """Return the expert's next action with noise on it, clipped to [-1, 1]."""
        answer, expert = self.expert.act(obs, state.expert, rng)
        label = np.array(answer.actions[0], np.float32)
        noise, bursts = advance(self.recipe, state.bursts, label, rng)
        executed = label.copy()
        executed[:6] = np.clip(label[:6] + noise, -1.0, 1.0)
        self.labels.append(label)
        self.clean.append(not noise.any())
        self.told.append(obs["instruction"])
        self.seen.append(obs)
        return ActionChunk(executed[None]), _Turn(expert, bursts)


@dataclass(eq=False)
class Playback(Policy):
    """Executes a take again and keeps what it is shown at the given steps; serves one episode."""

    executed: NDArray[np.float32]
    frames: NDArray[np.int32]
    stops: NDArray[np.int32]  # ascending, where chunks end besides the frames; the last one is the episode's end
    shrink: Shrink
    seen: list[Observation] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Fix the card."""
        self.card: PolicyCard = PolicyCard("playback", weights="none")

    def initial_state(self, episode: Episode) -> int:
        """Return the control step to come."""
        del episode
        return 0

    def next_subtask(self, state: int, episode: Episode) -> int:
        """Go on."""
        del episode
        return state

    def act(self, obs: Observation, state: int, rng: np.random.Generator) -> tuple[ActionChunk, int]:
        """Keep the observation if it is wanted; return the actions up to the next stop."""
        del rng
        if state in self.frames:
            images = {camera: self.shrink(image) for camera, image in obs["images"].items()}
            self.seen.append({**obs, "images": images})
        ends = np.union1d(self.frames, self.stops)
        end = int(ends[np.searchsorted(ends, state, side="right")])
        return ActionChunk(self.executed[state:end]), end


def demonstrate(
    make_env: Callable[[], BenchEnv],
    expert: Policy,
    episode: Episode,
    options: Options,
    recipe: NoiseRecipe,
    chunk: int,
    on_phase: OnPhase,
) -> Take:
    """Run the first pass, in an environment that gives privileged state and needs no cameras."""
    demonstrator = Demonstrator(expert, recipe, chunk)
    result, trace = play_from(lambda: Started(make_env(), options), demonstrator, episode, on_phase)
    n = result.steps
    executed, segments = trace.executed(), ranges(result)
    labels = np.array(demonstrator.labels[:n], np.float32).reshape(executed.shape)
    told = tuple(demonstrator.told[first] for first, _ in segments)
    clean = np.array(demonstrator.clean[:n], np.bool_)
    return Take(result, labels, executed, clean, segments, told, tuple(demonstrator.seen[:n]))


def ranges(result: Result) -> tuple[tuple[int, int], ...]:
    """Return [first, end) of each task that was solved: one, or a chain's subtasks."""
    if result.solved is None:
        return ((0, result.steps),) if result.outcome is Outcome.SUCCESS else ()
    ends = np.cumsum(result.subtask_steps[: result.solved]).tolist()
    return tuple(zip([0, *ends[:-1]], ends, strict=True)) if ends else ()


def record(
    make_env: Callable[[], BenchEnv],
    take: Take,
    episode: Episode,
    options: Options,
    rule: FrameRule,
    shrink: Shrink,
    on_phase: OnPhase,
) -> Demonstration:
    """Run the second pass, in an environment with cameras; ``options`` end a chain where the take's last success was.

    An end that is not the first pass's makes the take's result an ERROR: the simulator was not deterministic.
    """
    if take.result.outcome is Outcome.ERROR:
        return _without_frames(episode, take)
    frames = np.array([step for step, _ in kept_frames(take, rule)], np.int32)
    if not len(frames):
        return _without_frames(episode, take)
    end = take.segments[-1][1]
    stops = np.array([last for _, last in take.segments], np.int32)
    playback = Playback(take.executed[:end], frames, stops, shrink)
    result, _ = play_from(lambda: Started(make_env(), options), playback, episode, on_phase)
    is_same = result.outcome is Outcome.SUCCESS and result.steps == end and len(playback.seen) == len(frames)
    if take.result.solved is None:
        is_same = is_same and result.state_sha256 == take.result.state_sha256
    if not is_same:
        why = result.error or f"the second pass ended in {result.outcome} after {result.steps} steps, not as the first"
        return spoilt(episode, take, Culprit.ENV, why)
    seen = playback.seen
    return Demonstration(
        episode,
        take,
        frames,
        images={camera: np.stack([obs["images"][camera] for obs in seen]) for camera in seen[0]["images"]},
        proprio=np.stack([obs["proprio"] for obs in seen]),
        chunks=np.stack([chunk for _, chunk in kept_frames(take, rule)]),
        instructions=tuple(obs["instruction"] for obs in seen),
    )


def every_frame(
    make_env: Callable[[], BenchEnv],
    executed: NDArray[np.float32],
    ends: Sequence[int],
    episode: Episode,
    options: Options,
    on_phase: OnPhase,
) -> tuple[Result, list[Observation]]:
    """Execute a take's actions (N, A) once more; return what was shown before each, images as rendered.

    ``ends`` are the ends of its segments.
    """
    steps = np.arange(len(executed), dtype=np.int32)
    playback = Playback(executed, steps, np.array(ends, np.int32), lambda image: image)
    result, _ = play_from(lambda: Started(make_env(), options), playback, episode, on_phase)
    return result, playback.seen


def kept_frames(take: Take, rule: FrameRule) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (control step, label chunk (K, A)) of every frame to keep.

    A frame is kept where the actions that follow it were executed without noise, for a whole chunk or to the end of
    its task; there the last action goes on to the end of the chunk, for a policy that gets there a step late must not
    stop short. Each task's first frame is kept if it can be.
    """
    grip = np.sign(take.labels[:, -1])
    switches = np.flatnonzero(np.diff(grip)) + 1
    for first, end in take.segments:
        last = first - rule.stride
        for step in range(first, end):
            if not take.clean[step : min(step + rule.chunk, end)].all():
                continue
            is_contact = bool((np.abs(switches - step) <= _CONTACT).any())
            if step - last >= (rule.contact_stride if is_contact else rule.stride):
                last = step
                yield step, _chunk(take.labels[step : min(step + rule.chunk, end)], rule.chunk)


def _chunk(labels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.concatenate([labels, np.repeat(labels[-1:], size - len(labels), axis=0)])


def spoilt(episode: Episode, take: Take, culprit: Culprit | None, why: str) -> Demonstration:
    """Return the demonstration as an ERROR, to be recorded again."""
    failed = replace(take.result, outcome=Outcome.ERROR, culprit=culprit, error=why)
    return _without_frames(episode, replace(take, result=failed))


def _without_frames(episode: Episode, take: Take) -> Demonstration:
    none: Array = np.zeros(0, np.float32)
    return Demonstration(episode, take, np.zeros(0, np.int32), {}, none, none, ())


def play_from(
    make_env: Callable[[], BenchEnv], policy: Policy, episode: Episode, on_phase: OnPhase
) -> tuple[Result, Trace]:
    """Play an episode in an environment that starts where it wants to."""
    return play(make_env, policy, episode, start_option=_START, max_horizon=None, on_phase=on_phase)
