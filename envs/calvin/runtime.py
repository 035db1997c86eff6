"""Which renderer this process uses for CALVIN: PyBullet's software renderer, or EGL where it is asked for and works.

``RDVLA_CALVIN_RENDERER`` is ``tiny`` (default: the same pixels on every machine), ``egl``, or ``auto`` (EGL where a GPU
answers, else tiny).

Non-obvious:
    * A missing EGL device ends the process inside PyBullet's plug-in, so EGL is first tried in a process of its own.
    * The choice is made once, and handed down to workers on the same machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from functools import cache
from typing import Literal, get_args

import numpy as np

from rdvla_bench.envs.calvin.bullet import pybullet
from rdvla_bench.envs.calvin.cameras import GRIPPER
from rdvla_bench.errors import NoRenderer, UnknownName

Backend = Literal["tiny", "egl", "auto"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
VARIABLE = "RDVLA_CALVIN_RENDERER"

_HANDED_DOWN = "RDVLA_BENCH_CALVIN_EGL"  # GL_RENDERER of a probe that worked in a parent process
_PROBE_TIMEOUT_S = 120.0
_SOFTWARE = ("llvmpipe", "softpipe", "swrast")
_REMEDY = (
    "the EGL renderer was asked for and cannot work here ({said}). Install a driver "
    "(software: apt-get install libegl1 libgl1-mesa-dri), or render with tiny: "
    f"{VARIABLE}=tiny"
)


def resolve(wanted: str | None = None) -> Backend:
    """Return ``"tiny"`` or ``"egl"``: what ``wanted``, or else the environment variable, comes to on this machine.

    Raises:
        UnknownName: another renderer than tiny, egl, auto.
        NoRenderer: EGL is asked for and cannot work.
    """
    asked = wanted or os.environ.get(VARIABLE, "").strip().lower() or "tiny"
    if asked not in BACKENDS:
        raise UnknownName("CALVIN renderer", asked, BACKENDS, f"{VARIABLE} is one of {', '.join(BACKENDS)}")
    if asked == "tiny":
        return "tiny"
    try:
        is_hardware = not any(word in egl_renderer().lower() for word in _SOFTWARE)
    except NoRenderer:
        if asked == "egl":
            raise
        is_hardware = False
    return "egl" if asked == "egl" or is_hardware else "tiny"


@cache
def egl_renderer() -> str:
    """Return GL_RENDERER of the EGL plug-in, tried in a process of its own (about 1 s).

    Raises:
        NoRenderer: the plug-in is missing, or its process died or drew nothing.
    """
    if handed_down := os.environ.get(_HANDED_DOWN):
        return handed_down
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NoRenderer(_REMEDY.format(said=f"no answer in {_PROBE_TIMEOUT_S:.0f} s")) from error
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 or "drawn" not in lines:
        said = next((line for line in lines + done.stderr.splitlines() if "failed" in line.lower()), "")
        raise NoRenderer(_REMEDY.format(said=said or f"its process ended with {done.returncode}"))
    names = [line.removeprefix("GL_RENDERER=") for line in lines if line.startswith("GL_RENDERER=")]
    return names[0] if names else "unknown"


def load_plugin(client: int) -> None:
    """Give a PyBullet client the EGL renderer. Only after `resolve` has said "egl": it may end the process.

    Raises:
        NoRenderer: the plug-in did not load.
    """
    found = importlib.util.find_spec("eglRenderer")
    plugin = -1
    if found is not None and found.origin:
        plugin = pybullet.loadPlugin(found.origin, "_eglRendererPlugin", physicsClientId=client)
    if plugin < 0:
        raise NoRenderer(_REMEDY.format(said="PyBullet's plug-in eglRenderer did not load"))


def worker_env() -> dict[str, str]:
    """Return the variables that hand this process's choice down to its workers on the same machine.

    None where the renderer asked for cannot work: a policy without cameras needs none, and a worker that does says so.
    """
    try:
        chosen = resolve()
    except NoRenderer:
        return {}
    return {VARIABLE: chosen} | ({_HANDED_DOWN: egl_renderer()} if chosen == "egl" else {})


def describe() -> dict[str, str]:
    """Return what a run writes down of its renderer; frames are comparable iff the canaries agree."""
    chosen = resolve()
    renderer = "TinyRenderer" if chosen == "tiny" else egl_renderer()
    return {"backend": chosen, "renderer": renderer, "canary_sha256": canary_sha256(chosen)}


@cache
def canary_sha256(backend: Backend = "tiny") -> str:
    """Return SHA-256 of one small fixed frame: equal on two machines whose pictures can be compared bit for bit.

    Raises:
        NoRenderer: the frame came out blank.
    """
    client = pybullet.connect(pybullet.DIRECT)
    try:
        if backend == "egl":
            load_plugin(client)
        pixels = _draw_canary(client)
    finally:
        pybullet.disconnect(physicsClientId=client)
    if len(np.unique(pixels)) < 10:
        raise NoRenderer(_REMEDY.format(said="the canary frame came out blank"))
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _draw_canary(client: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Draw solids that overlap at odd angles, through the perspective of the gripper camera."""
    at = {"physicsClientId": client}
    solids = (
        (
            pybullet.createVisualShape(
                pybullet.GEOM_BOX, halfExtents=(0.2, 0.1, 0.05), rgbaColor=(0.9, 0.2, 0.1, 1), **at
            )
        ),
        (pybullet.createVisualShape(pybullet.GEOM_SPHERE, radius=0.12, rgbaColor=(0.2, 0.8, 0.4, 1), **at)),
        (
            pybullet.createVisualShape(
                pybullet.GEOM_CAPSULE, radius=0.05, length=0.3, rgbaColor=(0.9, 0.8, 0.1, 1), **at
            )
        ),
    )
    for i, solid in enumerate(solids):
        turned = pybullet.getQuaternionFromEuler((0.3 * i + 0.2, 0.5 - 0.4 * i, 0.7 * i))
        place = (0.15 * i - 0.15, 0.05 * i, 0.04 * i)
        pybullet.createMultiBody(baseVisualShapeIndex=solid, basePosition=place, baseOrientation=turned, **at)
    view = pybullet.computeViewMatrix((0.1, -0.5, 0.4), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    _, _, rgba, _, _ = pybullet.getCameraImage(64, 64, view, GRIPPER.projection(), **at)
    return np.ascontiguousarray(np.asarray(rgba, np.uint8).reshape(64, 64, 4)[..., :3])


if __name__ == "__main__":
    canary_sha256("egl")
    print("drawn", flush=True)
