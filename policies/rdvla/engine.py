"""Continuous batching over depth: queries wait, enter as soon as a slot is free, and leave at their own exit.

Nobody pays for the slowest: the batch is refilled between iterations, as servers of language models do between tokens.
The keys and values of a query are computed once. Queries that wait are read several at a time, ahead of the slots
that they will take: slots come free one by one, and a batch of one or two is the most expensive way to read.
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
from rdvla_bench.policies.rdvla.head import Tap
from rdvla_bench.policies.rdvla.recurrence import Exit, Head, Recurrence

Q = TypeVar("Q")

READ_TOGETHER = 16
"""Waiting queries that are read at once, if there are as many slots; more where more slots are free."""


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
        head: Head,
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
        self._read: list[int] = []  # tickets whose queries are read, and that have no slot yet
        self._read_state: tuple[Tensor, ...] = ()  # theirs, as ``Recurrence.enter`` takes it
        self._accounts: dict[int, _Account] = {}
        self._submitted = 0

    def __len__(self) -> int:
        """Return how many queries wait or run."""
        return len(self._waiting) + len(self._read) + len(self._loop)

    def submit(self, query: Q, unit_noise: Tensor) -> int:
        """Queue one query with its S_0 before scaling, (K, D); return its ticket: 0, 1, 2, ..."""
        self._submitted += 1
        self._waiting.append((self._submitted - 1, query, unit_noise))
        return self._submitted - 1

    @torch.inference_mode()
    def step(self) -> list[tuple[int, Answer]]:
        """Let waiting queries in, run one iteration of all; return the tickets and answers of those that stopped."""
        while (self._waiting or self._read) and (free := self._loop.slots - len(self._loop)):
            if not self._read:
                n = 1 if self._is_padded else min(len(self._waiting), self._loop.slots, max(free, READ_TOGETHER))
                self._read_next([self._waiting.popleft() for _ in range(n)])
            self._admit(min(free, len(self._read)))
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

    def _read_next(self, queries: Sequence[tuple[int, Q, Tensor]]) -> None:
        """Run backbone, conditioning and prelude of these queries, in one batch."""
        tickets, asked, noises = zip(*queries, strict=True)
        begun = self._clock()
        inputs = self._backbone(asked)
        between = self._clock()
        noise = torch.stack(noises).to(self._device)
        self._read_state = self._loop.start(self._head.condition(inputs.taps, inputs.proprio), noise)
        self._read = list(tickets)
        ended = self._clock()
        for ticket in tickets:
            self._accounts[ticket] = _Account((between - begun) / len(tickets), (ended - between) / len(tickets))

    def _admit(self, n: int) -> None:
        """Give a slot to the first ``n`` queries that are read."""
        self._loop.enter(self._read[:n], tuple(t[:n] for t in self._read_state))
        self._read, self._read_state = self._read[n:], tuple(t[n:] for t in self._read_state)

    def _answer(self, ticket: int, ended: Exit) -> Answer:
        account = self._accounts.pop(ticket)
        return Answer(ended, account.backbone_s, account.head_s, account.batch_size)

    def _clock(self) -> float:
        """Return seconds, after everything asked of a GPU is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
