"""Claims about the logic of button, switch and lights, in both of the original's variants."""

from __future__ import annotations

import pytest

from rdvla_bench.envs.calvin.mechanisms import BUTTON_RESETS, ButtonReset, Mechanisms

UP, DOWN = 0.0, 0.015  # button, m
LOW, HIGH = 0.0, 0.08  # switch, m


def after(mechanisms: Mechanisms, *buttons: float, switch: float = LOW) -> Mechanisms:
    for button in buttons:
        mechanisms.step(button, switch)
    return mechanisms


@pytest.mark.parametrize("button_reset", BUTTON_RESETS)
def test_a_press_turns_the_led_on_and_the_next_one_off(button_reset: ButtonReset) -> None:
    mechanisms = Mechanisms(button_reset)
    mechanisms.reset(led=False, bulb=False)
    assert after(mechanisms, UP, DOWN).led
    assert after(mechanisms, UP).led
    assert not after(mechanisms, DOWN).led


def test_holding_the_button_down_toggles_once() -> None:
    assert after(Mechanisms(), DOWN, DOWN, DOWN).led


@pytest.mark.parametrize(("button_reset", "presses"), [("main", 1), ("pinned", 2)])
def test_an_led_that_starts_on_needs_one_press_in_main_and_two_in_pinned(
    button_reset: ButtonReset, presses: int
) -> None:
    mechanisms = Mechanisms(button_reset)
    mechanisms.reset(led=True, bulb=False)
    counted = 0
    while mechanisms.led and counted < 3:
        after(mechanisms, DOWN, UP)
        counted += 1
    assert counted == presses


def test_a_press_that_ends_before_the_middle_does_nothing() -> None:
    assert not after(Mechanisms(), UP, 0.01, UP).led  # the middle itself does not count


def test_the_bulb_follows_the_switch_both_ways() -> None:
    mechanisms = Mechanisms()
    mechanisms.step(UP, HIGH)
    assert mechanisms.bulb
    mechanisms.step(UP, 0.045)
    assert mechanisms.bulb
    mechanisms.step(UP, 0.044)  # the middle itself does not count
    assert not mechanisms.bulb


def test_a_bulb_that_a_start_lit_stays_on_until_the_switch_has_been_up_and_down() -> None:
    mechanisms = Mechanisms()
    mechanisms.reset(led=False, bulb=True)
    mechanisms.step(UP, LOW)
    assert mechanisms.bulb
    mechanisms.step(UP, HIGH)
    mechanisms.step(UP, LOW)
    assert not mechanisms.bulb


def test_a_reset_does_not_forget_that_the_button_was_down() -> None:
    mechanisms = after(Mechanisms(), DOWN)
    mechanisms.reset(led=False, bulb=False)
    assert not after(mechanisms, DOWN).led
