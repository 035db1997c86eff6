"""The loop over depth: each sample of a batch iterates until its own exit, then leaves the batch.

The coda runs only after iterations whose chunk the exit rule reads, and after the last one. Memory does not grow
with depth: two chunks and two scratchpads a sample are alive at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdvla_bench.policies.rdvla.exit_rules import ExitRule
from rdvla_bench.policies.rdvla.head import Conditioning, RecurrentHead


@dataclass(frozen=True, eq=False)
class Exit:
    """Where one sample stopped."""

    chunk: NDArray[np.float32]  # (K, A) as the head puts it out: normalised, not clipped
    depth: int
    trace: tuple[float, ...]  # the criterion at each comparison, the last one at ``depth``
    decodes: int  # runs of the coda


def iterate_to_exit(head: RecurrentHead, conditioning: Conditioning, unit_noise: Tensor, rule: ExitRule) -> list[Exit]:
    """Run every sample from S_0 = ``unit_noise`` (B, K, D), scaled, to its exit; returned in the order given."""
    s_pre = head.encode(conditioning)
    scratchpad = head.scratchpad(unit_noise)
    alive = list(range(len(unit_noise)))
    exits: dict[int, Exit] = {}
    traces: list[list[float]] = [[] for _ in alive]
    previous: NDArray[np.float32] | None = None
    decodes = 0
    for depth in range(1, rule.max_depth + 1):
        scratchpad = head.iterate(scratchpad, s_pre, conditioning)
        last = depth == rule.max_depth
        if not (last or rule.reads(depth)):
            continue
        current = head.decode(scratchpad, conditioning).float().cpu().numpy()
        decodes += 1
        stopped = np.full(len(alive), last)
        if previous is not None:
            for row, value in enumerate(rule.value(previous, current).tolist()):
                traces[alive[row]].append(value)
                stopped[row] |= rule.stops(value)
        for row in np.flatnonzero(stopped).tolist():
            sample = alive[row]
            exits[sample] = Exit(current[row].copy(), depth, tuple(traces[sample]), decodes)
        if stopped.all():
            break
        previous = current
        if stopped.any():
            keep = np.flatnonzero(~stopped)
            rows = torch.from_numpy(keep).to(scratchpad.device)
            alive, previous = [alive[row] for row in keep], current[keep]
            scratchpad, s_pre, conditioning = scratchpad[rows], s_pre[rows], conditioning.select(rows)
    return [exits[sample] for sample in range(len(unit_noise))]
