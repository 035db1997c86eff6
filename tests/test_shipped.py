"""Weights that come with the package: made from a run, found by name and by benchmark, never another file's."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import FakeDemonstrations, tiny_config

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from rdvla_bench.commands.list import main as list_command  # noqa: E402
from rdvla_bench.commands.ship import main  # noqa: E402
from rdvla_bench.errors import UsageError  # noqa: E402
from rdvla_bench.policies import rdvla  # noqa: E402
from rdvla_bench.policies.rdvla import shipped_weights  # noqa: E402
from rdvla_bench.policies.rdvla.shipped_weights import DEFAULTS, ShippedWeightsError  # noqa: E402
from rdvla_bench.policies.rdvla.training import shipping  # noqa: E402
from rdvla_bench.policies.rdvla.training.checkpoints import CheckpointError, read_model, write_model  # noqa: E402
from rdvla_bench.policies.rdvla.training.recipe import Recipe  # noqa: E402
from rdvla_bench.policies.rdvla.training.session import LOG, MODEL, Session  # noqa: E402
from rdvla_bench.policies.rdvla.training.shards import joined_fingerprint  # noqa: E402
from rdvla_bench.policies.rdvla.training.shipping import rounding_error, thinned  # noqa: E402
from rdvla_bench.policies.rdvla.training.trainer import Trainer  # noqa: E402
from rdvla_bench.policies.rdvla.weights import digest  # noqa: E402
from rdvla_bench.registry import load_policy  # noqa: E402
from rdvla_bench.types import Observation  # noqa: E402

NAME = DEFAULTS["libero"]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 30 steps on demonstrations with LIBERO's cameras."""
    out = tmp_path_factory.mktemp("run")
    recipe = Recipe(steps=30, batch_size=4, mean_depth=4, learning_rate=3e-3, schedule="cosine")
    with Session(out, Trainer(recipe, tiny_config(), FakeDemonstrations(4))) as session:
        while session.trainer.step < recipe.steps:
            session.record(session.trainer.advance())
        session.save()
    return out


@pytest.fixture(scope="module")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of weights that are made from the run."""
    out = tmp_path_factory.mktemp("made")
    assert main([str(trained), "--name", NAME, "--out", str(out)]) == 0
    return out


@pytest.fixture
def package(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that comes with the tiny weights for LIBERO, and with none for CALVIN."""
    folder = tmp_path / "shipped"
    shutil.copytree(made, folder)
    monkeypatch.setattr(shipped_weights, "FOLDER", folder)
    return folder


@pytest.fixture
def empty_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_weights, "FOLDER", tmp_path / "nothing")


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{NAME}.json").read_text())
    return found


def edit_manifest(folder: Path, **fields: Any) -> None:
    (folder / f"{NAME}.json").write_text(json.dumps({**manifest(folder), **fields}))


def observation(index: int = 0) -> Observation:
    sample = FakeDemonstrations(4)[index]
    return {"images": sample["images"], "proprio": sample["proprio"], "instruction": sample["instruction"]}


def test_the_same_run_makes_the_same_bytes(trained: Path, made: Path, tmp_path: Path) -> None:
    assert main([str(trained), "--name", NAME, "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{NAME}.json", f"{NAME}.safetensors"]
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (made / path.name).read_bytes(), path.name


def test_numbers_have_16_bits_on_disk_and_32_in_memory(trained: Path, made: Path) -> None:
    path = made / f"{NAME}.safetensors"
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert path.stat().st_size < 0.6 * (trained / MODEL).stat().st_size
    loaded, before = read_model(path), read_model(trained / MODEL)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    there = dict(before.model.named_parameters())
    for name, parameter in loaded.model.named_parameters():
        assert (parameter - there[name]).abs().max() <= 2**-11 * there[name].abs().max()
    assert loaded.model.config == before.model.config
    assert loaded.statistics.proprio.describe() == before.statistics.proprio.describe()
    assert loaded.origin == before.origin


def test_rounding_moves_no_action_by_more_than_a_hundredth(trained: Path, made: Path) -> None:
    whole = rdvla.fixed(depth=4, checkpoint=str(trained / MODEL))
    small = rdvla.fixed(depth=4, checkpoint=str(made / f"{NAME}.safetensors"))
    for index in range(4):
        a, b = (p.act(observation(index), None, np.random.default_rng(0))[0].actions for p in (whole, small))
        assert not np.array_equal(a, b)
        np.testing.assert_allclose(a, b, atol=0.01)


def test_the_kind_of_number_is_the_one_that_changes_the_weights_least() -> None:
    common = {"a": torch.tensor([1.0, 0.3, -1e-3]), "hardly trained": torch.tensor([3e-8])}
    assert rounding_error(common, "float16") < 2**-11 < rounding_error(common, "bfloat16") < 2**-8
    assert rounding_error({"a": torch.tensor([1 + 2**-10, 0.0])}, "bfloat16") == pytest.approx(2**-10, rel=0.01)
    large = {"a": torch.tensor([1e5, 1.0])}  # float16 ends at 65504
    assert rounding_error(large, "float16") == np.inf
    assert rounding_error(large, "bfloat16") < 2**-8


def test_weights_too_large_for_float16_become_bfloat16(trained: Path, tmp_path: Path) -> None:
    run = shipping.read_run(trained)
    dict(run.model.model.named_parameters())["head.output_proj.bias"][0] = 1e5
    path = shipping.ship(run, NAME, tmp_path, {})
    assert manifest(tmp_path)["dtype"] == "bfloat16"
    assert manifest(tmp_path)["rounding_error"]["float16"] is None
    assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_the_manifest_tells_where_the_weights_come_from(trained: Path, made: Path) -> None:
    told = manifest(made)
    assert told["benchmark"] == "libero"
    assert told["sha256"] == shipped_weights.sha256_of(made / f"{NAME}.safetensors")
    assert told["weights_sha256"] == digest(read_model(made / f"{NAME}.safetensors").model)
    assert told["bytes"] == (made / f"{NAME}.safetensors").stat().st_size
    assert (told["step"], told["seed"], told["recipe"]["learning_rate"]) == (30, 0, 3e-3)
    assert told["data"] == {"sha256": "fake-4", "samples": 4}
    assert told["versions"]["torch"]
    assert told["machine"]["cores"]
    losses = [json.loads(line)["loss"] for line in (trained / LOG).read_text().splitlines()]
    assert told["loss_curve"]["step"] == list(range(1, 31))
    np.testing.assert_allclose(told["loss_curve"]["loss"], losses, rtol=1e-4)
    assert str(trained.parent) not in json.dumps(told)


def test_a_long_curve_is_thinned_to_means_of_blocks() -> None:
    losses = tuple(np.random.default_rng(0).uniform(0, 1, 12345).tolist())
    curve = thinned(losses)
    assert len(curve["step"]) == len(curve["loss"]) == 200
    assert curve["step"][-1] == 12345
    assert curve["loss"][0] == pytest.approx(np.mean(losses[: curve["step"][0]]), rel=1e-4)
    assert thinned(()) == {"step": [], "loss": []}


def retell(run: Path, **identity: str) -> None:
    """Let a run have been trained on other data, or from a given model."""
    config = json.loads((run / "config.json").read_text())
    config["identity"].update(identity)
    (run / "config.json").write_text(json.dumps(config))
    model = read_model(run / MODEL)
    origin = {**model.origin, **identity}
    write_model(run / MODEL, dict(model.model.named_parameters()), model.model.config, model.statistics, origin)


def demonstrations(folder: Path, sha256: str) -> Path:
    row = {"kept": 3, "dropped": 1, "frames": 40, "steps": 90, "dropped_episodes": ["x"]}
    about = {"config": {"expert": "expert", "seed": 7}, "counts": {"libero_object": {"soup": row}}}
    folder.mkdir()
    (folder / "demos.json").write_text(json.dumps({**about, "data_sha256": sha256}))
    return folder


def test_the_manifest_counts_the_demonstrations(trained: Path, tmp_path: Path) -> None:
    data = demonstrations(tmp_path / "demos", "fake-4")
    arguments = [str(trained), "--name", NAME, "--out", str(tmp_path), "--data", str(data), "--minutes", "61.5"]
    assert main(arguments) == 0
    told = manifest(tmp_path)
    assert told["data"]["demonstrations"] == {"libero_object": {"soup": {"kept": 3, "dropped": 1, "frames": 40}}}
    assert told["data"]["demonstrator"]["seed"] == 7
    assert told["minutes"] == 61.5


def test_the_manifest_counts_the_demonstrations_of_each_folder(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [demonstrations(tmp_path / name, name) for name in ("plain", "recovery")]
    shutil.copytree(trained, tmp_path / "run")
    retell(tmp_path / "run", data_sha256=joined_fingerprint(["plain", "recovery"]))
    arguments = [str(tmp_path / "run"), "--name", NAME, "--out", str(tmp_path), "--data"]
    assert main([*arguments, f"{folders[0]},{folders[1]}"]) == 0
    told = manifest(tmp_path)["data"]
    assert told["sha256"] == joined_fingerprint(["plain", "recovery"])
    assert [part["sha256"] for part in told["folders"]] == ["plain", "recovery"]
    assert all(part["demonstrations"]["libero_object"]["soup"]["kept"] == 3 for part in told["folders"])
    assert all(part["demonstrator"]["seed"] == 7 for part in told["folders"])
    for wrong in (f"{folders[1]},{folders[0]}", str(folders[0])):
        assert main([*arguments, wrong]) == 2
        assert "but the run was trained on" in capsys.readouterr().err


@pytest.mark.parametrize(("recipe", "stage", "parts"), [
    ("[training]", "train", ["demos"]),
    ("[training]\n[refinement]", "refined", ["demos"]),
    ("[training]\n[[recovery]]\n[refinement]", "refined", ["demos", "recovery"]),
])  # fmt: skip
def test_of_a_recipe_its_last_training_is_shipped_with_its_data(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str, stage: str, parts: list[str]
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "recipe.toml").write_text(recipe)
    for name in ("demos", "recovery"):
        demonstrations(made / name, name)
    shutil.copytree(trained, made / "train")
    retell(made / "train", data_sha256="demos")
    arguments = [str(made), "--name", NAME, "--out", str(tmp_path)]
    if stage == "refined":
        assert main(arguments) == 2  # rather than the training before it
        assert "refined/model.safetensors: no such file" in capsys.readouterr().err
        shutil.copytree(trained, made / "refined")
        retell(
            made / "refined", data_sha256=joined_fingerprint(parts), initial_weights_sha256=began_with(made / "train")
        )
    assert main(arguments) == 0
    told = manifest(tmp_path)["data"]
    assert told["sha256"] == joined_fingerprint(parts)
    assert [part["sha256"] for part in told.get("folders", [told])] == parts
    assert [training["data"]["sha256"] for training in manifest(tmp_path)["before"]] == ["demos"] * (stage == "refined")


def began_with(run: Path) -> str:
    return digest(read_model(run / MODEL).model)


def test_the_trainings_before_the_last_are_in_the_manifest_if_they_led_to_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [shutil.copytree(trained, tmp_path / name) for name in ("first", "second", "last")]
    for number, (earlier, later) in enumerate(itertools.pairwise(folders)):
        model = read_model(later / MODEL)  # of weights of its own
        weights = {name: parameter + number + 1 for name, parameter in model.model.named_parameters()}
        write_model(later / MODEL, weights, model.model.config, model.statistics, model.origin)
        retell(later, data_sha256=f"data {number}", initial_weights_sha256=began_with(earlier))
    arguments = [str(folders[-1]), "--name", NAME, "--out", str(tmp_path / "out"), "--before"]
    assert main([*arguments, f"{folders[0]},{folders[1]}"]) == 0
    told = manifest(tmp_path / "out")
    assert [training["data"]["sha256"] for training in (*told["before"], told)] == ["fake-4", "data 0", "data 1"]
    assert [len(training["loss_curve"]["step"]) for training in told["before"]] == [30, 30]
    for wrong in (f"{folders[1]},{folders[0]}", str(folders[0]), str(folders[1])):
        assert main([*arguments, wrong]) == 2
        assert " began with " in capsys.readouterr().err


def test_what_shipped_weights_all_began_with_is_told_too(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(trained), "--name", NAME, "--out", str(tmp_path / "earlier")]) == 0
    origin = tmp_path / "earlier" / f"{NAME}.json"
    folders = [shutil.copytree(trained, tmp_path / name) for name in ("second", "last")]
    began = digest(read_model(origin.with_suffix(".safetensors")).model)  # its numbers as rounded
    for number, folder in enumerate(folders):
        retell(folder, data_sha256=f"data {number}", initial_weights_sha256=began)
        began = began_with(folder)
    arguments = [str(folders[-1]), "--name", NAME, "--out", str(tmp_path / "out"), "--before"]
    assert main([*arguments, f"{origin},{folders[0]}"]) == 0
    told = manifest(tmp_path / "out")
    assert [training["data"]["sha256"] for training in (*told["before"], told)] == ["fake-4", "data 0", "data 1"]
    assert told["before"][0]["recipe"] == json.loads(origin.read_text())["recipe"]
    assert main([*arguments, str(origin)]) == 2
    assert "of what came before it" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "none.json")]) == 2
    assert "none.json cannot be read" in capsys.readouterr().err


def test_a_recipes_folder_is_not_told_what_came_before(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text("[training]")
    assert main([str(tmp_path), "--name", NAME, "--out", str(tmp_path), "--before", str(trained)]) == 2
    assert "is a recipe's folder, which knows its trainings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", DEFAULTS["calvin"]], "is for calvin, but"),
        (["--name", "untrained"], "--name untrained: expected letters"),
        (["--name", "../x"], "--name ../x: expected letters"),
        (["--name", NAME, "--data", "DEMOS"], "data fake-5, but the run was trained on fake-4"),
        (["--name", NAME, "--data", "nowhere"], "demos.json cannot be read"),
    ],
)
def test_what_cannot_be_shipped_is_refused_in_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    demos = demonstrations(tmp_path / "demos", "fake-5")
    given = [str(demos) if text == "DEMOS" else text for text in arguments]
    assert main([str(trained), *given, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_shipped_on_request_alone(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["recipe"]["steps"] = 40
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    arguments = [str(tmp_path / "run"), "--name", "x", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "is at step 30 of 40" in capsys.readouterr().err
    assert main([*arguments, "--unfinished"]) == 0


def test_a_model_of_another_run_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["identity"]["data_sha256"] = "other"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert main([str(tmp_path / "run"), "--name", "x", "--out", str(tmp_path)]) == 2
    assert 'data_sha256: "fake-4" there, "other" here' in capsys.readouterr().err


def test_weights_above_the_packages_limit_are_not_written(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "MAX_BYTES", 1000)
    assert main([str(trained), "--name", NAME, "--out", str(tmp_path)]) == 2
    assert "shipped weights have 1000 at most" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("package")
def test_without_a_checkpoint_a_benchmark_is_played_with_its_shipped_weights() -> None:
    for policy in ("rdvla-fixed", "rdvla-adaptive", "rdvla-linear-decay", "rdvla-pure"):
        card = load_policy(policy, {}, "libero").card
        assert (card.name, card.weights) == (policy, NAME)
        assert card.config["benchmark"] == "libero"
    assert rdvla.fixed().card.weights == NAME


def test_the_card_names_weights_and_digest_however_they_were_asked_for(package: Path) -> None:
    cards = [
        load_policy("rdvla-pure", settings, "libero").card
        for settings in ({}, {"checkpoint": NAME}, {"checkpoint": str(package / f"{NAME}.safetensors")})
    ]
    assert {card.weights for card in cards} == {NAME}
    assert {card.weights_sha256 for card in cards} == {manifest(package)["weights_sha256"]}
    assert len({card.hash for card in cards}) == 1
    assert str(package.parent) not in json.dumps(cards[2].to_json())


@pytest.mark.usefixtures("package")
def test_untrained_weights_are_played_on_request_alone() -> None:
    card = load_policy("rdvla-fixed", {"checkpoint": "untrained"}, "libero").card
    assert (card.weights, card.config["config"]) == ("untrained", "nano")
    for settings in ({"config": "nano"}, {"weights_seed": "1"}):
        with pytest.raises(UsageError, match="checkpoint=untrained"):
            load_policy("rdvla-fixed", settings, "libero")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("settings", "benchmark", "message"),
    [
        ({}, "calvin", "the weights for calvin, rdvla-nano-calvin, do not come with this installation"),
        ({"checkpoint": "rdvla-nano-libro"}, "libero", "Did you mean 'rdvla-nano-libero'"),
        ({"checkpoint": NAME}, "calvin", "checkpoint=rdvla-nano-libero was trained on libero, not on calvin"),
        ({"checkpoint": NAME, "config": "nano"}, "libero", "config has no effect beside checkpoint="),
        ({"unnorm_key": "x"}, "libero", "no effect without checkpoint="),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(settings: dict[str, str], benchmark: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_policy("rdvla-fixed", settings, benchmark)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("empty_package")
def test_a_package_without_weights_says_what_to_do() -> None:
    with pytest.raises(ShippedWeightsError, match=r"--set checkpoint=untrained .* --set checkpoint=PATH"):
        load_policy("rdvla-adaptive", {}, "libero")


def test_a_damaged_file_is_not_played(package: Path) -> None:
    path = package / f"{NAME}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShippedWeightsError, match="is not the file of its manifest: SHA-256"):
        rdvla.fixed()
    path.unlink()
    with pytest.raises(ShippedWeightsError, match="do not come with this installation"):
        rdvla.fixed()


def test_a_file_above_the_limit_is_not_played(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_weights, "MAX_BYTES", 1000)
    with pytest.raises(ShippedWeightsError, match="shipped weights have 1000 at most"):
        rdvla.fixed(checkpoint=str(package / f"{NAME}.safetensors"))


def test_an_unreadable_manifest_is_named(package: Path) -> None:
    edit_manifest(package, format="rdvla-bench/shipped@9")
    with pytest.raises(ShippedWeightsError, match=f"{NAME}.json cannot be read.*shipped@9"):
        rdvla.fixed()


def test_a_header_that_belies_its_numbers_is_refused(trained: Path, tmp_path: Path) -> None:
    model = read_model(trained / MODEL)
    weights = {name: parameter.detach() for name, parameter in model.model.named_parameters()}
    path = tmp_path / "w.safetensors"
    write_model(path, weights, model.model.config, model.statistics, model.origin, dtype="float16")
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["rdvla_bench"])["dtype"] == "float16"
    spoilt = path.read_bytes().replace(b'\\"float16\\"', b'\\"float99\\"')
    path.write_bytes(spoilt)
    with pytest.raises(CheckpointError, match="dtype 'float99' in its header, expected float32, float16, bfloat16"):
        read_model(path)
    path.write_bytes(spoilt.replace(b'\\"float99\\"', b'\\"float32\\"'))
    with pytest.raises(CheckpointError, match=r"is torch.float16, expected the header's float32"):
        read_model(path)


def test_shipped_weights_are_listed_with_what_they_are_for(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_command(["weights"]) == 0
    said = capsys.readouterr().out
    assert f"{NAME}  what rdvla-* play libero with; tiny, 30 steps" in said
    assert manifest(package)["weights_sha256"][:12] in said
    assert list_command(["weights", "--suite", "libero_goal", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["weights"]
    assert (entry["name"], entry["default"]) == (NAME, True)
    assert "loss_curve" not in entry
    assert list_command(["weights", "--suite", "calvin_d"]) == 0
    assert capsys.readouterr().out == "weights\n  none\n"


def test_what_comes_with_the_package_is_whole_and_small() -> None:
    for name, weights in shipped_weights.installed().items():
        assert weights.path.stat().st_size <= shipped_weights.MAX_BYTES
        assert weights.manifest["name"] == name
        shipped_weights.require_intact(weights.path)
        loaded = read_model(weights.path)
        assert loaded.name == name
        assert loaded.model.config.benchmark == weights.benchmark
        assert digest(loaded.model) == weights.manifest["weights_sha256"]
