"""Claims about the plots: every axis says its unit, every series its name, nothing leaves the page."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic_runs as synthetic

from rdvla_bench.commands.curves import load, main
from rdvla_bench.leaderboards.curves import make_curves

pytest.importorskip("matplotlib")
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from rdvla_bench.leaderboards.plot_labels import Labels
from rdvla_bench.leaderboards.plot_style import COLOURS, looks, style
from rdvla_bench.leaderboards.plots import BLUES, all_plots

NAMES = {
    "success-depth", "success-gflop", "success-ms", "matched", "depth-progress", "depth-query", "depth-task",
    "exit-traces", "latency",
}  # fmt: skip


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return synthetic.write_example(tmp_path_factory.mktemp("example"), n_tasks=3, n_episodes=40)


@pytest.fixture(scope="module")
def figures(example: tuple[Path, Path]) -> dict[str, Figure]:
    return all_plots(make_curves(load(example)))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_there_is_a_plot_for_everything_that_is_measured(figures: dict[str, Figure]) -> None:
    assert set(figures) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_axis_has_its_unit(figures: dict[str, Figure], name: str) -> None:
    for axis in figures[name].axes:
        label = axis.get_xlabel() or axis.get_ylabel()
        assert "(" in label or "iteration" in label, label


def test_the_series_are_named_on_the_plot_without_a_legend(figures: dict[str, Figure]) -> None:
    shown = texts(figures["success-depth"])
    assert {"rdvla-fixed", "rdvla-adaptive", "2", "4", "δ 0.001"} <= set(shown)
    assert all(axis.get_legend() is None for figure in figures.values() for axis in figure.axes)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_text_leaves_the_page(figures: dict[str, Figure], name: str) -> None:
    figure = figures[name]
    with style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    page = figure.bbox
    for axis in figure.axes:
        for text in (*axis.texts, axis.xaxis.label, axis.yaxis.label, axis.title):
            if text.get_text():
                box = text.get_window_extent()
                assert page.x0 - 1 <= box.x0, text
                assert box.x1 <= page.x1 + 1, text
                assert page.y0 - 1 <= box.y0, text
                assert box.y1 <= page.y1 + 1, text


def test_labels_of_points_do_not_cover_each_other(figures: dict[str, Figure]) -> None:
    for name in ("success-depth", "success-gflop", "success-ms"):
        figure = figures[name]
        with style():
            FigureCanvasAgg(figure).draw()
        boxes = [Text.get_window_extent(text) for axis in figure.axes for text in axis.texts]
        clashes = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.shrunk(0.9, 0.8).overlaps(b)]
        assert not clashes, name


def test_colours_differ_for_the_colour_blind_and_shapes_in_grey() -> None:
    """Machado et al. (2009): deuteranopia and protanopia at full severity, as matrices on linear RGB."""
    matrices = (
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    )
    linear = np.array(
        [[v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(c)] for c in COLOURS]
    )
    for matrix in matrices:
        seen = linear @ np.array(matrix).T
        gaps = [np.linalg.norm(seen[i] - seen[j]) for i in range(len(seen)) for j in range(i)]
        assert min(gaps) > 0.08
    assert len({look.marker for look in looks([str(i) for i in range(7)]).values()}) == 7
    brightness = [sum(to_rgb(BLUES(x))) for x in np.linspace(0, 1, 9)]
    assert brightness == sorted(brightness, reverse=True)


def test_a_label_takes_a_free_place() -> None:
    figure = Figure(figsize=(4, 3))
    axis = figure.subplots()
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    labels = Labels(axis)
    for _ in range(4):
        labels.write([(0.5, 0.5)], "a point", "black")
    for i, (left, bottom, right, top) in enumerate(labels.taken):
        for other in labels.taken[:i]:
            assert left >= other[2] or right <= other[0] or bottom >= other[3] or top <= other[1]


def test_runs_that_are_compared_with_nothing_are_hollow(tmp_path: Path) -> None:
    folders = [
        synthetic.write(tmp_path / "a", synthetic.fixed(2), n_tasks=1),
        synthetic.write(tmp_path / "b", synthetic.fixed(8), n_tasks=1, n_errors=1),
    ]
    figure = all_plots(make_curves(load(folders)))["success-depth"]
    markers = [line for line in figure.axes[0].lines if line.get_marker() == "o" and line.get_markersize() < 8]
    assert [line.get_markerfacecolor() == "white" for line in markers] == [False, True]


def test_one_episode_is_drawn_too(tmp_path: Path) -> None:
    folders = [
        synthetic.write(tmp_path / run.policy, run, n_tasks=1, n_episodes=1)
        for run in (synthetic.fixed(4), synthetic.adaptive(1e-3))
    ]
    assert {"success-depth", "success-gflop", "latency"} <= set(all_plots(make_curves(load(folders))))


def test_a_policy_without_recurrence_has_only_cost_curves(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "hold", synthetic.plain(), n_tasks=1)
    assert set(all_plots(make_curves(load([folder])))) == {"success-gflop", "success-ms", "latency"}


def test_plots_are_written_in_each_format_and_the_same_again(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "run", synthetic.fixed(4), n_tasks=1)
    heads = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    for name in ("a", "b"):
        assert main([str(folder), "--out", str(tmp_path / name), "--plots", *heads]) == 0
    for kind, head in heads.items():
        data = (tmp_path / "a" / f"success-depth.{kind}").read_bytes()
        assert data.startswith(head)
        assert data == (tmp_path / "b" / f"success-depth.{kind}").read_bytes()


def test_without_matplotlib_the_command_says_what_to_install(
    example: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "rdvla_bench.leaderboards.plot"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    importlib.invalidate_caches()
    assert main([str(example[1]), "--out", str(tmp_path), "--plots", "png"]) == 2
    said = capsys.readouterr().err
    assert 'pip install "rdvla-bench[report]"' in said
    assert "--plots none" in said
    assert (tmp_path / "curves.json").exists()
