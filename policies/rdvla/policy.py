"""RD-VLA as a policy: observation and query seed in, chunk and its cost out.

Same query, same bits: the scratchpad's noise comes from the generator handed in, nothing reads PyTorch's global
generator, and on the CPU a query runs on one thread, because the order of a sum depends on the number of threads.
``act_batch`` and ``stream`` give each sample its own noise and its own exit. Their arithmetic rounds differently from
``act``'s (matrix products over more rows are summed in another order), by at most ``BATCH_TOLERANCE`` in an action;
with ``padded_slots`` every query is computed in a batch of that many, and on the CPU all three give the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from rdvla_bench.errors import PolicyFault
from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.engine import Answer, DepthEngine, Inputs
from rdvla_bench.policies.rdvla.exit_rules import ExitRule
from rdvla_bench.policies.rdvla.flops import query_flops
from rdvla_bench.policies.rdvla.images import check_image
from rdvla_bench.policies.rdvla.interface import Interface, UntrainedInterface
from rdvla_bench.policies.rdvla.model import RdvlaModel
from rdvla_bench.policies.rdvla.nudge import Nudge, Proprio
from rdvla_bench.policies.rdvla.prepared import PreparedHead
from rdvla_bench.policies.rdvla.prepared_backbone import PreparedBackbone
from rdvla_bench.policies.rdvla.weights import truncated_normal
from rdvla_bench.policy import HorizonRule, Policy, PolicyCard
from rdvla_bench.types import ActionChunk, Compute, Observation

BATCH_TOLERANCE = 1e-5  # of an action in [-1, 1], float32
MAX_SLOTS = 32
"""How many samples ``act_batch`` has in flight at once; more wait."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch's CPU arithmetic on one thread, and restore the number it had."""
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class _Query:
    """One observation, checked and resized."""

    pixels: torch.Tensor  # (cameras, 3, H, W) in [0, 1]
    text: Sequence[int]
    proprio: NDArray[np.float32]  # (P,)
    image_sizes: Sequence[int]  # the rendered images' sides
    prepared_s: float  # what all this took


class RdvlaPolicy(Policy):
    """The model with one exit rule and one horizon rule.

    A query's state is the proprioception of the query before, as measured, where a nudge asks for it; else None, and a
    query depends on nothing before it.
    """

    def __init__(
        self,
        model: RdvlaModel,
        card: PolicyCard,
        exit_rule: ExitRule,
        horizon: HorizonRule,
        *,
        padded_slots: int = 0,
        interface: Interface | None = None,
        nudge: float = 0.0,
    ) -> None:
        """Take a built model and the card that describes all of this; ``padded_slots=0`` does not pad.

        The model's weights are prepared for inference here: changes to them after this are not seen.
        ``interface`` holds the conventions of a checkpoint; without one, those of untrained weights. ``nudge``: in m,
        how far away a hand that stood still is told to be (``nudge.Nudge``).
        """
        self.model = model
        self.head, self.backbone = PreparedHead(model.head), PreparedBackbone(model.backbone)
        self.card = card
        self.exit_rule = exit_rule
        self.horizon = horizon
        self.nudge = Nudge(model.config.convention, nudge)
        self.interface = interface or UntrainedInterface(model.config)
        self._tokens = lru_cache(maxsize=256)(self.interface.tokens)  # an episode asks with the same words throughout
        self.padded_slots = padded_slots
        self.device = model.head.action_queries.device
        self.batch_is_exact = padded_slots > 0 and self.device.type == "cpu"

    def act(
        self, obs: Observation, state: Proprio | None, rng: np.random.Generator
    ) -> tuple[ActionChunk, Proprio | None]:
        """Return one chunk in [-1, 1], bit-identical for the same observation, state and generator state."""
        return self.act_batch([obs], [state], [rng])[0]

    def act_batch(
        self,
        observations: Sequence[Observation],
        states: Sequence[Proprio | None],
        rngs: Sequence[np.random.Generator],
    ) -> list[tuple[ActionChunk, Proprio | None]]:
        """Return one chunk a sample, in the order given."""
        stream = self.stream(min(len(observations), MAX_SLOTS))
        samples = zip(observations, states, rngs, strict=True)
        tickets = [stream.submit(obs, state, rng) for obs, state, rng in samples]
        answers: dict[int, tuple[ActionChunk, Proprio | None]] = {}
        while len(stream):
            answers |= stream.step()
        return [answers[ticket] for ticket in tickets]

    def stream(self, slots: int) -> RdvlaStream:
        """Return continuous batching over depth, of ``slots`` samples at once or as many as are padded to."""
        return RdvlaStream(self, self.padded_slots or slots)

    def prepare(self, obs: Observation) -> _Query:
        """Check and resize what the policy sees.

        Raises:
            PolicyFault: an image or the proprioception is missing or of another kind.
        """
        begun = time.perf_counter()
        config = self.model.config
        pixels, proprio = self._pixels(obs), self.interface.proprio(_proprio(obs, config))
        text = self._tokens(obs["instruction"])
        sizes = [len(obs["images"][camera]) for camera in config.backbone.cameras]
        return _Query(pixels, text, proprio, sizes, time.perf_counter() - begun)

    def read(self, queries: Sequence[_Query]) -> Inputs:
        """Run backbone and proprio projector."""
        pixels = torch.stack([query.pixels for query in queries]).to(self.device)
        proprio = torch.from_numpy(np.stack([query.proprio for query in queries])).to(self.device)
        token = self.model.proprio(proprio)
        return Inputs(self.backbone(pixels, [query.text for query in queries], token), token)

    def finish(self, query: _Query, answer: Answer) -> ActionChunk:
        """Return the chunk in the env's convention, and its cost."""
        ended, config = answer.exit, self.model.config
        flops = query_flops(config, query.image_sizes, len(query.text), ended.depth, ended.decodes)
        backbone_s = query.prepared_s + answer.backbone_s
        compute = Compute(
            depth=ended.depth,
            exit_trace=ended.trace,
            flops=float(flops),
            model_s=backbone_s + answer.head_s,
            batch_size=answer.batch_size,
            backbone_s=backbone_s,
            head_s=answer.head_s,
            peak_memory_bytes=torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None,
        )
        return ActionChunk(self.interface.actions(ended.chunk), compute)

    def _pixels(self, obs: Observation) -> torch.Tensor:
        """Return (cameras, 3, H, W) in [0, 1]."""
        backbone = self.model.config.backbone
        images = []
        for camera in backbone.cameras:
            if camera not in obs["images"]:
                raise PolicyFault(f"no image of camera '{camera}', only of {sorted(obs['images'])}")
            check_image(camera, obs["images"][camera])
            images.append(self.interface.image(obs["images"][camera]))
        return torch.stack(images)


class RdvlaStream:
    """Queries to one policy, each answered as soon as it stops. Its noise is drawn when it is submitted."""

    def __init__(self, policy: RdvlaPolicy, slots: int) -> None:
        """Start empty."""
        self._policy = policy
        self._engine = DepthEngine(
            policy.head, policy.exit_rule, policy.read, slots=slots, is_padded=policy.padded_slots > 0
        )
        self._open: dict[int, tuple[_Query, Proprio | None]] = {}

    def __len__(self) -> int:
        """Return how many queries are not yet answered."""
        return len(self._engine)

    def submit(self, obs: Observation, state: Proprio | None, rng: np.random.Generator) -> int:
        """Take one query; return its ticket."""
        policy, config = self._policy, self._policy.model.config
        head, proprio = config.head, _proprio(obs, config)
        with one_thread():
            query = policy.prepare({**obs, "proprio": policy.nudge(proprio, state, rng)})
        noise = torch.from_numpy(truncated_normal(rng, (head.chunk, head.width)))
        ticket = self._engine.submit(query, noise)
        self._open[ticket] = query, proprio.copy() if policy.nudge.reach else None
        return ticket

    def step(self) -> list[tuple[int, tuple[ActionChunk, Proprio | None]]]:
        """Let waiting queries in and run one iteration of all."""
        with one_thread():
            stopped = self._engine.step()
        finished = []
        for ticket, answer in stopped:
            query, state = self._open.pop(ticket)
            finished.append((ticket, (self._policy.finish(query, answer), state)))
        return finished


def _proprio(obs: Observation, config: RdvlaConfig) -> NDArray[np.float32]:
    """Return (P,) in the env's units."""
    proprio = np.asarray(obs["proprio"], np.float32)
    width = config.convention.n_proprio
    if proprio.shape != (width,):
        raise PolicyFault(f"expected proprio ({width},), got {proprio.shape}")
    if not np.isfinite(proprio).all():
        raise PolicyFault(f"proprio value {int(np.argmin(np.isfinite(proprio)))} is not finite: {proprio}")
    return proprio
