"""The Panda's arm and gripper control, bit for bit as robosuite 1.4.0 computes it, without its bookkeeping.

robosuite's ``OperationalSpaceController`` looks names up, copies, builds the whole mass matrix and computes each
Jacobian twice, 25 times a control step. This keeps its floating-point operations, their order and the memory order of
their operands (which picks the BLAS kernel, and so the rounding), and drops the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.libero.simulator import mujoco, robosuite

Float = NDArray[np.float64]
Action = NDArray[np.floating[Any]]

_Controller = robosuite.controllers.osc.OperationalSpaceController
_Gripper = robosuite.models.grippers.panda_gripper.PandaGripper
# Compiled by numba, with LAPACK calls inside; called as they are, so that they round as they do.
_orientation_error = robosuite.utils.control_utils.orientation_error
_opspace_matrices = robosuite.utils.control_utils.opspace_matrices
_nullspace_torques = robosuite.utils.control_utils.nullspace_torques


class Arm:
    """The controller of one episode: reads the simulator's arrays in place and returns the arm's torques.

    Goals are set by robosuite's own ``set_goal``, once a control step; its object stays the owner of goal and gains.

    Raises:
        ValueError: The controller is not the one LIBERO uses (OSC_POSE, fixed impedance, no interpolation).

    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, controller: Any, limits: tuple[Float, Float]):
        """Bind to the arrays of ``data``; ``limits`` are the arm's (lowest, highest) torques, (7,) each."""
        _check_supported(controller)
        self._model, self._data, self._controller = model, data, controller
        self._site = int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, controller.eef_name))
        self._low, self._high = limits
        arm = contiguous(controller.qvel_index)
        n = arm.stop - arm.start

        # Views into the simulator: always current, never copied.
        self.ee_pos: Float = data.site_xpos[self._site]
        self.ee_mat: Float = data.site_xmat[self._site].reshape(3, 3)
        self._qvel: Float = data.qvel
        self._qpos_arm: Float = data.qpos[contiguous(controller.qpos_index)]
        self._qvel_arm: Float = data.qvel[arm]
        self._bias_arm: Float = data.qfrc_bias[arm]
        self._qM: Float = data.qM

        # Fortran order where robosuite's fancy indexing happens to leave Fortran order.
        self._jac = np.zeros((2, 3, model.nv))
        self._jac_arm = self._jac[:, :, arm]
        self._j_pos = np.empty((3, n), order="F")
        self._j_ori = np.empty((3, n), order="F")
        self._j_full = np.empty((6, n), order="F")
        self._mass = np.empty((n, n), order="F")
        self._mass_entries = _mass_entries(model, arm)
        self._error = np.empty(6)
        self._velocity = np.empty(6)
        self._wrench = np.empty(6)

    @property
    def is_stale(self) -> bool:
        """Whether robosuite would act on the arm's state of an earlier moment.

        It does so in the first substep after a reset: the controller looked at the arm when it was made, before the
        init state was set, and looks again only after it has been run once.
        """
        return not self._controller.new_update

    def stale_torques(self, action: Action) -> Float:
        """Return what robosuite's own controller computes for ``action`` while `is_stale`."""
        self._controller.set_goal(action)
        torques: Float = np.clip(self._controller.run_controller(), self._low, self._high)
        return torques

    def set_goal(self, action: Action) -> None:
        """Move the goal by one scaled action (6,), as robosuite does at the start of a control step."""
        controller = self._controller
        controller.ee_pos = self.ee_pos.copy()
        controller.ee_ori_mat = self.ee_mat.copy()
        controller.new_update = False  # the state above is current: robosuite need not run mj_forward for it
        controller.set_goal(action)
        controller.new_update = True

    def torques(self) -> Float:
        """Return the clipped torques (7,) for the simulator's present position and velocity."""
        controller = self._controller
        jac, error, velocity, wrench = self._jac, self._error, self._velocity, self._wrench
        j_pos, j_ori, j_full = self._j_pos, self._j_ori, self._j_full
        mujoco.mj_jacSite(self._model, self._data, jac[0], jac[1], self._site)
        np.dot(jac[0], self._qvel, out=velocity[:3])
        np.dot(jac[1], self._qvel, out=velocity[3:])
        j_pos[:], j_ori[:] = self._jac_arm
        j_full[:3], j_full[3:] = self._jac_arm
        self._qM.take(self._mass_entries, out=self._mass.T, mode="clip")

        np.subtract(controller.goal_pos, self.ee_pos, out=error[:3])
        error[3:] = _orientation_error(controller.goal_ori, self.ee_mat)
        # F = kp * error + kd * (-velocity)
        np.negative(velocity, out=velocity)
        force = error * controller.kp + velocity * controller.kd

        _, lambda_pos, lambda_ori, nullspace = _opspace_matrices(self._mass, j_full, j_pos, j_ori)
        np.dot(lambda_pos, force[:3], out=wrench[:3])
        np.dot(lambda_ori, force[3:], out=wrench[3:])
        torques = np.dot(j_full.T, wrench)
        torques += self._bias_arm
        posture = controller.initial_joint, self._qpos_arm, self._qvel_arm
        torques += _nullspace_torques(self._mass, nullspace, *posture)
        np.maximum(torques, self._low, out=torques)
        return np.minimum(torques, self._high, out=torques)


class Fingers:
    """The Panda gripper's command: a ramp that the sign of the action moves by one step each substep."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, robot: Any):
        """Bind to the gripper's actuators in ``data``; robosuite's gripper stays the owner of the command.

        Raises:
            ValueError: The robot has another gripper.

        """
        if type(robot.gripper) is not _Gripper:
            raise ValueError(f"the fast stepper knows the Panda's gripper only, not {type(robot.gripper).__name__}")
        self._gripper = robot.gripper
        fingers = contiguous(robot._ref_joint_gripper_actuator_indexes)
        self._ctrl: Float = data.ctrl[fingers]
        low, high = model.actuator_ctrlrange[fingers].T
        self._bias, self._weight = 0.5 * (high + low), 0.5 * (high - low)
        self._delta = np.zeros(2)

    def set_goal(self, action: Action) -> None:
        """Set the ramp's direction: action (1,) below 0 opens, above 0 closes."""
        self._delta = np.array([-1.0, 1.0]) * self._gripper.speed * np.sign(action)

    def move(self) -> None:
        """Move the command by one substep, as ``PandaGripper.format_action`` does."""
        command = self._gripper.current_action + self._delta
        np.maximum(command, -1.0, out=command)
        np.minimum(command, 1.0, out=command)
        self._gripper.current_action = command
        np.multiply(self._weight, command, out=self._ctrl)
        self._ctrl += self._bias


def _check_supported(controller: Any) -> None:
    supported = (
        type(controller) is _Controller
        and controller.use_ori
        and controller.uncoupling
        and controller.impedance_mode == "fixed"
        and controller.interpolator_pos is None
        and controller.interpolator_ori is None
    )
    if not supported:
        raise ValueError("the fast stepper knows LIBERO's OSC_POSE controller only (fixed impedance, no interpolation)")


def contiguous(indexes: Sequence[int]) -> slice:
    """Return the slice that picks ``indexes``, so that what it picks is a view."""
    first, last = int(indexes[0]), int(indexes[-1])
    if [int(i) for i in indexes] != list(range(first, last + 1)):
        raise ValueError(f"the robot's parts are not contiguous in the simulator's arrays: {indexes}")
    return slice(first, last + 1)


def _mass_entries(model: mujoco.MjModel, arm: slice) -> NDArray[np.intp]:
    """Return where in the sparse ``qM`` each entry of the arm's block of the mass matrix stands."""
    full = np.empty((model.nv, model.nv))
    mujoco.mj_fullM(model, full, np.arange(1.0, model.nM + 1.0))
    entries = full[arm, arm].astype(np.intp) - 1
    if entries.min() < 0:
        raise ValueError("the arm is not one chain of joints: its mass matrix has structural zeros")
    return entries
