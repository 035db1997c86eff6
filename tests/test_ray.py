"""Runs on Ray: the same table for any number of workers, after any death."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdvla_bench.commands.run import main
from rdvla_bench.errors import UsageError
from rdvla_bench.ledger import EPISODES, read_records, read_run

ray = pytest.importorskip("ray")

from rdvla_bench.ray_executor import cluster  # noqa: E402

pytestmark = pytest.mark.ray

FAKE = ["--policy", "fake", "--suite", "fake_suite"]
TABLE = ("results.csv", "episodes.parquet", "board.csv")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One small cluster for all tests of this file that need nothing special; ``cluster()`` uses what is there."""
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


def run(out: Path, *more: str, workers: int) -> int:
    return main([*FAKE, "--workers", str(workers), "--out", str(out), *more])


def table(out: Path) -> bytes:
    return b"".join((out / name).read_bytes() for name in TABLE)


def attempts(out: Path) -> dict[str, int]:
    return {name: record.execution.attempts for name, record in read_records(out).items()}


@pytest.mark.usefixtures("local_ray")
def test_any_number_of_workers_gives_the_same_table(tmp_path: Path) -> None:
    for workers in (0, 1, 2):
        assert run(tmp_path / str(workers), "--episodes", "4", workers=workers) == 0
    assert table(tmp_path / "0") == table(tmp_path / "1") == table(tmp_path / "2")


@pytest.mark.usefixtures("local_ray")
def test_a_shared_policy_gives_the_same_table(tmp_path: Path) -> None:
    assert run(tmp_path / "own", "--episodes", "2", workers=0) == 0
    assert run(tmp_path / "shared", "--episodes", "2", "--policy-placement", "shared", workers=2) == 0
    assert table(tmp_path / "own") == table(tmp_path / "shared")


@pytest.mark.usefixtures("local_ray")
def test_a_worker_killed_in_an_episode_is_replaced_and_the_episode_counted_once(tmp_path: Path) -> None:
    settings = ["--episodes", "3", "--set", "fault=die-once", "--set", f"marker={tmp_path / 'died'}"]
    assert run(tmp_path / "out", *settings, workers=2) == 0
    assert (tmp_path / "died").exists()
    lines = (tmp_path / "out" / EPISODES).read_text().splitlines()
    assert len(lines) == len({json.loads(line)["id"] for line in lines}) == 9
    assert sorted(attempts(tmp_path / "out").values()) == [1] * 8 + [2]


@pytest.mark.usefixtures("local_ray")
def test_an_episode_that_kills_every_worker_is_an_error_of_infra_and_played_again_on_resume(tmp_path: Path) -> None:
    settings = ["--tasks", "0", "--episodes", "3", "--set", "fault=die"]
    assert run(tmp_path, *settings, workers=1) == 1
    error = read_records(tmp_path)["fake_suite-t00-s001-r0"]
    assert (error.result.outcome, error.result.culprit, error.execution.attempts) == ("error", "infra", 3)
    assert [r.result.outcome == "error" for r in read_records(tmp_path).values()].count(True) == 1
    before = (tmp_path / EPISODES).read_bytes().count(b"\n")
    assert run(tmp_path, *settings, workers=1) == 1
    assert (tmp_path / EPISODES).read_bytes().count(b"\n") == before + 1


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("fault", ["hang", "native-hang"])
def test_a_hanging_policy_is_the_culprit_even_if_it_keeps_the_interpreter_lock(tmp_path: Path, fault: str) -> None:
    settings = ["--tasks", "0", "--episodes", "3", "--policy-timeout", "2", "--set", f"fault={fault}"]
    assert run(tmp_path, *settings, workers=1) == 1
    records = read_records(tmp_path)
    assert records["fake_suite-t00-s001-r0"].result.culprit == "policy"
    assert "no answer within 2 s" in records["fake_suite-t00-s001-r0"].result.error
    assert len(records) == 3


@pytest.mark.usefixtures("local_ray")
def test_a_hanging_simulator_is_killed_and_its_episode_played_again(tmp_path: Path) -> None:
    settings = ["--tasks", "0", "--episodes", "2", "--env-timeout", "3"]
    settings += ["--set", "fault=env-hang-once", "--set", f"marker={tmp_path / 'hung'}"]
    assert run(tmp_path / "out", *settings, workers=1) == 0
    assert sorted(attempts(tmp_path / "out").values()) == [1, 2]


@pytest.mark.usefixtures("local_ray")
def test_a_wrong_call_found_by_a_worker_ends_the_run_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--set", "fault=bad-camera", workers=2) == 2
    assert "reads camera 'nose', which suite 'fake_suite' has not: it has cam" in capsys.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_many_workers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """One episode hangs until its limit; the other worker plays all the rest meanwhile."""
    settings = ["--episodes", "4", "--policy-timeout", "4", "--set", "fault=hang"]
    assert run(tmp_path, *settings, "--tasks", "0,1", workers=2) == 1
    order = [json.loads(line)["id"] for line in (tmp_path / EPISODES).read_text().splitlines()]
    assert len(order) == 8
    assert order.index("fake_suite-t00-s001-r0") >= 5  # one before it, and all of task 1


def spawn(out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rdvla_bench.run", *FAKE, "--out", str(out), *more]
    env = {**os.environ, "RDVLA_TEST_MARK": str(out.parent)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=env
    )


def wait_for_lines(out: Path, n: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    path = out / EPISODES
    while not path.exists() or path.read_bytes().count(b"\n") < n:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def children(mark: str) -> list[str]:
    """Return the command lines of living processes that inherited the mark of ``spawn``."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and f"RDVLA_TEST_MARK={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in found if line]


def test_ctrl_c_on_ray_ends_within_seconds(tmp_path: Path) -> None:
    process = spawn(tmp_path, "--workers", "1", "--episodes", "10", "--set", "query_s=0.1")
    wait_for_lines(tmp_path, 1, process)
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the workers too
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert time.monotonic() - begun < 30  # on an idle machine 2 to 3
    assert "resume: python -m rdvla_bench.run" in output
    assert read_run(tmp_path)["status"] == "interrupted"


def test_a_killed_driver_leaves_no_workers_and_resumes_to_the_same_table(tmp_path: Path) -> None:
    more = ["--episodes", "5", "--set", "query_s=0.05"]
    assert run(tmp_path / "whole", *more, workers=0) == 0
    process = spawn(tmp_path / "broken", "--workers", "2", *more)
    wait_for_lines(tmp_path / "broken", 4, process)
    process.kill()
    process.wait()
    begun = time.monotonic()
    while left := children(str(tmp_path)):
        # Ray's own agents tell the dead cluster that the cluster is dead and wait a minute for an answer.
        limit_s = 60 if [line for line in left if not re.match(r"ray::\w*Agent", line)] else 240
        assert time.monotonic() - begun < limit_s, left
        time.sleep(0.5)
    assert run(tmp_path / "broken", *more, workers=0) == 0
    assert table(tmp_path / "broken") == table(tmp_path / "whole")


def test_a_run_uses_every_node_of_a_cluster_and_survives_the_loss_of_one(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    ray.shutdown()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False},
    )
    try:
        second = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        cluster.wait_for_nodes()
        out = tmp_path / "cluster"

        both = {"worker-1", "worker-2"}

        def lose_a_node() -> None:
            while not (out / EPISODES).exists() or not both <= {r.execution.worker for r in read_records(out).values()}:
                time.sleep(0.1)
            cluster.remove_node(second)

        loss = threading.Thread(target=lose_a_node, daemon=True)
        loss.start()
        more = ["--episodes", "8", "--set", "query_s=0.2"]
        assert main([*FAKE, "--workers", "2", "--out", str(out), "--ray-address", cluster.address, *more]) == 0
        loss.join(timeout=10)
        assert not loss.is_alive()
        assert run(tmp_path / "whole", *more, workers=0) == 0
        assert table(out) == table(tmp_path / "whole")
    finally:
        ray.shutdown()
        cluster.shutdown()


def slow_starts(monkeypatch: pytest.MonkeyPatch, times: int, kind: type[Exception] = Exception) -> list[str]:
    """Let the first ``times`` starts of Ray be too slow; return what was called."""
    called: list[str] = []

    def init(**_: object) -> None:
        called.append("init")
        if called.count("init") <= times:
            raise kind("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: called.append("shutdown"))
    return called


def test_a_local_ray_that_was_too_slow_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    called = slow_starts(monkeypatch, 2)
    with cluster(1, None):
        assert called == ["init", "shutdown", "init", "shutdown", "init"]


def test_a_local_ray_that_never_starts_is_one_line_that_says_what_next(monkeypatch: pytest.MonkeyPatch) -> None:
    called = slow_starts(monkeypatch, 99)
    with (
        pytest.raises(UsageError, match=r"node timed out .* Tried 3 times: .* --workers 0 needs no Ray"),
        cluster(1, None),
    ):
        pass
    assert called.count("init") == 3


def test_another_error_of_rays_start_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    called = slow_starts(monkeypatch, 99, kind=ValueError)
    with pytest.raises(UsageError, match="no Ray cluster at 'this machine'"), cluster(1, None):
        pass
    assert called == ["init"]
