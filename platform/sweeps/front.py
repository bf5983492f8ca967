# SPDX-License-Identifier: Apache-2.0
"""The Pareto front of a sweep with several objectives: what no trial beats in everything, as table and figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgegen.platform.canvas import drawing, new_figure, save
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.objectives import pareto_front
from edgegen.platform.sweeps.progress import ranking, short
from edgegen.platform.sweeps.relay import FAILED, TrialView

FIGURE = "front.png"


def values_of(sweep: CheckedSweep, trial: TrialView) -> tuple[float, ...]:
    """Return the last values of a trial, one for every objective."""
    return (trial.objective or 0.0, *(trial.also[each.metric] for each in sweep.also))


def comparable(sweep: CheckedSweep, trials: Sequence[TrialView]) -> list[TrialView]:
    """Return the trials that trained the longest, the best in the first objective first.

    Those that were stopped early look cheap for having been stopped.
    """
    ranked = ranking(sweep, [trial for trial in trials if trial.status != FAILED])
    longest = min(ranked[0].episodes, sweep.spec.budget.episodes) if ranked else 0
    return [trial for trial in ranked if trial.episodes >= longest]


def front_of(sweep: CheckedSweep, trials: Sequence[TrialView]) -> list[TrialView]:
    """Return the front among the trials that trained the longest, the best in the first objective first."""
    known = comparable(sweep, trials)
    return [known[n] for n in pareto_front(sweep.objectives, [values_of(sweep, trial) for trial in known])]


def front_lines(sweep: CheckedSweep, trials: Sequence[TrialView]) -> list[str]:
    """Return the front as a section of the report."""
    front, metrics = front_of(sweep, trials), [each.metric for each in sweep.objectives]
    goals = ", ".join(f"{'less' if each.mode == 'min' else 'more'} {each.metric}" for each in sweep.objectives)
    lines = [
        "## Pareto front",
        "",
        f"Wanted: {goals}. Of {len(comparable(sweep, trials))} trials that trained the longest, no other beats these "
        f"in one objective without being worse in another. {metrics[0]} decides what is trained again and registered.",
        "",
        f"| trial | {' | '.join((*metrics, *sweep.space))} |",
        "|---|" + "---|" * (len(metrics) + len(sweep.space)),
    ]
    for trial in front:
        cells = [f"{value:.4g}" for value in values_of(sweep, trial)]
        cells += [short(trial.values.get(name, "")) for name in sweep.space]
        lines.append(f"| {trial.number} | {' | '.join(cells)} |")
    return [*lines, "", f"![Pareto front]({FIGURE})", ""]


@drawing
def draw_front(sweep: CheckedSweep, trials: Sequence[TrialView], folder: Path) -> list[Path]:
    """Draw every further objective over the first, the front as filled dots with their numbers.

    Returns:
        The files written.
    """
    known, front = comparable(sweep, trials), {trial.number for trial in front_of(sweep, trials)}
    figure = new_figure(5 * len(sweep.also), 4)
    panels = figure.subplots(1, len(sweep.also), squeeze=False)[0]
    for number, (axes, objective) in enumerate(zip(panels, sweep.also, strict=True), start=1):
        for trial in known:
            values = values_of(sweep, trial)
            x, y = values[0], values[number]
            on_it = trial.number in front
            axes.plot([x], [y], "o", color="0.1" if on_it else "0.75", markersize=6 if on_it else 4)
            if on_it:
                axes.annotate(str(trial.number), (x, y), (4, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel(f"{sweep.metric} ({sweep.mode})")
        axes.set_ylabel(f"{objective.metric} ({objective.mode})")
    figure.suptitle(f"{sweep.spec.name}: no trial beats the dark ones in everything", fontsize=10)
    return save(figure, folder / FIGURE, tight=True)
