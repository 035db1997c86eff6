from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rdvla_bench import Episode
from rdvla_bench.schedule import Schedule, task_of


def episodes(n_tasks: int, n_each: int) -> list[Episode]:
    return [Episode("s", task, start, 0, 0) for task in range(n_tasks) for start in range(n_each)]


@given(st.integers(1, 5), st.integers(1, 6), st.lists(st.integers(0, 3), max_size=80))
def test_every_episode_is_handed_out_exactly_once(n_tasks: int, n_each: int, turns: list[int]) -> None:
    everything = episodes(n_tasks, n_each)
    schedule = Schedule(everything)
    taken = [schedule.take(f"w{worker}") for worker in turns]
    while len(schedule):
        taken.append(schedule.take("w0"))
    assert sorted(e for e in taken if e) == everything
    assert schedule.take("w1") is None


def test_workers_do_not_share_a_task_while_another_waits() -> None:
    schedule = Schedule(episodes(4, 10))
    first = [schedule.take(f"w{i}") for i in range(4)]
    assert {task_of(e) for e in first if e} == {("s", t) for t in range(4)}


def test_environments_are_rebuilt_at_most_once_a_worker_and_task() -> None:
    schedule = Schedule(episodes(6, 10))
    built: dict[str, list[tuple[str, int]]] = {"a": [], "b": []}
    while len(schedule):
        for worker in built:
            episode = schedule.take(worker)
            if episode and (not built[worker] or built[worker][-1] != task_of(episode)):
                built[worker].append(task_of(episode))
    assert len(built["a"]) + len(built["b"]) <= 7  # six tasks, and one shared at the very end


def test_an_episode_given_back_is_the_next_of_its_task() -> None:
    schedule = Schedule(episodes(1, 3))
    first = schedule.take("a")
    assert first
    schedule.forget("a")
    schedule.give_back(first)
    assert schedule.take("b") == first
