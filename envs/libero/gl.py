"""Headless OpenGL, chosen by itself: hardware EGL, else the system's EGL or OSMesa, else the OSMesa of a wheel.

Non-obvious:
    * A bad driver may abort the process, so each candidate first renders a frame in a process of its own.
    * A process has one context, current in the thread that renders; several environments share it.
    * A driver chooses once with `choose`; its workers call `activate` with the `GLChoice`, and nothing is probed twice.
    * ``MUJOCO_GL`` is respected where the user has set it (``egl``, ``osmesa``).
"""

from __future__ import annotations

import ctypes.util
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

import numpy as np

from rdvla_bench.envs.libero.gl_context import EGL, Context, OSMesa, egl_devices, egl_library
from rdvla_bench.errors import NoRenderer

Backend = Literal["egl", "osmesa"]

_HANDED_DOWN = "RDVLA_BENCH_GL"  # environment variable with a GLChoice as JSON
_PROBE_TIMEOUT_S = 120.0
_SOFTWARE = ("llvmpipe", "softpipe", "swrast")
_REMEDY = (
    "no way to render without a screen was found{details}. Either install Mesa: apt-get install libosmesa6 "
    "(or libegl1 libegl-mesa0 libgl1-mesa-dri), or the wheel that bundles it: pip install lavavu-osmesa==1.9.10. "
    "Policies that read no camera need neither"
)


@dataclass(frozen=True)
class GLChoice:
    """A way of rendering that has been tried and works. Plain data, fit to be sent to a worker."""

    backend: Backend
    library: str  # what dlopen is given: a soname, or the path of the bundled OSMesa
    device: int = -1  # index among the EGL devices; -1 for OSMesa
    renderer: str = ""  # GL_RENDERER
    canary: str = ""  # SHA-256 of the canary frame
    env: Mapping[str, str] = field(default_factory=dict)  # what MuJoCo's own GLContext needs to choose the same

    @property
    def is_hardware(self) -> bool:
        """Return whether a GPU renders."""
        return not any(name in self.renderer.lower() for name in _SOFTWARE)


def bundled_osmesa() -> Path | None:
    """Return the OSMesa library of the wheel ``lavavu-osmesa``, or None without it."""
    try:
        files = distribution("lavavu-osmesa").files or []
    except PackageNotFoundError:
        return None
    found = [Path(str(f.locate())) for f in files if f.name.startswith("libOSMesa")]
    return found[0].resolve() if found else None


def link_bundled(folder: Path) -> dict[str, str]:
    """Make the bundled OSMesa usable by other MuJoCo code in a child process, and return that child's variables.

    PyOpenGL looks for ``libOSMesa.so`` by name, so ``folder`` gets links of that name; it must outlive the child.
    """
    library = bundled_osmesa()
    if library is None:
        raise NoRenderer(_REMEDY.format(details=" (lavavu-osmesa is not installed)"))
    for name in ("libOSMesa.so", "libOSMesa.so.8"):
        (folder / name).symlink_to(library)
    paths = [str(folder), str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
    return {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "osmesa", "LD_LIBRARY_PATH": ":".join(filter(None, paths))}


def _candidates(wanted: str) -> Iterator[GLChoice]:
    """Yield what may work, in the order of preference; ``wanted`` is the user's ``MUJOCO_GL`` or empty."""
    if wanted in ("", "egl") and (egl := ctypes.util.find_library("EGL")):
        variables = {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"}
        pinned = os.environ.get("MUJOCO_EGL_DEVICE_ID", "")
        for device in [int(pinned)] if pinned.isdigit() else range(_n_egl_devices(egl)):
            yield GLChoice("egl", egl, device, env=variables)
    if wanted in ("", "osmesa"):
        if osmesa := ctypes.util.find_library("OSMesa"):
            yield GLChoice("osmesa", osmesa, env={"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "osmesa"})
        if bundled := bundled_osmesa():
            yield GLChoice("osmesa", str(bundled))


def _n_egl_devices(library: str) -> int:
    """Count the EGL devices in a child process; 0 where counting fails."""
    reply = _child("count", library)
    return int(reply) if reply.isdigit() else 0


def _child(*arguments: str) -> str:
    """Run this module with ``arguments`` in a process of its own and return its last line, or "" if it dies."""
    command = [sys.executable, "-m", __name__, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[-1] if done.returncode == 0 and lines else ""


@cache
def choose() -> GLChoice:
    """Return the best way to render on this machine, trying each in a child process; about 1 s a candidate.

    Raises:
        NoRenderer: nothing works, or not what ``MUJOCO_GL`` asks for.
    """
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    if wanted not in ("", "egl", "osmesa"):
        raise NoRenderer(f"MUJOCO_GL={wanted} renders to a screen or nowhere: unset it, or set it to egl or osmesa")
    software: GLChoice | None = None
    for candidate in _candidates(wanted):
        if software and candidate.backend == "osmesa":
            break
        reply = _child("try", json.dumps(asdict(candidate)))
        if not reply:
            continue
        choice = GLChoice(**json.loads(reply))
        if choice.is_hardware or choice.backend == "osmesa":
            return choice
        software = software or choice
    if software is None:
        raise NoRenderer(_REMEDY.format(details=f" with MUJOCO_GL={wanted}" if wanted else ""))
    return software


_active: list[GLChoice] = []
_contexts: list[Context] = []


def activate(choice: GLChoice) -> None:
    """Render with ``choice`` in this process, and let MuJoCo's own GLContext choose the same if imported later."""
    if _contexts and _active != [choice]:
        raise NoRenderer(f"this process already renders with {_active[0]}")
    _active[:] = [choice]
    os.environ.update(choice.env)


def active() -> GLChoice:
    """Return the choice this process renders with: activated, handed down by ``worker_env``, or made now."""
    if not _active:
        handed_down = os.environ.get(_HANDED_DOWN)
        _active.append(GLChoice(**json.loads(handed_down)) if handed_down else choose())
    return _active[0]


def worker_env() -> dict[str, str]:
    """Return the variables that hand this process's choice down to its workers on the same machine.

    None where nothing renders: policies without cameras need nothing, and a worker that does need it says so.
    """
    try:
        return {_HANDED_DOWN: json.dumps(asdict(active()))}
    except NoRenderer:
        return {}


def describe() -> dict[str, str]:
    """Return what a run writes down of this process's renderer; frames are comparable iff the canaries agree."""
    return {"backend": active().backend, "renderer": renderer_name(), "canary_sha256": canary_sha256()}


def context() -> Context:
    """Return this process's context, current in this thread; the first call makes it."""
    if not _contexts:
        choice = active()
        _contexts.append(_make(choice))
    _contexts[0].make_current()
    return _contexts[0]


def _make(choice: GLChoice) -> Context:
    return EGL(choice.library, choice.device) if choice.backend == "egl" else OSMesa(choice.library)


def renderer_name() -> str:
    """Return GL_RENDERER, for example ``"llvmpipe (LLVM 17.0.6, 256 bits)"``."""
    return context().renderer_name()


@contextmanager
def importable() -> Iterator[None]:
    """Let the block import mujoco where ``MUJOCO_GL`` names a library that is not there, so that we can say so."""
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    library = {"egl": "EGL", "osmesa": "OSMesa"}.get(wanted)
    hidden = {}
    if library and not ctypes.util.find_library(library):
        hidden["MUJOCO_GL"] = os.environ.pop("MUJOCO_GL")
    try:
        yield
    finally:
        os.environ.update(hidden)


_CANARY = """
<mujoco>
  <visual><global offwidth="64" offheight="64"/><quality offsamples="4"/></visual>
  <asset>
    <texture name="t" type="2d" builtin="checker" rgb1=".9 .2 .1" rgb2=".1 .3 .8" width="32" height="32"/>
    <material name="m" texture="t" texrepeat="3 3" specular=".5" shininess=".4"/>
  </asset>
  <worldbody>
    <light pos="1 -1 3" dir="-.3 .3 -1" castshadow="false"/>
    <camera name="c" pos="0 -2 1.2" xyaxes="1 0 0 0 .5 .86"/>
    <geom type="plane" size="2 2 .1" material="m"/>
    <geom type="sphere" size=".3" pos=".2 0 .3" rgba=".2 .8 .4 1"/>
    <geom type="capsule" size=".1 .3" pos="-.4 .2 .3" euler="30 40 0" rgba=".9 .8 .1 .7"/>
  </worldbody>
</mujoco>
"""


@cache
def canary_sha256() -> str:
    """Return SHA-256 of one small fixed frame: equal on two machines whose pictures can be compared bit for bit."""
    with importable():
        import mujoco

    context()
    model = mujoco.MjModel.from_xml_string(_CANARY)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
    scene = mujoco.MjvScene(model, maxgeom=10)
    render = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, render)
    everything, box = mujoco.mjtCatBit.mjCAT_ALL, mujoco.MjrRect(0, 0, 64, 64)
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), mujoco.MjvPerturb(), camera, everything, scene)
    mujoco.mjr_render(box, scene, render)
    pixels = np.zeros((64, 64, 3), np.uint8)
    mujoco.mjr_readPixels(pixels, None, box, render)
    render.free()
    if len(np.unique(pixels)) < 10:
        raise NoRenderer("the canary frame came out blank")
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _main(command: str, argument: str) -> None:
    """Answer ``count LIBRARY`` or ``try CHOICE`` on the last line of stdout."""
    if command == "count":
        print(len(egl_devices(egl_library(argument))))
        return
    choice = json.loads(argument)
    activate(GLChoice(**choice))
    frame = canary_sha256()
    print(json.dumps(choice | {"renderer": renderer_name(), "canary": frame}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
