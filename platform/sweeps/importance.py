# SPDX-License-Identifier: Apache-2.0
"""What mattered in a sweep: how much of the variance between trials each field of the space explains, and plots."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgegen.platform.canvas import drawing, save, use_no_window
from edgegen.platform.files import draw_or_tell
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.relay import TrialView

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_FEWEST = 6  # trials from which importances say anything


def optuna_study(sweep: CheckedSweep, trials: Sequence[TrialView]) -> tuple[optuna.Study, int]:
    """Return the trials as an Optuna study, all after the same amount of training, and how many episodes that is.

    Trials that were stopped early would look bad for having been stopped.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = [trial for trial in trials if trial.history]
    reports = min((len(trial.history) for trial in known), default=0)
    made = optuna.create_study(direction="minimize" if sweep.mode == "min" else "maximize")
    distributions = {name: domain.optuna() for name, domain in sweep.space.items()}
    for trial in known:
        settings = trial.schedule[0][1] if trial.schedule else trial.values
        made.add_trial(
            optuna.trial.create_trial(
                params=settings,
                distributions={name: distributions[name] for name in settings},
                value=trial.history[reports - 1]["objective"],
            )
        )
    return made, int(known[0].history[reports - 1]["episodes"]) if known else 0


def importances_of(sweep: CheckedSweep, trials: Sequence[TrialView], folder: Path) -> tuple[dict[str, float], int, str]:
    """Return importances by field, after how many episodes, and why there are none; draws both plots."""
    found, episodes = optuna_study(sweep, trials)
    values = [trial.value for trial in found.trials]
    if len(values) < _FEWEST or len(set(values)) < 2:
        return {}, episodes, f"{len(values)} trials are too few to tell importances; it takes {_FEWEST}."
    import optuna

    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(found, evaluator=evaluator)
    title = f"{sweep.spec.name}: {len(values)} trials after {episodes} episodes"
    draw_or_tell(lambda: _draw(found, evaluator, sweep.metric, title, folder), logger.warning)
    return {name: float(share) for name, share in shares.items()}, episodes, ""


@drawing
def _draw(found: optuna.Study, evaluator: Any, metric: str, title: str, folder: Path) -> list[Path]:
    """Draw what mattered; returns the files written."""
    use_no_window()
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as plots

    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plots are marked experimental
        drawn = {
            "importance": plots.plot_param_importances(found, evaluator=evaluator, target_name=metric),
            "parallel": plots.plot_parallel_coordinate(found, target_name=metric),
        }
        try:
            for name, axes in drawn.items():
                axes.set_title(title, fontsize=10)
                figure = cast("Figure", axes.get_figure(root=True))
                written += save(figure, folder / f"{name}.png", tight=True)
        finally:
            plt.close("all")
    return written
