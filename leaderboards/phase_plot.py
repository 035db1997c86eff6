"""The plot of depth by phase: free motion before contact, contact, free motion after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rdvla_bench.leaderboards.phases import Phase, PhaseProfile
from rdvla_bench.leaderboards.plot_labels import Labels
from rdvla_bench.leaderboards.plot_style import Look, caption, looks, panels, style

_SPREAD = 0.5  # of the distance between two phases, over which the runs are laid side by side
_TICKS = [phase.value.replace(", ", ",\n") for phase in Phase]


def phase_plot(profiles: Sequence[PhaseProfile], source: str) -> Figure | None:
    """Draw each run's mean depth by phase, one panel a suite; None where no run has a phase to show.

    ``source`` names the protocol and what else a reader must not overlook.
    """
    found = [profile for profile in profiles if profile.depths]
    if not found:
        return None
    suites = list(dict.fromkeys(profile.suite for profile in found))
    seen = looks(list(dict.fromkeys(profile.run for profile in found)))
    with style():
        figure, axes = panels(len(suites))
        shown = [[profile for profile in found if profile.suite == suite] for suite in suites]
        for axis, suite, members in zip(axes, suites, shown, strict=True):
            for profile, shift in zip(members, _shifts(len(members)), strict=True):
                _draw(axis, profile, shift, seen[profile.run])
            axis.set_xticks(range(len(_TICKS)), _TICKS)
            axis.set_xlim(-0.5, len(_TICKS) - 0.5)
            axis.set_ylim(bottom=0)
            axis.margins(y=0.12)
            axis.grid(axis="x", visible=False)
            axis.set_xlabel("phase (by what the fingers touch)")
            axis.set_ylabel("mean depth (iterations a query)")
            if len(suites) > 1:
                axis.set_title(suite)
        caption(
            figure,
            "Contact: a finger touches something that can move; carrying is contact. Of a chain, phases are those of "
            f"each subtask. Bars: 95 % bootstrap over episodes. {source}",
        )
        figure.draw_without_rendering()  # the panels get their final places, which the names then fill
        for axis, members in zip(axes, shown, strict=True):
            _name(axis, members, seen)
    return figure


def _shifts(n: int) -> list[float]:
    """Return where ``n`` runs stand beside the middle of a phase."""
    return [_SPREAD * ((i + 0.5) / n - 0.5) for i in range(n)]


def _draw(axis: Axes, profile: PhaseProfile, shift: float, look: Look) -> None:
    x, y = [d.at + shift for d in profile.depths], [d.mean for d in profile.depths]
    below = [max(d.mean - d.low, 0.0) for d in profile.depths]
    above = [max(d.high - d.mean, 0.0) for d in profile.depths]
    axis.plot(x, y, color=look.colour, alpha=0.35, lw=1.0)
    axis.errorbar(x, y, yerr=[below, above], fmt=look.marker, color=look.colour, elinewidth=1.3)


def _name(axis: Axes, profiles: Sequence[PhaseProfile], seen: Mapping[str, Look]) -> None:
    """Name every run once, beside one of its points."""
    labels, shifts = Labels(axis), _shifts(len(profiles))
    for profile, shift in zip(profiles, shifts, strict=True):
        for d in profile.depths:
            labels.keep_clear(d.at + shift, d.low, d.mean, d.high)
        labels.keep_line_clear([d.at + shift for d in profile.depths], [d.mean for d in profile.depths])
    for profile, shift in zip(profiles, shifts, strict=True):
        places = [(d.at + shift, d.mean) for d in profile.depths]
        name = profile.label.replace("delta ", "δ ")
        labels.write(places, name, seen[profile.run].colour, size=8.5, weight="bold")
