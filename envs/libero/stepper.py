"""One control step of LIBERO, bit-identical to robosuite 1.4.0's ``env.step`` at a fraction of its CPU time.

robosuite runs, for each of the 25 substeps of 2 ms: ``mj_forward``; the controller, which runs ``mj_forward`` again;
``mj_step``, which is a third forward pass; then every observable. All three passes see the same position and velocity,
so what depends on those alone is computed once here. The constraint solver still runs three times, because each solve
writes ``qacc_warmstart``, from which the next one starts.

Non-obvious:
- Observables sample on a clock of their own (20 Hz, counted in float additions, started by the updates that a reset
  forces). After a LIBERO reset they sample in the 24th substep, not the last; `Clock` reproduces this.
- A sample mixes two moments, as ``mj_step`` leaves them: poses from before the substep, ``qpos`` from after it.
- A sample keeps what is needed to render it later, so nobody must know in advance which step will be the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.libero.culling import Painter
from rdvla_bench.envs.libero.osc import Action, Arm, Fingers, contiguous
from rdvla_bench.envs.libero.simulator import mujoco

Float = NDArray[np.float64]
Image = NDArray[np.uint8]

_NO_SENSORS = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)  # LIBERO reads none; the hand's force sensors cost an RNE


@dataclass
class Clock:
    """When robosuite's observables sample: once a period, in the first update after the period began."""

    elapsed_s: float
    sampled: bool
    timestep_s: float  # 0.002: robosuite.macros.SIMULATION_TIMESTEP
    period_s: float  # 0.05: 1 / control_freq

    @classmethod
    def of(cls, env: Any) -> Clock:
        """Read the clock that all observables of a LIBERO problem env share."""
        observable = env._observables["robot0_eef_pos"]
        return cls(
            elapsed_s=observable._time_since_last_sample,
            sampled=observable._sampled,
            timestep_s=env.model_timestep,
            period_s=observable._sampling_timestep,
        )

    def tick(self) -> bool:
        """Advance by one substep as ``Observable.update`` does and return whether it samples now."""
        self.elapsed_s += self.timestep_s
        samples = not self.sampled and self.period_s >= self.elapsed_s
        if samples:
            self.sampled = True
        if self.elapsed_s >= self.period_s:
            samples = samples or not self.sampled
            self.elapsed_s %= self.period_s
            self.sampled = False
        return samples


@dataclass(frozen=True, eq=False)
class Sample:
    """What robosuite's observables saw at their last sampling moment."""

    eef_pos: Float  # (3,) m, world frame
    eef_quat: Float  # (4,) xyzw, world frame
    gripper_qpos: Float  # (2,) m
    qpos: Float  # (nq,) from which the poses in the picture follow
    site_rgba: NDArray[np.float32]  # (nsite, 4): a stove's burner is drawn by a site's alpha


class Stepper:
    """Steps one LIBERO problem env (``OffScreenRenderEnv(...).env``) in place of its own ``step``."""

    def __init__(self, env: Any):
        """Bind to ``env``, which must have been reset once; call `reset` after each further reset of it."""
        self._env = env
        self._painter: Painter | None = None  # made by the first render of a model, as is scratch data of its own
        self.reset()

    def reset(self) -> None:
        """Re-read everything a robosuite reset replaces (simulator, controller, clock) and take a first sample."""
        env = self._env
        robot = env.robots[0]
        self._model: mujoco.MjModel = env.sim.model._model
        self._data: mujoco.MjData = env.sim.data._data
        self._model.opt.disableflags |= _NO_SENSORS
        self._n_substeps = int(env.control_timestep / env.model_timestep)
        self._arm = Arm(self._model, self._data, robot.controller, robot.torque_limits)
        self._clock = Clock.of(env)
        self._arm_ctrl: Float = self._data.ctrl[contiguous(robot._ref_joint_actuator_indexes)]
        self._fingers = Fingers(self._model, self._data, robot)
        self._gripper_qpos = contiguous(robot._ref_gripper_joint_pos_indexes)
        self._eef_site = robot.eef_site_id
        self._eef_body = env.sim.model.body_name2id(robot.robot_model.eef_name)
        self.sample = self._take_sample(self._data.qpos.copy())

    def step(self, action: Action) -> bool:
        """Run one control step on ``action`` (7,) and return whether the task's goal is met after it."""
        model, data, arm, fingers, clock = self._model, self._data, self._arm, self._fingers, self._clock
        fingers.set_goal(action[6:])
        for substep in range(self._n_substeps):
            qpos = data.qpos.copy()
            mujoco.mj_step1(model, data)
            mujoco.mj_fwdActuation(model, data)
            mujoco.mj_fwdAcceleration(model, data)
            mujoco.mj_fwdConstraint(model, data)  # robosuite: sim.forward() in env.step
            if arm.is_stale:
                torques = arm.stale_torques(action[:6])
            else:
                mujoco.mj_fwdConstraint(model, data)  # robosuite: sim.forward() in controller.update
                if substep == 0:
                    arm.set_goal(action[:6])
                torques = arm.torques()
            self._arm_ctrl[:] = torques
            fingers.move()
            mujoco.mj_step2(model, data)  # the third solve, with the new torques; then the integration
            if clock.tick():
                self.sample = self._take_sample(qpos)
        self._env.timestep += 1
        self._env.cur_time += self._env.control_timestep
        self._env._post_process()  # lights a stove's burner
        return bool(self._env._check_success())

    def render(self, cameras: Sequence[str], height: int, width: int) -> dict[str, Image]:
        """Render the last sample: camera -> (H, W, 3) RGB in robosuite's orientation (bottom row first).

        The env's simulator must have a render context: robosuite's own or one with the same attributes.
        """
        model, sample = self._model, self.sample
        context = self._env.sim._render_context_offscreen
        if self._painter is None or self._painter.model is not model:
            self._painter, self._scratch = Painter(model, context.vopt, context.scn, context.con), mujoco.MjData(model)
        painter, scratch = self._painter, self._scratch
        scratch.qpos[:] = sample.qpos
        mujoco.mj_kinematics(model, scratch)
        mujoco.mj_comPos(model, scratch)
        mujoco.mj_camlight(model, scratch)
        context.gl_ctx.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context.con)
        shown_now = model.site_rgba.copy()
        model.site_rgba[:] = sample.site_rgba
        try:
            return {name: painter.draw(scratch, model.camera(name).id, height, width) for name in cameras}
        finally:
            model.site_rgba[:] = shown_now

    def _take_sample(self, qpos: Float) -> Sample:
        data = self._data
        return Sample(
            eef_pos=data.site_xpos[self._eef_site].copy(),
            eef_quat=data.xquat[self._eef_body][[1, 2, 3, 0]],
            gripper_qpos=data.qpos[self._gripper_qpos].copy(),
            qpos=qpos,
            site_rgba=self._model.site_rgba.copy(),
        )
