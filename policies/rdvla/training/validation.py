"""The error on demonstrations that are not trained on, while training: it decides nothing of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rdvla_bench.policies.rdvla.training.batches import collate
from rdvla_bench.policies.rdvla.training.dataset import Dataset, check_fit
from rdvla_bench.policies.rdvla.training.trainer import Trainer
from rdvla_bench.seeding import generator

BATCH = 32
SAMPLES = 512
"""Frames that are looked at; the same ones every time."""


@dataclass(frozen=True)
class ValidationReport:
    """What a look at the held-out data found."""

    step: int  # finished steps
    error: float  # mean |predicted - label| of normalised actions
    depth: int  # 0: of the eyes alone
    data_sha256: str


class Validation:
    """Frames of a data set, drawn once."""

    def __init__(self, data: Dataset, trainer: Trainer, samples: int = SAMPLES) -> None:
        """Draw up to ``samples`` frames.

        Raises:
            DatasetError: the data does not fit the model.
        """
        check_fit(data, trainer.config)
        self.data = data
        self._trainer = trainer
        self._frames = [int(i) for i in generator("rdvla-validation").permutation(len(data))[:samples]]

    @torch.no_grad()
    def look(self) -> ValidationReport:
        """Measure the weights as they would be exported now, at the recipe's mean depth, on unchanged pictures."""
        trainer, recipe = self._trainer, self._trainer.recipe
        depth = 0 if recipe.eyes_steps and trainer.step <= recipe.eyes_steps else recipe.mean_depth
        total = 0.0
        with trainer.exported():
            for first in range(0, len(self._frames), BATCH):
                batch = collate(self.data, self._frames[first : first + BATCH], trainer.interface, trainer.device)
                loss = trainer.loss(batch, depth, generator("rdvla-validation", first))
                total += float(loss.chunk) * len(batch.chunk)
        return ValidationReport(trainer.step, total / len(self._frames), depth, self.data.fingerprint)
