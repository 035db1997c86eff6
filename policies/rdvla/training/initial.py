"""Weights that a run starts from instead of drawn ones: a model trained here, or a folder that the authors released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rdvla_bench.errors import nearest
from rdvla_bench.plan import differences
from rdvla_bench.policies.rdvla.checkpoint import HUB, read_weights
from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.model import RdvlaModel
from rdvla_bench.policies.rdvla.shipped_weights import installed, is_bare_name
from rdvla_bench.policies.rdvla.statistics import Statistics
from rdvla_bench.policies.rdvla.training.checkpoints import CheckpointError, is_trained_here, read_model, require_same
from rdvla_bench.policies.rdvla.training.rescaling import rescale

Parts = Literal["all", "backbone", "body"]
PREFIXES: Mapping[Parts, tuple[str, ...]] = {
    "all": ("",),
    "backbone": ("backbone.",),
    "body": ("backbone.", "proprio."),  # all but the head
}
MODEL = "model.safetensors"
_READER = "proprio.fc1.weight"  # (D, P); with rotation "matrix" the empty hand's value comes last


@dataclass(frozen=True, eq=False)
class Initial:
    """Some or all weights of a model, and the sizes of the model that is to be trained."""

    source: str
    parts: Parts
    config: RdvlaConfig
    weights: Mapping[str, Tensor]
    vocabulary: str = ""  # tokenizer.json of a released folder
    statistics: Statistics | None = None  # the bounds of a model trained here

    @torch.no_grad()
    def apply(self, model: RdvlaModel) -> None:
        """Overwrite the parts' parameters; the others keep what was drawn for them.

        Raises:
            CheckpointError: naming the first weight that is missing, not known or of another shape.
        """
        prefixes = PREFIXES[self.parts]
        wanted = {name: p for name, p in model.named_parameters() if name.startswith(prefixes)}
        found = {name: tensor for name, tensor in self.weights.items() if name.startswith(prefixes)}
        require_same(self.source, wanted, found)
        for name, parameter in wanted.items():
            parameter.copy_(found[name])

    def fit(self, model: RdvlaModel, statistics: Statistics) -> None:
        """Make the policy that ``apply`` put into ``model`` the same one in the bounds of the new data."""
        if self.statistics and self.parts != "backbone":  # which neither reads nor writes what has bounds
            rescale(model, self.statistics, statistics, is_head_given=self.parts == "all")


def read_initial(source: str, parts: Parts, sizes: RdvlaConfig) -> Initial:
    """Read a model of ``sizes`` from our file, run folder or package (by name), a released folder, ``hf://owner/name``.

    Taps, located stages and tokenizer are the source's: weights mean nothing with others.

    Raises:
        UsageError: it cannot be read, or is of other sizes; names the first.
    """
    shipped = installed().get(source)
    if shipped is None and is_bare_name(source):
        raise CheckpointError(
            f"no file, folder or weights of the package are called '{source}'.{nearest(source, installed())} "
            f"(of the package: {', '.join(installed())})"
        )
    path = shipped.path if shipped else Path(source).expanduser()
    file = path / MODEL if path.is_dir() else path
    vocabulary, statistics = "", None
    if source.startswith(HUB) or (path.is_dir() and not is_trained_here(file)):
        released = read_weights(source, sizes)
        config, weights, vocabulary = released.config, released.state, released.vocabulary
    else:
        trained = read_model(file)
        config, weights, vocabulary = trained.model.config, dict(trained.model.named_parameters()), trained.vocabulary
        statistics = trained.statistics
        config, weights = _told_more(config, weights, sizes)
    if parts != "all":
        config = replace(config, head=sizes.head)
    if differs := differences(_sizes(config), _sizes(sizes)):
        raise CheckpointError(f"{source} is no model of the sizes '{sizes.name}': {'; '.join(differs)}")
    return Initial(source, parts, replace(config, name=sizes.name), weights, vocabulary, statistics)


def _told_more(
    config: RdvlaConfig, weights: Mapping[str, Tensor], sizes: RdvlaConfig
) -> tuple[RdvlaConfig, Mapping[str, Tensor]]:
    """Return the same policy as one that is told of an empty hand and makes nothing of it yet, if ``sizes`` are so."""
    if config.gripper is not False or sizes.gripper != "empty":
        return config, weights
    first = weights[_READER]
    more = {_READER: torch.cat([first.detach(), first.new_zeros(len(first), 1)], dim=1)}
    head = replace(config.head, proprio=config.head.proprio + 1)
    return replace(config, gripper="empty", head=head), {**weights, **more}


def _sizes(config: RdvlaConfig) -> dict[str, Any]:
    """Return what must agree, flat; what the scratchpad starts from is the recipe's."""
    document = config.to_json()
    if convnet := document["backbone"]["convnet"]:
        del convnet["located"]  # wiring, as taps are
    free = {"tokenizer", "prelude_taps", "core_taps", "coda_taps", "start"}
    return {f"{part}.{k}": v for part in ("backbone", "head") for k, v in document[part].items() if k not in free}
