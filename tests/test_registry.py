from __future__ import annotations

import pytest

from rdvla_bench.errors import BrokenPlugin, UnknownName, UnknownTask, UsageError
from rdvla_bench.protocol import CARDS, protocol
from rdvla_bench.registry import POLICIES, SUITES, entries, load_policy, load_suite, parse_settings


def test_our_own_policies_and_suites_come_through_entry_points() -> None:
    assert {"rdvla-fixed", "rdvla-adaptive", "rdvla-linear-decay", "rdvla-pure", "expert", "expert-noisy"} <= set(
        entries(POLICIES)
    )
    assert {"libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"} <= set(entries(SUITES))


@pytest.mark.parametrize(("name", "nearest"), [("rdvla-adaptiv", "rdvla-adaptive"), ("randm", "random")])
def test_an_unknown_policy_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=f"no policy '{name}'. Did you mean '{nearest}'"):
        load_policy(name)


def test_an_unknown_suite_or_card_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'libero_spatial'"):
        load_suite("libero_spatail")
    with pytest.raises(UnknownName, match="Did you mean 'libero/openpi@1'"):
        protocol("libero/openpi")


def test_a_broken_plugin_fails_when_used_and_names_its_distribution() -> None:
    assert "broken-import" in entries(POLICIES)
    with pytest.raises(BrokenPlugin, match="distribution 'rdvla-fakes'"):
        load_policy("broken-import")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"falt": "nan"}, "Did you mean 'fault'"),
        ({"fault": "nann"}, "Did you mean 'nan'"),
        ({"at": "x"}, "expected a whole number"),
        ({"query_s": "slow"}, "expected a number"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_settings("fake", settings)


def test_settings_take_the_types_of_the_factory() -> None:
    assert parse_settings("fake", {"at": "3", "query_s": "0.5", "fault": "nan"}) == {
        "at": 3,
        "query_s": 0.5,
        "fault": "nan",
    }


@pytest.mark.parametrize(("wanted", "ids"), [(None, (0, 1, 2)), ("2,0", (0, 2)), ("0-1", (0, 1)), ("bucket_1", (1,))])
def test_tasks_are_chosen_by_index_range_or_name(wanted: str | None, ids: tuple[int, ...]) -> None:
    assert load_suite("fake_suite").task_ids(wanted) == ids


@pytest.mark.parametrize("wanted", ["3", "0-7", "x", "", "-1", "2-1"])
def test_an_unknown_task_is_refused(wanted: str) -> None:
    with pytest.raises(UnknownTask):
        load_suite("fake_suite").task_ids(wanted)


@pytest.mark.parametrize("name", sorted(CARDS))
def test_every_number_of_a_card_has_a_source(name: str) -> None:
    card = CARDS[name]
    fields = {"max_steps", "settle_steps", "settle_action", "n_trials", "seeding", "image_size", "max_horizon", "pins"}
    assert fields <= set(card.sources)
    assert all(card.sources.values())
    assert (card.seeding == "sequential") == (card.stream_seed is not None) == ("stream_seed" in card.sources)
