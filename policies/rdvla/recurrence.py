"""The loop over depth: samples enter a batch, iterate until their own exit, and leave it.

The coda runs only after iterations whose chunk the exit rule reads, and after a sample's last one. Memory does not
grow with depth: each slot holds one sample's keys, values and scratchpad, and the chunk before.

Non-obvious:

* Living samples are the first rows of the storage, so an iteration works on a view of it; a sample that leaves is
  replaced by one that enters or, if none does, by the last.
* A sample's arithmetic does not mix with its neighbours', but matrix products over another number of rows may round
  differently. ``is_padded`` computes all slots always, living or not: the shapes, and so the bits, never change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdvla_bench.policies.rdvla.config import HeadConfig
from rdvla_bench.policies.rdvla.exit_rules import ExitRule
from rdvla_bench.policies.rdvla.head import Conditioning, KeysValues, Tap

Floats = NDArray[np.float32]


class Head(Protocol):
    """What the loop needs of a head: ``head.RecurrentHead``, or ``prepared.PreparedHead`` for speed."""

    config: HeadConfig
    action_queries: Tensor

    def condition(self, taps: Mapping[int, Tap], proprio: Tensor) -> Conditioning:
        """Return every layer's keys and values."""

    def encode(self, conditioning: Conditioning) -> Tensor:
        """Return what every iteration is given of the prelude, (B, K, D)."""

    def scratchpad(self, unit: Tensor) -> Tensor:
        """Return S_0 of (B, K, D) unit noise."""

    def iterate(self, scratchpad: Tensor, s_pre: Tensor, conditioning: Conditioning) -> Tensor:
        """Return S_k of S_{k-1}."""

    def decode(self, scratchpad: Tensor, conditioning: Conditioning) -> Tensor:
        """Return a_k, (B, K, A)."""


@dataclass(frozen=True, eq=False)
class Exit:
    """Where one sample stopped."""

    chunk: Floats  # (K, A) as the head puts it out: normalised, not clipped
    depth: int
    trace: tuple[float, ...]  # the criterion at each comparison, the last one at ``depth``
    decodes: int  # runs of the coda


@dataclass
class _Sample:
    """What a living sample has done so far."""

    ticket: int
    depth: int = 0
    decodes: int = 0
    trace: list[float] = field(default_factory=list)
    previous: Floats | None = None  # (K, A), the last chunk read


class Recurrence:
    """A batch of at most ``slots`` samples, each with its own noise, depth and exit."""

    def __init__(self, head: Head, rule: ExitRule, slots: int, *, is_padded: bool = False) -> None:
        """Prepare; storage is made when the first samples enter."""
        self._head, self._rule, self.slots, self._is_padded = head, rule, slots, is_padded
        self._samples: list[_Sample] = []  # by row; rows in ``_holes`` have left
        self._holes: list[int] = []
        self._storage: tuple[Tensor, ...] = ()  # s_pre, scratchpad, then keys and values of core and coda
        self._view: tuple[Tensor, ...] = ()  # its first rows

    def __len__(self) -> int:
        """Return how many samples live."""
        return len(self._samples) - len(self._holes)

    @property
    def tickets(self) -> list[int]:
        """Return the tickets of the living, by row."""
        return [sample.ticket for row, sample in enumerate(self._samples) if row not in self._holes]

    def start(self, conditioning: Conditioning, unit_noise: Tensor) -> tuple[Tensor, ...]:
        """Return what ``enter`` takes: tensors of one row a sample, ``unit_noise`` (B, K, D) being S_0 unscaled."""
        stacks = (*conditioning.core, *conditioning.coda)
        return self._head.encode(conditioning), self._head.scratchpad(unit_noise), *(t for kv in stacks for t in kv)

    def enter(self, tickets: Sequence[int], state: tuple[Tensor, ...]) -> None:
        """Let in as many samples as ``tickets``, ``state`` being rows of what ``start`` returned.

        Takes possession of ``state``: it may be overwritten later.
        """
        if len(tickets) == self.slots:
            self._samples, self._holes, self._storage, self._view = [], [], state, ()
        elif not self._storage:
            self._storage = tuple(t.new_zeros((self.slots, *t.shape[1:])) for t in state)
        rows = self._claim(tickets)
        if len(tickets) < self.slots:
            index = torch.tensor(rows, device=state[0].device)
            for stored, new in zip(self._storage, state, strict=True):
                stored.index_copy_(0, index, new)

    def _claim(self, tickets: Sequence[int]) -> list[int]:
        """Give each ticket a row: one that was left, else the next."""
        rows = []
        for ticket in tickets:
            row = self._holes.pop() if self._holes else len(self._samples)
            self._samples[row : row + 1] = [_Sample(ticket)]
            rows.append(row)
        return rows

    def advance(self) -> list[tuple[int, Exit]]:
        """Run one iteration of every living sample; return those that stopped, with their tickets."""
        self._close_holes()
        width = self.slots if self._is_padded else len(self._samples)
        if not self._view or len(self._view[0]) != width:
            self._view = tuple(t[:width] for t in self._storage)
        s_pre, scratchpad, *keys_values = self._view
        conditioning = self._conditioning(keys_values)
        scratchpad.copy_(self._head.iterate(scratchpad, s_pre, conditioning))
        for sample in self._samples:
            sample.depth += 1
        last = self._rule.max_depth
        rows = [row for row, s in enumerate(self._samples) if s.depth == last or self._rule.reads(s.depth)]
        if not rows:
            return []
        if self._is_padded or len(rows) == len(self._samples):
            chunks = self._head.decode(scratchpad, conditioning).float().cpu().numpy()[rows]
        else:
            index = torch.tensor(rows, device=scratchpad.device)
            chunks = self._head.decode(scratchpad[index], conditioning.select(index)).float().cpu().numpy()
        return self._read(rows, chunks)

    def _conditioning(self, keys_values: Sequence[Tensor]) -> Conditioning:
        pairs = [KeysValues(*keys_values[i : i + 2]) for i in range(0, len(keys_values), 2)]
        n_core = len(self._head.config.core_taps)
        return Conditioning((), tuple(pairs[:n_core]), tuple(pairs[n_core:]))

    def _read(self, rows: Sequence[int], chunks: Floats) -> list[tuple[int, Exit]]:
        """Compare each row's chunk, (B, K, A), with the one before; let go of those that stop."""
        samples = [self._samples[row] for row in rows]
        # A first chunk is compared with itself, and the value not used: one call of the rule serves all.
        previous = np.stack([c if s.previous is None else s.previous for s, c in zip(samples, chunks, strict=True)])
        values = self._rule.value(previous, chunks).tolist()
        stopped = []
        for row, sample, chunk, value in zip(rows, samples, chunks, values, strict=True):
            sample.decodes += 1
            is_last = sample.depth == self._rule.max_depth
            if sample.previous is not None:
                sample.trace.append(value)
                is_last |= self._rule.stops(value)
            sample.previous = chunk
            if is_last:
                self._holes.append(row)
                ended = Exit(chunk.copy(), sample.depth, tuple(sample.trace), sample.decodes)
                stopped.append((sample.ticket, ended))
        return stopped

    def _close_holes(self) -> None:
        """Move the last living samples into the rows that were left and that nobody entered."""
        while self._holes:
            last = len(self._samples) - 1
            if last in self._holes:
                self._holes.remove(last)
            else:
                hole = self._holes.pop()
                self._samples[hole] = self._samples[last]
                for stored in self._storage:
                    stored[hole] = stored[last]
            self._samples.pop()


def iterate_to_exit(head: Head, conditioning: Conditioning, unit_noise: Tensor, rule: ExitRule) -> list[Exit]:
    """Run every sample from S_0 = ``unit_noise`` (B, K, D), scaled, to its exit; returned in the order given."""
    batch = len(unit_noise)
    loop = Recurrence(head, rule, batch)
    everyone = torch.arange(batch, device=unit_noise.device)
    owned = conditioning.select(everyone)._replace(prelude=conditioning.prelude)
    loop.enter(range(batch), loop.start(owned, unit_noise))
    exits: dict[int, Exit] = {}
    while len(loop):
        exits |= loop.advance()
    return [exits[sample] for sample in range(batch)]
