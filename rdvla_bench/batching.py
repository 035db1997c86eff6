"""Micro-batching: queries that arrive at about the same time are answered together.

A policy that offers a ``stream`` is fed as queries come, others get ``act_batch`` of what is there. The policy runs on
a thread of its own, one call at a time, so that new queries are taken in meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from rdvla_bench.errors import PolicyFault
from rdvla_bench.policy import Policy, QueryStream
from rdvla_bench.types import ActionChunk, Observation

T = TypeVar("T")


@dataclass(frozen=True)
class Batching:
    """How many queries are answered together, and how long the first of them waits for others."""

    max_batch: int = 32
    max_wait_s: float = 0.005  # below a fifth of the quickest model's query


def batching_for(policy: Policy, max_batch: int | None) -> Batching | None:
    """Return how to batch: as asked, or, asked nothing, only where a batched answer has the bits of a single one."""
    if max_batch is None:
        return Batching() if policy.batch_is_exact else None
    return Batching(max_batch) if max_batch > 1 else None


@dataclass(frozen=True, eq=False)
class _Question:
    obs: Observation
    state: Any
    rng: np.random.Generator
    answer: asyncio.Future[tuple[ActionChunk, Any]]


class Batcher:
    """Answers concurrent ``act`` calls of one event loop."""

    def __init__(self, policy: Policy, batching: Batching) -> None:
        """Take the policy; its thread starts with the first query."""
        self._policy, self._batching = policy, batching
        self._thread = ThreadPoolExecutor(1, "policy")
        self._waiting: list[_Question] = []
        self._is_full = asyncio.Event()
        self._stream: QueryStream | None = policy.stream(batching.max_batch)
        self._running: dict[int, _Question] = {}  # in the stream, by ticket
        self._work: asyncio.Task[None] | None = None

    async def act(self, obs: Observation, state: Any, rng: np.random.Generator) -> tuple[ActionChunk, Any]:
        """Answer one query, as ``Policy.act`` does; its errors are raised here and nowhere else."""
        question = _Question(obs, state, rng, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        if len(self._waiting) >= self._batching.max_batch:
            self._is_full.set()
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._serve())
        return await question.answer

    async def _serve(self) -> None:
        """Work until nothing waits or runs."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_full.wait(), self._batching.max_wait_s)
        while self._waiting or self._running:
            n_free = self._batching.max_batch - len(self._running)
            entering, self._waiting = self._waiting[:n_free], self._waiting[n_free:]
            self._is_full.clear()
            call = self._answer_batch if self._stream is None else self._advance
            asked = [*self._running.values(), *entering]
            done = await self._run(call, entering)
            error = done.exception()
            if error is None:
                for question, answer in done.result():
                    _settle(question, answer)
            else:  # it stays with the query that causes it: each is asked alone
                self._stream, self._running = self._policy.stream(self._batching.max_batch), {}
                for question in asked:
                    await self._answer_alone(question)

    async def _run(self, call: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Return the finished call, which may hold an exception."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
        await asyncio.wait([future])
        return future

    async def _answer_alone(self, question: _Question) -> None:
        done = await self._run(self._policy.act, question.obs, question.state, question.rng)
        _settle(question, done.exception() or done.result())

    def _answer_batch(self, entering: Sequence[_Question]) -> list[tuple[_Question, Any]]:
        answers = self._policy.act_batch(
            [q.obs for q in entering], [q.state for q in entering], [deepcopy(q.rng) for q in entering]
        )
        return list(zip(entering, answers, strict=True))

    def _advance(self, entering: Sequence[_Question]) -> list[tuple[_Question, Any]]:
        """Submit to the stream and let it do one step."""
        if self._stream is None:
            return []
        finished: list[tuple[_Question, Any]] = []
        for question in entering:
            try:
                ticket = self._stream.submit(question.obs, question.state, deepcopy(question.rng))
            except PolicyFault as fault:
                finished.append((question, fault))
            else:
                self._running[ticket] = question
        stopped = self._stream.step()
        return finished + [(self._running.pop(ticket), answer) for ticket, answer in stopped]


def _settle(question: _Question, answer: tuple[ActionChunk, Any] | BaseException) -> None:
    if question.answer.done():  # whoever asked has gone
        return
    if isinstance(answer, BaseException):
        question.answer.set_exception(answer)
    else:
        question.answer.set_result(answer)
