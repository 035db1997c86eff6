"""Continuous batching over depth: queries wait, enter as soon as a slot is free, and leave at their own exit.

Nobody pays for the slowest: the batch is refilled between iterations, as servers of language models do between tokens.
The keys and values of a query are computed once, when it enters, in one batch with those that enter with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from rdvla_bench.policies.rdvla.exit_rules import ExitRule
from rdvla_bench.policies.rdvla.head import RecurrentHead, Tap
from rdvla_bench.policies.rdvla.recurrence import Exit, Recurrence

Q = TypeVar("Q")


class Inputs(NamedTuple):
    """What the head reads of a batch of queries."""

    taps: Mapping[int, Tap]  # by language model layer
    proprio: Tensor  # (B, 1, D), the projected token


@dataclass(frozen=True, eq=False)
class Answer:
    """One query's exit and what it cost: of work done for several at once, its equal share."""

    exit: Exit
    backbone_s: float  # what ``backbone`` took
    head_s: float  # conditioning, prelude, core and coda
    batch_size: int  # the most queries that shared an iteration with it, itself included


@dataclass
class _Account:
    """A running query's costs so far."""

    backbone_s: float
    head_s: float
    batch_size: int = 0


class DepthEngine(Generic[Q]):
    """Answers queries of any type ``Q`` that ``backbone`` turns into what the head reads.

    With ``is_padded`` an answer has the same bits whatever its neighbours and whenever it came, on the CPU (measured;
    the shapes of all matrix products are constant): queries are conditioned one by one, and all ``slots`` computed
    always. Without, it agrees within rounding.
    """

    def __init__(
        self,
        head: RecurrentHead,
        rule: ExitRule,
        backbone: Callable[[Sequence[Q]], Inputs],
        *,
        slots: int,
        is_padded: bool = False,
    ) -> None:
        """Prepare; memory is taken when the first query enters."""
        self._head, self._backbone, self._is_padded = head, backbone, is_padded
        self._loop = Recurrence(head, rule, slots, is_padded=is_padded)
        self._device = head.action_queries.device
        self._waiting: deque[tuple[int, Q, Tensor]] = deque()
        self._accounts: dict[int, _Account] = {}
        self._submitted = 0

    def __len__(self) -> int:
        """Return how many queries wait or run."""
        return len(self._waiting) + len(self._loop)

    def submit(self, query: Q, unit_noise: Tensor) -> int:
        """Queue one query with its S_0 before scaling, (K, D); return its ticket: 0, 1, 2, ..."""
        self._submitted += 1
        self._waiting.append((self._submitted - 1, query, unit_noise))
        return self._submitted - 1

    @torch.inference_mode()
    def step(self) -> list[tuple[int, Answer]]:
        """Let waiting queries in, run one iteration of all; return the tickets and answers of those that stopped."""
        while self._waiting and len(self._loop) < self._loop.slots:
            free = self._loop.slots - len(self._loop)
            n = 1 if self._is_padded else min(free, len(self._waiting))
            self._admit([self._waiting.popleft() for _ in range(n)])
        running = self._loop.tickets
        if not running:
            return []
        begun = self._clock()
        stopped = self._loop.advance()
        share = (self._clock() - begun) / len(running)
        for ticket in running:
            account = self._accounts[ticket]
            account.head_s += share
            account.batch_size = max(account.batch_size, len(running))
        return [(ticket, self._answer(ticket, ended)) for ticket, ended in stopped]

    def run(self, queries: Iterable[tuple[Q, Tensor]]) -> list[Answer]:
        """Answer these queries, each with its noise; return the answers in the order given. Nothing else may run."""
        tickets = [self.submit(query, noise) for query, noise in queries]
        answers: dict[int, Answer] = {}
        while len(self):
            answers |= self.step()
        return [answers[ticket] for ticket in tickets]

    def _admit(self, entering: Sequence[tuple[int, Q, Tensor]]) -> None:
        tickets, queries, noises = zip(*entering, strict=True)
        begun = self._clock()
        inputs = self._backbone(queries)
        between = self._clock()
        noise = torch.stack(noises).to(self._device)
        self._loop.enter(tickets, self._head.condition(inputs.taps, inputs.proprio), noise)
        ended = self._clock()
        for ticket in tickets:
            self._accounts[ticket] = _Account((between - begun) / len(tickets), (ended - between) / len(tickets))

    def _answer(self, ticket: int, ended: Exit) -> Answer:
        account = self._accounts.pop(ticket)
        return Answer(ended, account.backbone_s, account.head_s, account.batch_size)

    def _clock(self) -> float:
        """Return seconds, after everything asked of a GPU is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
