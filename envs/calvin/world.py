"""CALVIN's world on PyBullet: one control step is an action, eight steps of physics, one step of the mechanisms.

Order of bodies, motors and resets follow mees/calvin_env@797142c (envs/play_table_env.py, robot/robot.py,
scene/play_table_scene.py); the geometry is made from numbers (`table`, `robot`, `blocks`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pybullet_data
from numpy.typing import NDArray

from rdvla_bench.envs.calvin import blocks, robot, table
from rdvla_bench.envs.calvin.bullet import pybullet as bullet
from rdvla_bench.envs.calvin.mechanisms import BRAKE_FORCE, BUTTON_RESETS, ButtonReset, Mechanisms
from rdvla_bench.envs.calvin.scenes import GRAVITY_Z, SCENES, SceneSpec
from rdvla_bench.envs.calvin.snapshot import FIRST_BLOCK, ROBOT, TABLE, BlockState, Contact, Snapshot
from rdvla_bench.envs.calvin.visual import WHITE, Colour, Look
from rdvla_bench.errors import UnknownName, UsageError

Floats = NDArray[np.float64]

N_SUBSTEPS = 8  # 240 Hz of physics, 30 Hz of control (conf/env/play_table_env.yaml)
POSITION_UNIT = 0.02  # m a unit of a relative action (robot/robot.py, max_rel_pos)
EULER_UNIT = 0.05  # rad (max_rel_orn)
ARM_FORCE = 200.0  # conf/robot/panda.yaml, max_joint_force
ARM_SPEED = 2.0  # rad/s, max_velocity
GRIPPER_FORCE = 200.0  # N closing; a hundredth of it opening
GRIPPER_SPEED = 1.0  # m/s

ROBOT_OBS_SIZE, SCENE_OBS_SIZE, ACTION_SIZE = 15, 24, 7

LIGHT_OFF: Colour = WHITE
BULB_ON: Colour = (1.0, 1.0, 0.0, 1.0)
LED_ON: Colour = (0.0, 1.0, 0.0, 1.0)
"""conf/scene/calvin_scene_*.yaml, lights."""

_JOINTS = (*robot.ARM_JOINTS, *robot.FINGER_JOINTS)
_TABLE_JOINTS = (table.SLIDE, table.DRAWER, table.BUTTON, table.SWITCH)  # in the order of scene_obs
_N_DOF = len(_JOINTS)


class World:
    """One scene in its own PyBullet client.

    Non-obvious:
      * `reset` builds the world anew: Bullet's caches survive everything else, and then a chain's result would depend
        on the chains before it (upstream: three different trajectories of one chain in three orders).
      * The target of the arm is accumulated from the actions and set to where the arm is by `reset` only; it can run
        away from an arm that is held up.
      * With ``look=None`` nothing is visible and a rebuild is cheap; the physics is bit for bit the same.
    """

    robot_id, table_id = ROBOT, TABLE
    block_ids = (FIRST_BLOCK, FIRST_BLOCK + 1, FIRST_BLOCK + 2)  # in the scene's order
    camera_link = robot.CAMERA_LINK

    def __init__(self, scene: str | SceneSpec, look: Look | None = None, button: ButtonReset = "main") -> None:
        """Write the bodies' files to a temporary folder and load them.

        Raises:
            UnknownName: a scene other than A, B, C, D or a button variant other than main, pinned.
        """
        if isinstance(scene, str) and scene not in SCENES:
            raise UnknownName("CALVIN scene", scene, SCENES, "World(scene)")
        if button not in BUTTON_RESETS:
            raise UnknownName("button variant", button, BUTTON_RESETS, "World(button=...)")
        self.scene = SCENES[scene] if isinstance(scene, str) else scene
        self.look, self.button = look, button
        self.mechanisms = Mechanisms(button)
        self.target_pos: Floats = np.zeros(3)
        self.target_euler: Floats = np.zeros(3)
        self.gripper_action = 1.0
        self._n_looks = 0
        self._folder = tempfile.TemporaryDirectory(prefix="calvin-")
        self._first = look, _write(self.scene, look, Path(self._folder.name))
        self._files = self._first[1]
        self.client: int = bullet.connect(bullet.DIRECT)
        self.rebuild()

    def dress(self, look: Look) -> None:
        """Show the world in another look from the next reset on; physics stays as it is.

        Files go to a folder of their own, which the next look removes; only those of the look that the world was made
        with stay.

        Raises:
            UsageError: the world was made without a look.
        """
        if self.look is None:
            raise UsageError("this world was made without a look and shows nothing")
        shutil.rmtree(self._dressed_in, ignore_errors=True)
        self.look = look
        first, files = self._first
        if look is not first:
            self._n_looks += 1  # never a name twice: PyBullet keeps what it has once read under a file's name
            self._dressed_in.mkdir()
            files = _write(self.scene, look, self._dressed_in)
        self._files = files

    @property
    def _dressed_in(self) -> Path:
        """Return the folder of the last look that the world was dressed in."""
        return Path(self._folder.name) / f"look-{self._n_looks}"

    def rebuild(self) -> None:
        """Empty the simulation and load everything anew, in upstream's order."""
        client = self.client
        bullet.resetSimulation(physicsClientId=client)
        bullet.setGravity(0, 0, GRAVITY_Z, physicsClientId=client)
        self._load_robot()
        for block, path in enumerate(self._files["blocks"]):
            bullet.loadURDF(str(path), (0.0, 0.0, 1.0 + 0.2 * block), physicsClientId=client)
        with self._forgetting():
            bullet.loadURDF(str(self._files["table"][0]), physicsClientId=client)
            bullet.loadURDF(str(self._files["plane"][0]), physicsClientId=client)
        brake = {"controlMode": bullet.VELOCITY_CONTROL, "force": BRAKE_FORCE, "physicsClientId": client}
        for joint in (table.SLIDE, table.DRAWER, table.SWITCH):
            bullet.setJointMotorControl2(TABLE, joint, **brake)
        spring = {"controlMode": bullet.POSITION_CONTROL, "targetPosition": 0.0, "force": BRAKE_FORCE}
        bullet.setJointMotorControl2(TABLE, table.BUTTON, physicsClientId=client, **spring)
        self.mechanisms = Mechanisms(self.button)
        self.gripper_action = 1.0

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """Let PyBullet keep no file that is read meanwhile, if the world shows another look than its own.

        It would keep meshes and pictures of every look until the process ends, 2 MB each; without them the arm's
        meshes are read again at the next rebuild (0.08 CPU s).
        """
        if self.look is self._first[0]:
            yield
            return
        bullet.setPhysicsEngineParameter(enableFileCaching=0, physicsClientId=self.client)
        try:
            yield
        finally:
            bullet.setPhysicsEngineParameter(enableFileCaching=1, physicsClientId=self.client)

    def _load_robot(self) -> None:
        """Robot, pedestal and the gear that keeps the fingers symmetric."""
        client = self.client
        path = str(self._files["robot"][0])
        bullet.loadURDF(path, robot.BASE_POSITION, useFixedBase=True, physicsClientId=client)
        pedestal = -1
        if self.look is not None:
            pedestal = bullet.createVisualShape(
                bullet.GEOM_CYLINDER,
                radius=robot.PEDESTAL_RADIUS,
                length=robot.PEDESTAL_HEIGHT,
                rgbaColor=WHITE,
                visualFramePosition=robot.PEDESTAL_POSITION,
                physicsClientId=client,
            )
        bullet.createMultiBody(baseVisualShapeIndex=pedestal, physicsClientId=client)
        left, right = robot.FINGER_JOINTS
        origin = (0.0, 0.0, 0.0)
        gear = bullet.createConstraint(
            ROBOT, left, ROBOT, right, bullet.JOINT_GEAR, (1.0, 0.0, 0.0), origin, origin, physicsClientId=client
        )
        bullet.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=50, physicsClientId=client)

    def reset(self, robot_obs: Floats, scene_obs: Floats) -> None:
        """Build the world anew and put it into a state.

        Of ``robot_obs`` (15,) only the seven joints (rad) and the gripper's width (m) count; ``scene_obs`` (24,) is
        slide, drawer, button, switch (m), lightbulb, led (0 or 1), then x, y, z, roll, pitch, yaw of each block.

        Raises:
            UsageError: a wrong shape or a number that is not finite.
        """
        _check("robot_obs", robot_obs, ROBOT_OBS_SIZE)
        _check("scene_obs", scene_obs, SCENE_OBS_SIZE)
        client = self.client
        self.rebuild()
        for joint, position in zip(_TABLE_JOINTS, scene_obs[:4], strict=True):
            bullet.resetJointState(TABLE, joint, position, physicsClientId=client)
        self.mechanisms.reset(bulb=bool(scene_obs[4]), led=bool(scene_obs[5]))
        self._show_lights()
        for body, pose in zip(self.block_ids, scene_obs[6:].reshape(3, 6), strict=True):
            quat = bullet.getQuaternionFromEuler(pose[3:])
            bullet.resetBasePositionAndOrientation(body, pose[:3], quat, physicsClientId=client)
        finger = robot_obs[6] / 2
        joints = np.array([*robot_obs[7:14], finger, finger])
        for joint, position in zip(_JOINTS, joints, strict=True):
            bullet.resetJointState(ROBOT, joint, position, physicsClientId=client)
        self._drive(joints, GRIPPER_FORCE)
        self.target_pos, self.target_euler = self.tcp()
        bullet.stepSimulation(physicsClientId=client)

    def step(self, action: Floats) -> None:
        """Run one control step of a relative action (7,): move the target by it and follow the target.

        Units: 0.02 m and 0.05 rad of the target's Euler angles, each angle on its own; gripper 1 opens, -1 closes.

        Raises:
            UsageError: a wrong shape, a number that is not finite, or a gripper value other than -1 and 1.
        """
        _check("action", action, ACTION_SIZE)
        self.target_pos = self.target_pos + action[:3] * POSITION_UNIT
        self.target_euler = self.target_euler + action[3:6] * EULER_UNIT
        self.step_absolute(self.target_pos, self.target_euler, action[6])

    def step_absolute(self, position: Floats, euler_xyz: Floats, gripper: float) -> None:
        """Run one control step towards a pose of the tcp (m and rad, world); the target of `step` stays as it is.

        Raises:
            UsageError: a gripper value other than -1 and 1.
        """
        if gripper not in (-1.0, 1.0):
            raise UsageError(f"gripper action {gripper!r}: allowed are 1 (open) and -1 (close)")
        client = self.client
        self.gripper_action = float(gripper)
        arm = bullet.calculateInverseKinematics(
            ROBOT,
            robot.TCP_LINK,
            position,
            bullet.getQuaternionFromEuler(euler_xyz),
            robot.IK_LOWER,
            robot.IK_UPPER,
            robot.IK_RANGE,
            robot.IK_REST,
            physicsClientId=client,
        )
        arm = np.clip(arm[:7], robot.LOWER_JOINTS, robot.UPPER_JOINTS)
        opens = gripper == 1.0
        finger = robot.FINGER_OPEN if opens else 0.0
        self._drive(np.array([*arm, finger, finger]), GRIPPER_FORCE / 100 if opens else GRIPPER_FORCE)
        for _ in range(N_SUBSTEPS):
            bullet.stepSimulation(physicsClientId=client)
        before = self.lights()
        _, _, button, switch = self._table_joints()
        self.mechanisms.step(button, switch)
        if self.lights() != before:
            self._show_lights()

    def _drive(self, joints: Floats, gripper_force: float) -> None:
        """Set the motors' goals. One call a joint: PyBullet's call for many knows no speed limit."""
        for joint, goal in zip(robot.ARM_JOINTS, joints[:7], strict=True):
            bullet.setJointMotorControl2(
                ROBOT,
                joint,
                bullet.POSITION_CONTROL,
                targetPosition=goal,
                force=ARM_FORCE,
                maxVelocity=ARM_SPEED,
                physicsClientId=self.client,
            )
        for joint, goal in zip(robot.FINGER_JOINTS, joints[7:], strict=True):
            bullet.setJointMotorControl2(
                ROBOT,
                joint,
                bullet.POSITION_CONTROL,
                targetPosition=goal,
                force=gripper_force,
                maxVelocity=GRIPPER_SPEED,
                physicsClientId=self.client,
            )

    def _show_lights(self) -> None:
        if self.look is None:
            return
        bulb = BULB_ON if self.mechanisms.bulb else LIGHT_OFF
        led = LED_ON if self.mechanisms.led else LIGHT_OFF
        bullet.changeVisualShape(TABLE, table.BULB, rgbaColor=bulb, physicsClientId=self.client)
        bullet.changeVisualShape(TABLE, table.LED, rgbaColor=led, physicsClientId=self.client)

    def tcp(self) -> tuple[Floats, Floats]:
        """Where the tool is: position (3,) m and Euler angles xyz (3,) rad, world frame."""
        position, quat = bullet.getLinkState(ROBOT, robot.TCP_LINK, physicsClientId=self.client)[:2]
        return np.array(position), np.array(bullet.getEulerFromQuaternion(quat))

    def robot_obs(self) -> Floats:
        """(15,): tcp position and Euler angles, width of the gripper (m), seven joints (rad), last gripper action."""
        position, euler = self.tcp()
        joints = self._joint_states(ROBOT, _JOINTS)[:, 0]
        return np.array([*position, *euler, joints[7] + joints[8], *joints[:7], self.gripper_action])

    def scene_obs(self) -> Floats:
        """(24,): slide, drawer, button, switch (m), lightbulb, led, then position and Euler angles of each block."""
        obs = [*self._table_joints(), float(self.mechanisms.bulb), float(self.mechanisms.led)]
        for body in self.block_ids:
            position, quat = bullet.getBasePositionAndOrientation(body, physicsClientId=self.client)
            obs += [*position, *bullet.getEulerFromQuaternion(quat)]
        return np.array(obs)

    def doors(self) -> dict[str, float]:
        """Joint positions in m of "slide" and "drawer"."""
        slide, drawer, _, _ = self._table_joints()
        return {"slide": slide, "drawer": drawer}

    def lights(self) -> dict[str, bool]:
        """Whether "lightbulb" and "led" are on."""
        return {"lightbulb": self.mechanisms.bulb, "led": self.mechanisms.led}

    def snapshot(self, *, contacts: bool = True) -> Snapshot:
        """What the oracle reads; without ``contacts`` those sets are empty and the call costs little."""
        states = {}
        for block, body in zip(self.scene.blocks, self.block_ids, strict=True):
            position, quat = bullet.getBasePositionAndOrientation(body, physicsClientId=self.client)
            linear, angular = bullet.getBaseVelocity(body, physicsClientId=self.client)
            states[block.colour] = BlockState(
                body=body,
                position=np.array(position),
                quat_xyzw=np.array(quat),
                linear_velocity=np.array(linear),
                angular_velocity=np.array(angular),
                contacts=self._contacts(body) if contacts else frozenset(),
            )
        touched = self._contacts(ROBOT) if contacts else frozenset()
        return Snapshot(blocks=states, doors=self.doors(), lights=self.lights(), robot_contacts=touched)

    def full_state(self) -> Floats:
        """All that the future depends on as far as PyBullet shows it, flat.

        Nine joints of the robot and four of the table, each position then velocity; pose (7) and velocity (6) of each
        block; target pose (6); gripper action; lightbulb, led; button on, button was pressed, switch on.
        """
        logic = self.mechanisms
        parts = [self._joint_states(ROBOT, _JOINTS).ravel(), self._joint_states(TABLE, _TABLE_JOINTS).ravel()]
        for body in self.block_ids:
            parts += bullet.getBasePositionAndOrientation(body, physicsClientId=self.client)
            parts += bullet.getBaseVelocity(body, physicsClientId=self.client)
        flags = (logic.bulb, logic.led, logic.button_on, logic.was_pressed, logic.switch_on)
        return np.concatenate([*parts, self.target_pos, self.target_euler, [self.gripper_action], flags])

    @property
    def has_diverged(self) -> bool:
        """Whether some joint, pose or velocity is no longer a finite number."""
        return not np.isfinite(self.full_state()).all()

    def close(self) -> None:
        """Give back the client and the temporary folder; once more does nothing."""
        if self.client >= 0:
            bullet.disconnect(physicsClientId=self.client)
            self.client = -1
            self._folder.cleanup()

    def _joint_states(self, body: int, joints: tuple[int, ...]) -> Floats:
        """(J, 2): position, velocity."""
        states = bullet.getJointStates(body, joints, physicsClientId=self.client)
        return np.array([state[:2] for state in states])

    def _table_joints(self) -> list[float]:
        """Slide, drawer, button, switch in m."""
        return [state[0] for state in bullet.getJointStates(TABLE, _TABLE_JOINTS, physicsClientId=self.client)]

    def _contacts(self, body: int) -> frozenset[Contact]:
        points = bullet.getContactPoints(bodyA=body, physicsClientId=self.client)
        return frozenset((point[2], point[4]) for point in points)


def _write(scene: SceneSpec, look: Look | None, folder: Path) -> dict[str, list[Path]]:
    """Write the URDFs of all bodies."""
    panda = Path(pybullet_data.getDataPath()) / "franka_panda"
    return {
        "robot": [robot.write(scene, look, panda, folder)],
        "blocks": [blocks.write_block(scene, block, look, folder) for block in scene.blocks],
        "table": [table.write(scene, look, folder)],
        "plane": [blocks.write_plane(scene, look, folder)],
    }


def _check(name: str, values: Floats, size: int) -> None:
    if np.shape(values) != (size,):
        raise UsageError(f"{name} has shape {np.shape(values)}, the world takes ({size},)")
    if not np.isfinite(values).all():
        raise UsageError(f"{name} holds numbers that are not finite: {np.asarray(values)}")
