"""One optimiser step after another; everything a step draws is a function of the seed and the step's number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.model import RdvlaModel, untrained
from rdvla_bench.policies.rdvla.trained import TrainedInterface
from rdvla_bench.policies.rdvla.training.augmentation import Augmenter
from rdvla_bench.policies.rdvla.training.batches import Ahead, Batch, DataOrder, collate
from rdvla_bench.policies.rdvla.training.checkpoints import State, read_state, write_state
from rdvla_bench.policies.rdvla.training.dataset import Dataset, DatasetError, check_fit
from rdvla_bench.policies.rdvla.training.depth_sampling import DepthDistribution
from rdvla_bench.policies.rdvla.training.eyes import Readout, draw
from rdvla_bench.policies.rdvla.training.initial import Initial
from rdvla_bench.policies.rdvla.training.objective import l1_loss, unroll
from rdvla_bench.policies.rdvla.training.recipe import Freeze, Recipe
from rdvla_bench.policies.rdvla.weights import digest, truncated_normal
from rdvla_bench.seeding import generator

CLIP = 1.0  # largest norm of the gradient of all weights together (released)
NEVER_TRAINED = "head.gamma_init"  # no gradient reaches it in the released code
ADAPTER = "head.adapter.weight"
SCAFFOLD = "scaffold."
GUESS = "guess"
READOUT = "eyes"
FROZEN: Mapping[Freeze, tuple[str, ...]] = {
    "none": (),
    "vision": ("backbone.vision.",),
    "backbone": ("backbone.",),
    "body": ("backbone.", "proprio."),
}


class Diverged(UsageError):
    """The loss or its gradient is no longer a number."""


class Loss(NamedTuple):
    """What a batch is charged with; gradients pass through both."""

    chunk: Tensor  # L1 on normalised actions, mean over the batch
    goal: Tensor | float  # the second loss, weighted; 0 where there is none

    @property
    def total(self) -> Tensor:
        """Return what is minimised."""
        return self.chunk + self.goal


@dataclass(frozen=True)
class StepReport:
    """What one step did."""

    step: int  # finished steps, this one included
    loss: float  # L1 on normalised actions, mean over the batch, and the weighted loss of the goal
    depth: int  # 0: the eyes alone were trained
    learning_rate: float
    gradient_norm: float  # before clipping


class Trainer:
    """A model, its optimiser and the number of finished steps."""

    def __init__(
        self, recipe: Recipe, config: RdvlaConfig, data: Dataset, device: str = "cpu", initial: Initial | None = None
    ) -> None:
        """Build the model on ``device``, untrained or with ``initial`` weights, whose config then counts.

        Raises:
            DatasetError: the data does not fit ``config``.
            CheckpointError: the initial weights do not.
        """
        config = initial.config if initial else config
        config = replace(config, head=replace(config.head, start=recipe.start))
        check_fit(data, config)
        if recipe.augmentation.slide and config.convention.far_camera is None:
            raise UsageError(
                f"augmentation.slide {recipe.augmentation.slide}: {config.benchmark}'s camera is near, expected 0"
            )
        self.recipe = recipe
        self.config = config
        self.data = data
        self.device = torch.device(device)
        self.step = 0
        self.model = untrained(config, recipe.seed, recipe.head_scale)
        self.initial_sha256: str | None = None  # of the weights given, in their own bounds
        self.vocabulary = initial.vocabulary if initial else ""
        if initial:
            initial.apply(self.model)
            self.initial_sha256 = digest(self.model)
            initial.fit(self.model, data.statistics)
        self.model.to(self.device).train()
        self.kept = _kept(recipe, self.model, initial)
        self.trained = _trainable(self.model, recipe.freeze)
        if recipe.goal_weight:
            _require_goals(data, "goal_weight")
        if recipe.augmentation.blind:
            _require_goals(data, "augmentation.blind")
        self.scaffold = _scaffold(recipe, config).to(self.device)
        self.trained = {f"{SCAFFOLD}{name}": p for name, p in self.scaffold.named_parameters()} | self.trained
        # AdamW with torch's own betas and weight decay, as released.
        *others, adapter = self.trained.values()
        groups = [{"params": others}, {"params": [adapter]}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
        self.average = {name: p.detach().clone() for name, p in self.trained.items()} if recipe.ema else {}
        self._averaging = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
        self.interface = TrainedInterface(config, data.statistics, self.vocabulary)
        self._order = DataOrder(len(data), recipe.batch_size, recipe.seed)
        self._batches = Ahead(self._batch)
        self._depths = DepthDistribution(recipe.mean_depth, shallowest=recipe.min_depth, deepest=recipe.max_depth)

    def advance(self) -> StepReport:
        """Do one step.

        Raises:
            Diverged: the loss or the gradient is NaN or infinite; the weights are those of the step before.
        """
        recipe, step = self.recipe, self.step
        depth = 0
        if step >= recipe.eyes_steps:
            depth = int(self._depths.draw(generator("rdvla-train-depth", recipe.seed, step), 1)[0])
        learning_rate = recipe.learning_rate_at(step)
        for group, share in zip(self.optimiser.param_groups, (1.0, recipe.adapter_rate), strict=True):
            group["lr"] = learning_rate * share
        self.optimiser.zero_grad()  # to None: what a phase does not reach keeps its value
        loss = self.loss(self._batches.take(step), depth, generator("rdvla-train-noise", recipe.seed, step)).total
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.trained.values(), CLIP)
        report = StepReport(step + 1, float(loss.detach()), depth, learning_rate, float(norm))
        if not torch.isfinite(norm) or not torch.isfinite(loss):
            raise Diverged(
                f"step {report.step}: loss {report.loss}, gradient norm {report.gradient_norm}. "
                f"Lower the learning rate ({recipe.learning_rate:g}) or warm up longer ({recipe.warmup_steps} steps)"
            )
        self.optimiser.step()
        self._update_average()
        self.step += 1
        return report

    def _batch(self, step: int) -> Batch:
        augment = Augmenter(self.recipe.augmentation, self.recipe.seed, step)
        return collate(self.data, self._order.indices(step), self.interface, self.device, augment)

    def loss(self, batch: Batch, depth: int, rng: np.random.Generator) -> Loss:
        """Return the loss at a depth, from a start drawn from ``rng``; at depth 0 that of the eyes alone."""
        model, head = self.model, self.config.head
        token = model.proprio(batch.proprio)
        if not depth:
            glance = self.scaffold[READOUT](model.backbone.see(batch.pixels, batch.texts, token))
            return Loss(l1_loss(glance.chunk, batch.chunk), self._goal_loss(glance.goal, batch))
        noise = torch.from_numpy(truncated_normal(rng, (len(batch.chunk), head.chunk, head.width)))
        taps = model.backbone(batch.pixels, batch.texts, token)
        conditioning = model.head.condition(taps, token)
        loss = l1_loss(unroll(model.head, conditioning, noise.to(self.device), depth), batch.chunk)
        if GUESS not in self.scaffold:
            return Loss(loss, 0.0)
        guess = self.scaffold[GUESS](taps[head.taps[-1]].latents.mean(dim=1))
        return Loss(loss, self._goal_loss(guess, batch))

    def _goal_loss(self, guess: Tensor, batch: Batch) -> Tensor | float:
        if not self.recipe.goal_weight or batch.goal is None:
            return 0.0
        return self.recipe.goal_weight * l1_loss(guess, batch.goal)

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average:  # its names are those of what is trained, in the same order
            self._averaging(list(self.average.values()), list(self.trained.values()), 0)

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Put the weights to export in the place of those being trained for a while."""
        self._swap()
        parameters = dict(self.model.named_parameters()) if self.kept else {}
        own = {name: parameter.data for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            parameter.data = self._mixed(name, own[name])
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = own[name]
            self._swap()

    def _mixed(self, name: str, weight: Tensor) -> Tensor:
        """Return what is exported of a weight, of which the recipe may keep some as it was given."""
        return torch.lerp(weight, self.kept[name], self.recipe.keep) if self.kept else weight

    def _swap(self) -> None:
        for name, average in self.average.items():
            parameter = self.trained[name]
            parameter.data, self.average[name] = average, parameter.data

    def weights(self) -> dict[str, Tensor]:
        """Return the weights to export: all of the model's, averaged and mixed with those given as the recipe says."""
        average = {name: p for name, p in self.average.items() if not name.startswith(SCAFFOLD)}
        trained = {name: p.detach() for name, p in self.model.named_parameters()} | average
        return {name: self._mixed(name, weight) for name, weight in trained.items()}

    def _parameters(self) -> dict[str, nn.Parameter]:
        """Return all parameters by name, the scaffold's among them."""
        return dict(self.model.named_parameters()) | self.trained

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on, replacing ``path`` at once."""
        names = list(self.trained)
        moments = self.optimiser.state_dict()["state"]
        write_state(
            path,
            State(
                step=self.step,
                weights={name: p.detach() for name, p in self._parameters().items()},
                moments={names[index]: dict(values) for index, values in moments.items()},
                average=self.average,
            ),
        )

    @torch.no_grad()
    def restore(self, path: Path) -> None:
        """Continue from what ``save`` wrote.

        Raises:
            CheckpointError: the file is damaged or of another model.
        """
        parameters = self._parameters()
        state = read_state(path, weights=parameters, trained=self.trained, averaged=self.average)
        for name, parameter in parameters.items():
            parameter.copy_(state.weights[name])
        for name, average in self.average.items():
            average.copy_(state.average[name])
        names = {name: index for index, name in enumerate(self.trained)}
        self.optimiser.load_state_dict(
            {
                "state": {names[name]: values for name, values in state.moments.items()},
                "param_groups": self.optimiser.state_dict()["param_groups"],
            }
        )
        self.step = state.step


def _kept(recipe: Recipe, model: RdvlaModel, initial: Initial | None) -> dict[str, Tensor]:
    """Return the weights of ``model`` as they were given, where the recipe keeps a share of them.

    Raises:
        UsageError: not all of them were given.
    """
    if not recipe.keep:
        return {}
    if initial is None or initial.parts != "all":
        raise UsageError(f"keep {recipe.keep:g}: there is nothing to keep of without --init and --init-parts all")
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def _scaffold(recipe: Recipe, config: RdvlaConfig) -> nn.ModuleDict:
    """Return the networks that are trained along and not kept.

    Raises:
        UsageError: eyes are to be trained that this model does not have.
    """
    scaffold = nn.ModuleDict()
    if recipe.goal_weight:
        scaffold[GUESS] = draw(nn.Linear(config.head.width, 3), "rdvla-train-guess", recipe.seed)
    if recipe.eyes_steps:
        if config.backbone.convnet is None:
            raise UsageError(f"eyes_steps {recipe.eyes_steps}: {config.name} sees with towers, expected 0")
        scaffold[READOUT] = Readout(config, recipe.seed)
    return scaffold


def _require_goals(data: Dataset, wanting: str) -> None:
    if "goal" not in data[0] or "goal" not in data[len(data) - 1]:
        raise DatasetError(f"{wanting} wants demonstrations that name the tool's next goal: record them anew")


def _trainable(model: RdvlaModel, freeze: Freeze) -> dict[str, nn.Parameter]:
    """Let gradients reach what is to be trained, and return it by name, the adapter last."""
    frozen = (*FROZEN[freeze], NEVER_TRAINED)
    trained = {name: p for name, p in model.named_parameters() if not name.startswith(frozen)}
    trained[ADAPTER] = trained.pop(ADAPTER)
    for parameter in trained.values():
        parameter.requires_grad = True
    return trained
