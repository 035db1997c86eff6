"""CALVIN's protocol cards: three sets of rules, each in the original's look and in our own.

The button of the commit that mees/calvin pins ignores the first press where the led starts on: 185 of the 1000
chains hold ``turn_off_led``, so a number must say which button it was measured with.
"""

from __future__ import annotations

from dataclasses import replace

from rdvla_bench.protocol_card import ProtocolCard

_CALVIN = "mees/calvin@fa03f01 calvin_models/calvin_agent"
_EVALUATE = f"{_CALVIN}/evaluation/evaluate_policy.py"
_ENV = "mees/calvin_env@797142c"
_PINNED = "mees/calvin_env@1431a46"
_SUITES = ("calvin_a", "calvin_b", "calvin_c", "calvin_d")

_MAIN_BUTTON = f"button: {_ENV} calvin_env/scene/objects/button.py, whose reset takes over the led's state"
_PINNED_BUTTON = f"button: {_PINNED} (the submodule of mees/calvin@fa03f01), whose reset is off whatever the led shows"
_NOT_OFFICIAL = "NOT official CALVIN: procedural look instead of the original's meshes and textures"
_OUR_LOOK = "look: ours, geometry measured on the original, colours and textures made here"

_ABCD = ProtocolCard(
    name="calvin/abcd@1",
    summary="Original look (needs the original's assets), 360 control steps a subtask, button of calvin_env's main",
    max_steps=dict.fromkeys(_SUITES, 360),
    settle_steps=0,
    settle_action=(),
    n_trials=1000,
    seeding="episode",
    stream_seed=None,
    image_size=None,
    max_horizon=None,
    gripper="+1 open, -1 close; > 0 counts as 1 (calvin_agent's wrapper)",
    pins={"pybullet": "3.2.7"},
    sources={
        "max_steps": f"{_EVALUATE} EP_LEN, for one of the five subtasks",
        "settle_steps": f"{_ENV} calvin_env/envs/play_table_env.py reset: one simulation step, no control step",
        "settle_action": "no settling",
        "n_trials": f"{_EVALUATE} NUM_SEQUENCES",
        "seeding": f"{_CALVIN}/evaluation/utils.py get_env_state_for_initial_condition: from the chain alone (scene D; "
        "starts in A, B and C are ours); the world is rebuilt before each chain, as the original's reset depends on "
        "what ran before",
        "image_size": f"{_ENV} conf/cameras: static 200, gripper 84",
        "max_horizon": "the horizon belongs to the policy's card",
        "gripper": f"{_CALVIN}/wrappers/calvin_env_wrapper.py step; {_ENV} calvin_env/robot/robot.py",
        "pins": "the version whose trajectories were compared with the original's; mees/calvin pins none",
        "variant": f"{_MAIN_BUTTON}; look: {_ENV} data/",
    },
    variant={"button": "main", "look": "original"},
)


def _pinned(card: ProtocolCard, name: str, summary: str) -> ProtocolCard:
    """Return ``card`` with the button of the commit that mees/calvin pins."""
    return replace(
        card,
        name=name,
        summary=summary,
        sources={**card.sources, "variant": card.sources["variant"].replace(_MAIN_BUTTON, _PINNED_BUTTON)},
        variant={**card.variant, "button": "pinned"},
    )


def _longer(card: ProtocolCard, name: str, summary: str) -> ProtocolCard:
    """Return ``card`` with the cap of the RD-VLA and VLA-Adapter authors' script."""
    source = (
        "queon37-star/rd-vla-profile@d7c175d (an import of the authors' code) evaluate_calvin.py rollout_hi3: "
        "80 rounds of 10 steps, whatever the ep_len it is given; the same in OpenHelix-Team/VLA-Adapter"
    )
    return replace(
        card,
        name=name,
        summary=summary,
        max_steps=dict.fromkeys(_SUITES, 800),
        sources={**card.sources, "max_steps": source},
    )


_PROCEDURAL = replace(
    _ABCD,
    name="calvin/procedural@1",
    summary=f"{_NOT_OFFICIAL}; 360 control steps a subtask, button of calvin_env's main (the default)",
    sources={**_ABCD.sources, "variant": f"{_MAIN_BUTTON}; {_OUR_LOOK}"},
    variant={**_ABCD.variant, "look": "procedural"},
)

CALVIN_CARDS: tuple[ProtocolCard, ...] = (
    _PROCEDURAL,
    _pinned(_PROCEDURAL, "calvin/procedural-pinned@1", f"{_NOT_OFFICIAL}; the button of the commit mees/calvin pins"),
    _longer(_PROCEDURAL, "calvin/procedural-800@1", f"{_NOT_OFFICIAL}; 800 control steps a subtask"),
    _ABCD,
    _pinned(_ABCD, "calvin/abcd-pinned@1", "Original look, the button of the commit that mees/calvin pins"),
    _longer(_ABCD, "calvin/abcd-800@1", "Original look, 800 control steps a subtask as in the authors' script"),
)
