"""Claims about one control step: robosuite's own to the last bit, pictures included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.libero
pytest.importorskip("libero")

from rdvla_bench.envs.libero import suites  # noqa: E402 - needs what was just asked for
from rdvla_bench.envs.libero.culling import Boxes, Face, View  # noqa: E402
from rdvla_bench.envs.libero.offscreen import OffscreenContext  # noqa: E402
from rdvla_bench.envs.libero.scene import Scene, stream  # noqa: E402
from rdvla_bench.envs.libero.simulator import mujoco  # noqa: E402
from rdvla_bench.envs.libero.stepper import Clock, Stepper  # noqa: E402

CAMERAS = ("agentview", "robot0_eye_in_hand")
Image = NDArray[np.uint8]


def scene(suite: str, task: int) -> Scene:
    return Scene(suite, suites.SUITES[suite].tasks[task].name)


def actions(n: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Random actions that sink, so that hand and objects touch, and toggle the gripper."""
    drawn = np.random.default_rng(seed).uniform(-1, 1, (n, 7))
    drawn[:, 2] -= 0.4
    drawn[n // 4 : n // 2, 6] = 1
    drawn[n // 2 : 3 * n // 4, 6] = -1
    drawn[::9, 3:6] = 0  # robosuite keeps the old goal orientation where no turn is asked for
    return drawn


def everything(env: Any) -> NDArray[np.float64]:
    """All that the future depends on, and what it was computed from."""
    data, robot = env.sim.data._data, env.robots[0]
    model, kind = env.sim.model._model, mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, state, kind)
    controller = robot.controller
    parts = [state, data.qacc, data.qfrc_constraint, controller.goal_pos, controller.goal_ori, controller.initial_joint]
    parts += [np.broadcast_to(robot.gripper.current_action, (2,)), [env.timestep, env.cur_time]]
    return np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])


def whole_picture(env: Any, camera: str) -> Image:
    """What robosuite's camera observable draws: every geom, from the data as they are."""
    model, data, context = env.sim.model._model, env.sim.data._data, env.sim._render_context_offscreen
    context.gl_ctx.make_current()
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context.con)
    context.cam.fixedcamid = model.camera(camera).id
    everything = mujoco.mjtCatBit.mjCAT_ALL
    mujoco.mjv_updateScene(model, data, context.vopt, context.pert, context.cam, everything, context.scn)
    viewport = mujoco.MjrRect(0, 0, 256, 256)
    mujoco.mjr_render(viewport, context.scn, context.con)
    image = np.empty((256, 256, 3), np.uint8)
    mujoco.mjr_readPixels(image, None, viewport, context.con)
    return image


@pytest.mark.parametrize(
    ("suite", "task"),
    [("libero_spatial", 0), ("libero_object", 0), ("libero_goal", 7), ("libero_10", 2), ("libero_10", 9)],
)
def test_steps_are_robosuites_to_the_last_bit(suite: str, task: int) -> None:
    plain, fast = scene(suite, task), scene(suite, task)
    fast.reset(stream(5), 0)
    stepper = Stepper(fast.env)
    n_contacts = 0
    for episode in range(2):  # the second begins from what the first left
        for each in (plain, fast):
            each.reset(stream(5), episode)
        stepper.reset()
        for number, action in enumerate(actions(70, seed=episode)):
            observations, _, success, _ = plain.env.step(action)
            assert stepper.step(action) == success
            assert np.array_equal(everything(fast.env), everything(plain.env)), f"episode {episode}, step {number}"
            assert np.array_equal(stepper.sample.eef_pos, observations["robot0_eef_pos"])
            assert np.array_equal(stepper.sample.eef_quat, observations["robot0_eef_quat"])
            assert np.array_equal(stepper.sample.gripper_qpos, observations["robot0_gripper_qpos"])
            n_contacts += fast.data.ncon
    assert n_contacts > 0
    plain.close()
    fast.close()


@pytest.fixture(
    scope="module", params=[("libero_spatial", 0), ("libero_object", 0), ("libero_goal", 7), ("libero_10", 2)]
)
def filmed(request: pytest.FixtureRequest) -> Iterator[tuple[Scene, Scene, list[dict[str, Image]]]]:
    """Two scenes; the plain one takes whole pictures whenever robosuite's observables sample."""
    plain, fast = scene(*request.param), scene(*request.param)
    for each in (plain, fast):
        each.env.sim.add_render_context(OffscreenContext(each.model, 256))
        each.reset(stream(5), 3)
    film: list[dict[str, Image]] = []
    observable = plain.env._observables["robot0_eef_pos"]
    sense = observable._sensor

    def sense_and_film(cache: dict[str, Any]) -> Any:
        film.append({name: whole_picture(plain.env, name) for name in CAMERAS})
        return sense(cache)

    sense_and_film.__modality__ = sense.__modality__  # type: ignore[attr-defined]
    observable._sensor = sense_and_film
    yield plain, fast, film
    for each in (plain, fast):
        each.env.sim._render_context_offscreen.free()
        each.close()


def test_pictures_are_those_of_the_moment_robosuite_samples(
    filmed: tuple[Scene, Scene, list[dict[str, Image]]],
) -> None:
    plain, fast, film = filmed
    stepper = Stepper(fast.env)
    for number, action in enumerate(actions(12)):
        plain.env.step(action)
        stepper.step(action)
        if number % 3 == 2:
            pictures = stepper.render(CAMERAS, 256, 256)
            for name in CAMERAS:
                assert np.array_equal(pictures[name], film[-1][name]), f"{name}, step {number}"
                assert np.ptp(pictures[name]) > 50


def test_rendering_changes_nothing(filmed: tuple[Scene, Scene, list[dict[str, Image]]]) -> None:
    _, fast, _ = filmed
    stepper = Stepper(fast.env)
    before = everything(fast.env), fast.model.geom_group.copy(), fast.model.site_rgba.copy()
    stepper.render(CAMERAS, 256, 256)
    after = everything(fast.env), fast.model.geom_group, fast.model.site_rgba
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_clock_is_that_of_robosuites_observables() -> None:
    from robosuite.utils.observables import Observable, sensor

    samples: list[int] = []
    substep = 0

    @sensor(modality="test")
    def sense(cache: dict[str, Any]) -> float:
        samples.append(substep)
        return 0.0

    observable = Observable("test", sense, sampling_rate=20)
    observable.update(0.002, {}, force=True)
    observable.update(0.002, {}, force=True)
    clock = Clock(observable._time_since_last_sample, observable._sampled, 0.002, observable._sampling_timestep)
    samples.clear()
    ticks = []
    for substep in range(25 * 1000):
        observable.update(0.002, {})
        if clock.tick():
            ticks.append(substep)
    assert ticks == samples
    assert len(ticks) == 1000


def test_a_view_holds_exactly_the_boxes_that_reach_into_it() -> None:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(300, 3, 3)))[0]
    half = rng.uniform(0.02, 0.3, (300, 1, 3))
    boxes = Boxes(rng.uniform(-2, 2, (300, 3)), rotation * half)
    signs = np.array(np.meshgrid(*[np.linspace(-1, 1, 7)] * 3)).reshape(3, -1)
    points = boxes.centre[:, None] + np.swapaxes(boxes.half_edges @ signs, 1, 2)  # (300, 343, 3)
    depth = -points[..., 2]
    inside = (depth > 0) & (np.abs(points[..., 0]) <= 0.7 * depth) & (np.abs(points[..., 1]) <= 0.5 * depth)
    touched = boxes.touch(View(-0.7, 0.7, -0.5, 0.5))
    assert touched[inside.any(axis=1)].all()  # none that is seen is left out
    assert touched.mean() < 0.5  # and many that are not seen are


def test_a_mirror_shows_what_stands_before_it() -> None:
    up = np.array([0.0, 1.0, 0.0])
    corners = np.array([[1, 0, 1], [1, 0, -1], [-1, 0, -1], [-1, 0, 1.0]]) * 0.2
    face = Face(np.array([0.0, -0.5, -2.0]), up, corners)
    box = Boxes(np.array([[0.1, 0.3, -2.0], [0.1, -0.9, -2.0]]), np.tile(np.eye(3) * 0.05, (2, 1, 1)))
    mirrored = box.mirrored(face)
    assert np.allclose(mirrored.centre, [[0.1, -1.3, -2.0], [0.1, -0.1, -2.0]])
    assert box.in_front(face).tolist() == [True, False]
    framed = View(-1, 1, -1, 1).narrowed_to(face)
    assert framed is not None
    assert framed.top < 0
    assert View(-1, 1, -1, 1).narrowed_to(Face(face.centre, -up, corners)) is None  # its back
