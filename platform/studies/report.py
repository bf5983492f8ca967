# SPDX-License-Identifier: Apache-2.0
"""The report of a study: tables, figures and verdicts, made of saved data and of nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgegen.platform.files import write_text_if_changed
from edgegen.platform.live_table import duration
from edgegen.platform.studies.data import DATA_FOLDER, ExperimentData, write_if_changed
from edgegen.platform.studies.exports import write_exports
from edgegen.platform.studies.figures import (
    FIGURE_FOLDER,
    FigureTarget,
    draw_missing,
    targets_of,
)
from edgegen.platform.studies.spec import QUICK
from edgegen.platform.studies.tables import (
    axis_tables,
    baseline_tables,
    budgets,
    many_worlds,
    one_world,
    published_tables,
    tables_json,
    training_tables,
)

TABLE_FOLDER = "tables"


def report_paths(out: Path, study: str, size: str) -> tuple[Path, Path]:
    """Return the report's file, and the folder of its data and figures."""
    name = f"reproduce-{study}" + ("-quick" if size == QUICK else "")
    return out / f"{name}.md", out / name


def write_report(
    title: str,
    description: str,
    experiments: Sequence[ExperimentData],
    missing: Sequence[str],
    file: Path,
    folder: Path,
    pdf: bool = False,
    command: str = "",
) -> list[str]:
    """Draw the figures that are not there, and write tables and report if they have changed.

    Args:
        title: Heading.
        description: Below it.
        experiments: What was found.
        missing: Experiments of the study that were not run.
        file: The report.
        folder: Where ``data`` is, and ``figures`` and ``tables`` go.
        pdf: Whether to write figures as PDF, too.
        command: What does all of it; that of a shipped study if not given.

    Returns:
        Names of the figures that were drawn.

    Raises:
        InputError: If a file can not be written.
    """
    targets = {data.name: targets_of(data) for data in experiments}
    drawn = draw_missing([target for own in targets.values() for target in own], folder / FIGURE_FOLDER, pdf)
    for data in experiments:
        write_if_changed(folder / TABLE_FOLDER / f"{data.name}.json", tables_json(data))
        write_exports(data, folder / TABLE_FOLDER)
    quick = experiments[0].raw["size"] == QUICK
    lines = [f"# {title}{' (quick)' if quick else ''}", ""]
    if description:
        lines += [description.strip(), ""]
    lines += _head(experiments, missing, quick, command)
    for data in experiments:
        lines += _section(data, targets[data.name], Path(os.path.relpath(folder, file.parent)))
    text = "\n".join(lines).rstrip() + "\n"
    write_text_if_changed(file, text)
    return drawn


def _head(experiments: Sequence[ExperimentData], missing: Sequence[str], quick: bool, command: str) -> list[str]:
    first = experiments[0].raw
    command = command or f"edgegen reproduce {first['study']}" + (" --quick" if quick else "")
    units = {name: unit for data in experiments for name, unit in data.raw["provenance"]["units"].items()}
    cpu_s = sum(unit["cpu_s"] for unit in units.values())
    lines = [
        "```bash",
        command,
        f"{command} --report-only    # this page and its figures, from the saved data",
        "```",
        "",
    ]
    if quick:
        lines += [
            "**This is the quick run.** It has fewer seeds, episodes, methods and values than the full one: enough to "
            "see that everything works, not to conclude from.",
            "",
        ]
    codes = sorted({code for data in experiments for code in data.raw["provenance"]["code"]})
    versions = sorted({version for data in experiments for version in data.raw["provenance"]["versions"]})
    lines += [
        f"{len(units)} units of work, {cpu_s / 3600:.1f} processor hours, on {_machines(experiments)}; "
        f"edgegen {', '.join(versions)}, sources {', '.join(codes)}.",
    ]
    if len(codes) > 1:
        lines[-1] += " The sources of worlds and learners changed while the units were made."
    parents = dict.fromkeys(data.raw["provenance"]["mlflow_parent"] for data in experiments)
    if runs := [run for run in parents if run]:
        listed = ", ".join(f"`{run}`" for run in runs)
        lines[-1] += f" MLflow: parent run {listed}, a child for every unit; their ids are in the data files."
    lines += [
        "",
        "Evaluation episodes are never training episodes, and every policy meets the same ones. Intervals are 95 %. "
        "Levels of learned methods and of tuned rules are interquartile means (IQM) over training seeds with t "
        "intervals of trimmed means: they say what other seeds would give; every seed is in the data. *Difference* is "
        "the mean over all seeds and episodes with a t interval that covers both.",
        "",
    ]
    if untuned := [data.name for data in experiments if data.learned and not data.tuned]:
        lines += [
            "**No tuned rule stands beside the learned policies** of "
            f"{', '.join(untuned)}: their data is older than the tuning of rules in studies, or tunes none. A rule "
            "whose constants were searched with the budget of a training is the bar that learning has to pass; where "
            "it is missing, a learned policy that is ahead of all rules here has not yet passed it.",
            "",
        ]
    if missing:
        lines += [f"Not in this report, because not run: {', '.join(missing)}.", ""]
    return lines


def _machines(experiments: Sequence[ExperimentData]) -> str:
    """Describe the machines, and with several what was run on which."""
    used: dict[str, list[str]] = {}
    for data in experiments:
        machine = data.raw["provenance"]["machine"]
        text = (
            f"{machine['processor']}, {machine['cpus']} cores, {machine['system']}, Python {machine['python']}, "
            f"torch {machine['torch']}, Ray {machine['ray']}"
        )
        used.setdefault(text, []).append(data.name)
    if len(used) == 1:
        return next(iter(used))
    return "; on ".join(f"{text} ({', '.join(names)})" for text, names in used.items())


def _section(data: ExperimentData, targets: Sequence[FigureTarget], folder: Path) -> list[str]:
    experiment = data.experiment
    lines = [f"## {experiment.title}", ""]
    if experiment.question:
        lines += [experiment.question.strip(), ""]
    lines += [_protocol(data), ""]
    if experiment.axis is not None:
        lines += axis_tables(data)
    elif len(data.places) > 1:
        lines += many_worlds(data)
    else:
        lines += one_world(data, data.places[0])
    lines += baseline_tables(data)
    if data.learned and {"curves", "efficiency"} & set(experiment.figures):
        lines += training_tables(data)
    lines += published_tables(data)
    for target in targets:
        path = (folder / FIGURE_FOLDER / f"{target.name}.png").as_posix()
        lines += [f"![{target.caption}]({path})", "", f"*{target.caption}*", ""]
    source = (folder / DATA_FOLDER / f"{data.name}.json").as_posix()
    layout = source.removesuffix(".json") + ".marl-eval.json"
    table = (folder / TABLE_FOLDER / data.name).as_posix()
    lines += [
        f"Data: [{data.name}.json]({source}), in the layout of marl-eval: [{data.name}.marl-eval.json]({layout}). "
        f"Table: [{data.name}.tex]({table}.tex), [{data.name}.csv]({table}.csv).",
        "",
    ]
    return lines


def _protocol(data: ExperimentData) -> str:
    """Seeds, episodes and hours of an experiment."""
    evaluation, experiment = data.raw["evaluation"], data.experiment
    parts = []
    place = data.places[0]
    by_extent: dict[tuple[Any, ...], list[str]] = {}
    for label in data.learned:
        found = data.found(place, label)
        by_extent.setdefault((found.seeds, found.episodes), []).append(data.title(label))
    for (seeds, episodes), titles in by_extent.items():
        listed = ", ".join(map(str, seeds))
        parts.append(f"{', '.join(titles)}: training seed{'s' * (len(seeds) > 1)} {listed}, {episodes} episodes")
    parts.append(f"{evaluation['episodes']} evaluation episodes with seed {evaluation['seed']}")
    units = data.raw["provenance"]["units"].values()
    cpu_s = sum(unit["cpu_s"] for unit in units)
    parts.append(f"{duration(cpu_s)} of processor time")
    parts += budgets(data)
    if experiment.train_on is not None:
        parts.append(f"methods are trained on `{experiment.train_on}` only")
    notes = [f"{data.title(label)}: {note}" for label in data.learned if (note := data.raw["methods"][label]["note"])]
    worlds = f"Scenario{'s' * (len(data.experiment.scenarios) > 1)} {_ticked(data.experiment.scenarios)}"
    if data.experiment.overrides:
        worlds += f" with {_ticked(f'{name}={value}' for name, value in data.experiment.overrides.items())}"
    return f"{worlds}. {'; '.join(parts)}." + "".join(f" {note}" for note in notes)


def _ticked(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)
