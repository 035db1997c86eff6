"""Batches made ahead: the same ones in any order of asking, in one thread, their errors raised for their own step."""

from __future__ import annotations

import threading

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rdvla_bench.policies.rdvla.training.batches import Ahead, Batch  # noqa: E402


def numbered(step: int) -> Batch:
    """Return a batch that tells its step."""
    return Batch(torch.full((1,), step), [], torch.empty(0), torch.empty(0))


def taken(ahead: Ahead, step: int) -> int:
    """Return the number of the batch that is given for a step."""
    return int(ahead.take(step).pixels)


@pytest.mark.parametrize("idle_cores", [0, 1])
def test_every_step_gets_its_own_batch_in_any_order(idle_cores: int) -> None:
    ahead = Ahead(numbered, idle_cores)
    assert [taken(ahead, step) for step in (0, 1, 2, 7, 8, 3, 3, 4)] == [0, 1, 2, 7, 8, 3, 3, 4]


def test_the_next_batch_is_made_while_the_last_one_is_used() -> None:
    made = {step: threading.Event() for step in range(3)}

    def make(step: int) -> Batch:
        made[step].set()
        return numbered(step)

    ahead = Ahead(make, idle_cores=1)
    ahead.take(0)
    assert made[1].wait(timeout=10)
    assert not made[2].is_set()


@pytest.mark.parametrize(("idle_cores", "is_here"), [(0, True), (1, False), (3, False)])
def test_a_thread_is_used_only_where_a_core_is_idle(idle_cores: int, is_here: bool) -> None:
    threads: set[threading.Thread] = set()

    def make(step: int) -> Batch:
        threads.add(threading.current_thread())
        return numbered(step)

    ahead = Ahead(make, idle_cores)
    for step in range(3):
        ahead.take(step)
    assert len(threads) == 1
    assert (threads == {threading.current_thread()}) == is_here


def test_an_error_is_raised_for_its_own_step_and_again_when_asked_again() -> None:
    def make(step: int) -> Batch:
        if step == 1:
            raise OSError("shard 1 is gone")
        return numbered(step)

    ahead = Ahead(make, idle_cores=1)
    assert taken(ahead, 0) == 0
    for _ in range(2):
        with pytest.raises(OSError, match="shard 1"):
            ahead.take(1)
    assert taken(ahead, 2) == 2


def test_idle_cores_are_what_pytorch_leaves_over(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []

    def make(step: int) -> Batch:
        used.append(threading.current_thread() is threading.main_thread())
        return numbered(step)

    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    for threads, expected in ((2, True), (1, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        Ahead(make).take(0)
        assert used[0] is expected
        used.clear()
