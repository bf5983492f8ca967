# SPDX-License-Identifier: Apache-2.0
"""The report of a sweep: what was tried, what mattered, what came of it, and which seeds stand behind every number."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgegen.platform.engine.tuning import Spent, budget_text
from edgegen.platform.figures.plots import plot_comparison
from edgegen.platform.files import draw_or_tell, write_json, write_text
from edgegen.platform.live_table import duration
from edgegen.platform.records.model_registry import Registration
from edgegen.platform.runs.comparison import Comparison, decimals_for
from edgegen.platform.runs.statistics import mean_interval
from edgegen.platform.sweeps.bar import TunedResult
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.front import draw_front, front_lines, front_of
from edgegen.platform.sweeps.importance import importances_of
from edgegen.platform.sweeps.progress import ranking, short
from edgegen.platform.sweeps.relay import FAILED, TrialView

logger = logging.getLogger(__name__)

CONTROL = "preset"
"""Label of the preset in the final training."""
_SHOWN = 20


@dataclass(frozen=True)
class FinalResult:
    """What one seed of the final training achieved.

    Attributes:
        label: Whose settings: ``trial N`` or :data:`CONTROL`.
        seed: Training seed.
        objective: The metric on the validation episodes.
        policy: Folder of the policy.
        identity: Tune's name of the training.
    """

    label: str
    seed: int
    objective: float
    policy: Path
    identity: str


@dataclass(frozen=True)
class SweepOutcome:
    """Everything a sweep found.

    Attributes:
        sweep: The sweep.
        trials: Trials of the search.
        finals: Results of the final training.
        tuned: Results of rules that were tuned with the budget of a final training.
        chosen: The one whose policy was taken: of the best settings, the seed in the middle.
        comparison: The policies of the final training and rules on evaluation episodes.
        registration: What became of the policy in the registry, if there is one.
        seconds: Wall-clock time of the last call, s.
    """

    sweep: CheckedSweep
    trials: tuple[TrialView, ...]
    finals: tuple[FinalResult, ...]
    chosen: FinalResult
    comparison: Comparison
    registration: Registration | None
    seconds: float
    tuned: tuple[TunedResult, ...] = ()

    def of(self, label: str) -> list[float]:
        """Final results of some settings or of a tuned rule, one per seed."""
        return list(self.by_seed(label).values())

    def by_seed(self, label: str) -> dict[int, float]:
        """The same by training seed."""
        return {result.seed: result.objective for result in self.results if result.label == label}

    @property
    def results(self) -> list[FinalResult | TunedResult]:
        """Results of the final training, then of tuned rules."""
        return [*self.finals, *self.tuned]

    @property
    def labels(self) -> list[str]:
        """Settings of the final training, in their order, then tuned rules."""
        return list(dict.fromkeys(result.label for result in self.results))

    @property
    def bar(self) -> TunedResult | None:
        """Of the best tuned rule the seed in the middle."""
        return choose(self.sweep, self.tuned) if self.tuned else None

    @property
    def budgets(self) -> dict[str, str]:
        """What each tuned rule's tunings took, in words."""
        spent: dict[str, list[Spent]] = {}
        for result in self.tuned:
            spent.setdefault(result.label, []).append(result.spent)
        return {label: budget_text(parts, self.sweep.spec.budget.episodes) for label, parts in spent.items()}


Result = TypeVar("Result", FinalResult, TunedResult)


def choose(sweep: CheckedSweep, finals: Sequence[Result]) -> Result:
    """Choose what to register: the settings with the best mean over their seeds, and of these the seed in the middle.

    The best seed would promise more than the settings hold. The preset itself only serves as control.
    """
    labels = dict.fromkeys(final.label for final in finals if final.label != CONTROL)
    sign = 1 if sweep.mode == "min" else -1
    best = min(labels, key=lambda label: sign * float(np.mean([f.objective for f in finals if f.label == label])))
    own = sorted((final for final in finals if final.label == best), key=lambda final: sign * final.objective)
    return own[len(own) // 2]


def write_report(outcome: SweepOutcome, folder: Path) -> None:
    """Write ``report.md`` and ``report.json`` with their plots.

    Raises:
        InputError: If a file can not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", outcome.comparison.to_json())
    draw_or_tell(lambda: plot_comparison(outcome.comparison, folder / "comparison.png"), logger.warning)
    if outcome.sweep.also:
        draw_or_tell(lambda: draw_front(outcome.sweep, outcome.trials, folder), logger.warning)
    importances, episodes, reason = importances_of(outcome.sweep, outcome.trials, folder)
    write_json(folder / "report.json", report_json(outcome, importances, episodes))
    write_text(folder / "report.md", _markdown(outcome, importances, episodes, reason))


def report_json(outcome: SweepOutcome, importances: dict[str, float], episodes: int) -> dict[str, Any]:
    """Return what a sweep found as plain values."""
    sweep = outcome.sweep
    return {
        "format": "edgegen-sweep-1",
        "sweep": sweep.spec.model_dump(mode="json"),
        "scenario": sweep.world.model_dump(mode="json"),
        "metric": sweep.metric,
        "mode": sweep.mode,
        "trials": [
            {
                "trial": trial.number,
                "status": trial.status,
                "episodes": trial.episodes,
                "objective": trial.objective,
                "settings": trial.values,
                "schedule": trial.schedule,
                "history": trial.history,
                "restarts": trial.restarts,
            }
            for trial in outcome.trials
        ],
        **_front_json(outcome),
        "importances": {"after_episodes": episodes, "shares": importances},
        "final": {
            label: {
                "seeds": {str(seed): value for seed, value in outcome.by_seed(label).items()},
                "mean": mean_interval(outcome.of(label)).to_json(),
            }
            for label in outcome.labels
        },
        "tuned": {
            label: {str(result.seed): vars(result.spent) for result in outcome.tuned if result.label == label}
            for label in outcome.budgets
        },
        "chosen": {"settings_of": outcome.chosen.label, "seed": outcome.chosen.seed, "policy": outcome.chosen.policy},
        "model": None
        if (registered := outcome.registration) is None
        else {"uri": registered.uri, "version": registered.version, "reason": registered.reason},
        "seconds": outcome.seconds,
    }


def _front_json(outcome: SweepOutcome) -> dict[str, Any]:
    """The front by numbers of trials, with all objectives; nothing where there is only one."""
    sweep = outcome.sweep
    if not sweep.also:
        return {}
    front = front_of(sweep, outcome.trials)
    return {
        "objectives": [{"metric": each.metric, "mode": each.mode} for each in sweep.objectives],
        "front": [{"trial": trial.number, sweep.metric: trial.objective, **trial.also} for trial in front],
    }


def _markdown(outcome: SweepOutcome, importances: dict[str, float], episodes: int, reason: str) -> str:
    sweep, spec = outcome.sweep, outcome.sweep.spec
    decimals = decimals_for(min(abs(final.objective) for final in outcome.finals))
    lines = [f"# Sweep {spec.name}", ""]
    if spec.description:
        lines += [spec.description, ""]
    lines += [
        f"{spec.algorithm}, preset {spec.preset}, on {sweep.world.name}. {_searched(outcome)}",
        "",
        "## Seeds",
        "",
        "| what | training seeds | arrivals |",
        "|---|---|---|",
        f"| search | {_listed(spec.seeds)} | validation, seed {spec.validation.seed}, "
        f"{spec.validation.episodes} episodes |",
        f"| final training | {_listed(spec.retrain.seeds)} | the same |",
        f"| comparison below | as above | evaluation, seed {outcome.comparison.seed}, "
        f"{outcome.comparison.episodes} episodes |",
        "",
        "Validation arrivals are never those of training, nor those that `edgegen compare` or `evaluate` can draw with "
        "any seed: nothing below was chosen by what the comparison shows.",
        "",
        "## Best trials",
        "",
        f"| trial | episodes | {' | '.join((*(each.metric for each in sweep.objectives), *sweep.space))} |",
        "|---|" + "---|" * (1 + len(sweep.objectives) + len(sweep.space)),
    ]
    ranked = ranking(sweep, [trial for trial in outcome.trials if trial.status != FAILED])
    for trial in ranked[:_SHOWN]:
        also = [f"{trial.also[each.metric]:.4g}" for each in sweep.also]
        cells = " | ".join((*also, *(short(trial.values.get(name, "")) for name in sweep.space)))
        lines.append(f"| {trial.number} | {trial.episodes} | {trial.objective:.{decimals}f} | {cells} |")
    lines += ["", "Longest trained first. These are results of the search's own seeds, so the best are also lucky.", ""]
    if sweep.also:
        lines += front_lines(sweep, outcome.trials)
    lines += ["## What mattered", ""]
    if importances:
        lines += [
            f"Share of the variance of {sweep.metric} between trials after {episodes} episodes, which all of them "
            "reached (fANOVA):",
            "",
            *(f"- {name}: {share:.2f}" for name, share in importances.items()),
            "",
            "![Importances](importance.png)",
            "",
            "![Parallel coordinates](parallel.png)",
        ]
    else:
        lines.append(reason)
    lines += ["", "## Final training", "", *_final_table(outcome, decimals), "", _verdict(outcome, decimals), ""]
    lines += ["## Comparison", "", *_comparison_table(outcome.comparison), "", "![Comparison](comparison.png)", ""]
    if outcome.registration is not None:
        registered = outcome.registration
        lines += [
            "## Model",
            "",
            f"`models:/{registered.name}/{registered.version}`, alias `{registered.alias}`. {registered.reason}",
            "",
        ]
    return "\n".join(lines)


def _searched(outcome: SweepOutcome) -> str:
    spec, trials = outcome.sweep.spec, outcome.trials
    failed = sum(trial.status == FAILED for trial in trials)
    full = sum(trial.episodes >= spec.budget.episodes for trial in trials)
    text = (
        f"{len(trials)} trials by {spec.searcher.kind} search with scheduler {spec.scheduler.kind}, "
        f"{full} of them over all {spec.budget.episodes} episodes"
    )
    return f"{text}, {failed} failed." if failed else f"{text}."


def _final_table(outcome: SweepOutcome, decimals: int) -> list[str]:
    seeds = outcome.sweep.spec.retrain.seeds
    lines = [
        f"| settings of | mean {outcome.sweep.metric} | {' | '.join(f'seed {seed}' for seed in seeds)} |",
        "|---|---|" + "---|" * len(seeds),
    ]
    for label in outcome.labels:
        by_seed = outcome.by_seed(label)
        cells = " | ".join(f"{by_seed[seed]:.{decimals}f}" if seed in by_seed else "failed" for seed in seeds)
        lines.append(f"| {label} | {mean_interval(outcome.of(label)).text(decimals)} | {cells} |")
    lines += ["", "± is a 95 % interval over training seeds (Student t), all judged on the same arrivals."]
    for label, budget in outcome.budgets.items():
        lines += ["", f"{label}, on the training episodes of each seed: {budget}."]
    return lines


def _verdict(outcome: SweepOutcome, decimals: int) -> str:
    chosen, sweep = outcome.chosen, outcome.sweep
    text = (
        f"Taken: the settings of {chosen.label}, with seed {chosen.seed}, the one in the middle "
        f"({chosen.objective:.{decimals}f})."
    )
    ours = float(np.mean(outcome.of(chosen.label)))
    if control := outcome.of(CONTROL):
        theirs = float(np.mean(control))
        text += (
            f" The preset without any change has {theirs:.{decimals}f} on average."
            if sweep.better(ours, theirs)
            else f" The preset without any change is no worse ({theirs:.{decimals}f}): the search did not pay."
        )
    if outcome.bar is not None:
        level = float(np.mean(outcome.of(outcome.bar.label)))
        text += (
            f" The bar, {outcome.bar.label}, has {level:.{decimals}f} on average."
            if sweep.better(ours, level)
            else f" The bar, {outcome.bar.label}, is no worse ({level:.{decimals}f}): learning did not pay."
        )
    return text


def _comparison_table(comparison: Comparison) -> list[str]:
    kind = comparison.kind
    decimals = decimals_for(min(row.mean.estimate for row in comparison.rows))
    lines = [f"| policy | {kind.quantity}{kind.unit} | relative to {comparison.reference} |", "|---|---|---|"]
    return [
        *lines,
        *(f"| {row.label} | {row.mean.text(decimals)} | {row.ratio.text(3)} |" for row in comparison.rows),
    ]


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def summary(outcome: SweepOutcome) -> list[str]:
    """Return what to say at the end, a sentence a line."""
    spec, decimals = outcome.sweep.spec, decimals_for(min(abs(final.objective) for final in outcome.finals))
    lines = [f"Done in {duration(outcome.seconds)}: {_searched(outcome)}"]
    for label in outcome.labels:
        mean, done = (
            mean_interval(outcome.of(label)).text(decimals),
            "" if label in outcome.budgets else "trained again ",
        )
        lines.append(f"{label}, {done}with seeds {_listed(spec.retrain.seeds)}: {outcome.sweep.metric} {mean}")
    lines.append(_verdict(outcome, decimals))
    return lines
