"""Claims about rendering without a screen."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rdvla_bench.envs.libero import gl
from rdvla_bench.errors import NoRenderer

pytestmark = pytest.mark.libero
pytest.importorskip("mujoco")


def run(code: str, **variables: str) -> str:
    """Return the last line that ``code`` prints in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment | variables
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_the_choice_renders_the_canary_it_promises() -> None:
    choice = gl.choose()
    assert choice.renderer
    code = f"""
import pickle
from rdvla_bench.envs.libero import gl
gl.activate(pickle.loads({pickle.dumps(choice)!r}))
print(gl.renderer_name() + "|" + gl.canary_sha256())
"""
    assert run(code) == f"{choice.renderer}|{choice.canary}"


def test_a_worker_renders_with_what_its_driver_chose_and_probes_nothing() -> None:
    code = """
from rdvla_bench.envs.libero import gl
gl.choose = None
print(gl.active().canary + "|" + gl.describe()["canary_sha256"])
"""
    assert run(code, **gl.worker_env()) == f"{gl.active().canary}|{gl.active().canary}"


def test_a_driver_without_a_renderer_hands_nothing_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> gl.GLChoice:
        raise NoRenderer("none")

    monkeypatch.setattr(gl, "_active", [])
    monkeypatch.setattr(gl, "choose", nothing)
    assert gl.worker_env() == {}


def test_the_choice_is_made_once() -> None:
    assert gl.choose() is gl.choose()


@pytest.mark.skipif(gl.bundled_osmesa() is None, reason="lavavu-osmesa is not installed")
def test_the_bundled_osmesa_renders_in_a_running_process_whatever_was_imported_before() -> None:
    code = """
import mujoco
from rdvla_bench.envs.libero import gl
gl.activate(gl.GLChoice("osmesa", str(gl.bundled_osmesa())))
print(gl.renderer_name() + "|" + gl.canary_sha256())
"""
    renderer, frame = run(code).split("|")
    assert "llvmpipe" in renderer
    if not gl.choose().is_hardware:
        assert frame == gl.choose().canary


@pytest.mark.skipif(gl.bundled_osmesa() is None, reason="lavavu-osmesa is not installed")
def test_other_mujoco_code_can_use_the_bundled_osmesa_in_a_child(tmp_path: Path) -> None:
    code = "import mujoco; c = mujoco.GLContext(64, 64); c.make_current(); print(type(c).__module__)"
    assert run(code, **gl.link_bundled(tmp_path)) == "mujoco.osmesa"


def test_mujoco_gl_of_the_user_is_respected_or_refused() -> None:
    code = "from rdvla_bench.envs.libero import gl; print(gl.choose().backend)"
    for backend in ("egl", "osmesa"):
        wanted = f"""
from rdvla_bench.envs.libero import gl
from rdvla_bench.errors import NoRenderer
try:
    print(gl.choose().backend)
except NoRenderer as error:
    print("refused" if "{backend}" in str(error) else error)
"""
        assert run(wanted, MUJOCO_GL=backend) in (backend, "refused")
    with pytest.raises(AssertionError, match="MUJOCO_GL=glfw renders to a screen"):
        run(code, MUJOCO_GL="glfw")


def test_nothing_that_works_is_one_error_with_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "_candidates", lambda wanted: iter(()))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(NoRenderer, match=r"apt-get install libosmesa6.*pip install lavavu-osmesa"):
        gl.choose.__wrapped__()


def test_a_driver_that_aborts_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = gl.GLChoice("osmesa", "libnone.so"), gl.choose()
    monkeypatch.setattr(gl, "_candidates", lambda wanted: iter((bad, replace(good, renderer="", canary=""))))
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert gl.choose.__wrapped__() == good


def test_a_process_never_changes_its_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = replace(gl.choose(), env={})
    monkeypatch.setattr(gl, "_active", [choice])
    monkeypatch.setattr(gl, "_contexts", [object()])
    gl.activate(choice)
    with pytest.raises(NoRenderer, match="already renders"):
        gl.activate(gl.GLChoice("osmesa", "other.so"))


def test_importing_the_simulator_chooses_no_gl_and_prints_nothing() -> None:
    code = """
import os
names = ("MUJOCO_GL", "PYOPENGL_PLATFORM")
before = [os.environ.get(name) for name in names]
import rdvla_bench.envs.libero.env
assert [os.environ.get(name) for name in names] == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_machine_without_libgl_can_simulate() -> None:
    """The wheel of OpenCV, which robosuite imports, needs libGL.so.1."""
    code = """
import sys
class NoLibGL:
    def find_spec(self, name, path=None, target=None):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
sys.meta_path.insert(0, NoLibGL())
import rdvla_bench.envs.libero.env
print("cv2" in sys.modules)
"""
    assert run(code) == "False"
