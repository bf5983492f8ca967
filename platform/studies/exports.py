# SPDX-License-Identifier: Apache-2.0
"""A study as a paper needs it: a table of LaTeX, plain numbers, and a frame of every evaluation episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.envs.core.errors import InputError
from edgegen.platform.files import write_text_if_changed
from edgegen.platform.runs.comparison import decimals_for
from edgegen.platform.runs.statistics import crossed_difference
from edgegen.platform.sheet import Column, Sheet
from edgegen.platform.studies.data import DATA_FOLDER, ExperimentData, Place, read_data
from edgegen.platform.studies.figures import metric_label
from edgegen.platform.studies.levels import level_interval, place_ratio
from edgegen.platform.studies.plan import shown_value
from edgegen.platform.studies.tables import trained_on

if TYPE_CHECKING:
    from pandas import DataFrame


def write_exports(data: ExperimentData, folder: Path) -> None:
    """Write ``NAME.tex``, for the package ``booktabs``, and ``NAME.csv``, a row for each policy in each world.

    Raises:
        InputError: If a file can not be written.
    """
    write_text_if_changed(folder / f"{data.name}.tex", paper_sheet(data).to_latex(f"tab:{data.name}"))
    write_text_if_changed(folder / f"{data.name}.csv", levels_frame(data).to_csv(index=False, lineterminator="\n"))


def paper_sheet(data: ExperimentData) -> Sheet:
    """Return a table with a row for each policy, best first, and a column for each world.

    With one world alone, the difference to the reference and the ratio stand beside the level.
    """
    kind, single = data.kind, len(data.places) == 1
    quantity = metric_label(kind, kind.metric).capitalize()
    columns = [Column("Policy")]
    if single:
        reference = data.title(data.reference)
        columns += [Column(quantity, True), Column(f"Difference to {reference}", True), Column("Ratio", True)]
    else:
        columns += [Column(_place_title(data, place), True) for place in data.places]
    if data.learned or data.tuned:
        columns.append(Column("Training episodes", True))
    rows = []
    for label in _best_first(data):
        cells = [data.title(label)]
        for place in data.places:
            lowest = min(float(data.means(place, other).min()) for other in data.labels)
            decimals = decimals_for(lowest)
            cells.append(level_interval(data, place, label).text(decimals))
            if single:
                same = label == data.reference
                difference = _difference(data, place, label).text(decimals, sign=True)
                cells += ["reference", "1"] if same else [difference, place_ratio(data, place, label).text(3)]
        if data.learned or data.tuned:
            cells.append(trained_on(data.found(data.places[0], label)))
        rows.append(cells)
    evaluation = data.raw["evaluation"]
    caption = "" if single else f"{quantity}. "
    caption += (
        f"{evaluation['episodes']} evaluation episodes with identical {kind.paired_by}; 95 % intervals, over training "
        "seeds for what was trained or tuned, over episodes for all others."
    )
    return Sheet(data.experiment.title, caption, columns, rows)


def levels_frame(data: ExperimentData) -> DataFrame:
    """Return a row for each policy in each world: level, difference to the reference and ratio, with their ends.

    The mean of every other measure over episodes and runs is there as well.
    """
    import pandas as pd

    kind, rows = data.kind, []
    for place in data.places:
        for label in _best_first(data):
            found = data.found(place, label)
            row = _about(data, place, label) | {"trainings": len(found.seeds) or None}
            for name, interval in (
                (kind.metric, level_interval(data, place, label)),
                (f"difference{kind.suffix}", _difference(data, place, label)),
                ("ratio", place_ratio(data, place, label)),
            ):
                row |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
            for metric in found.metrics:
                if metric != kind.metric and np.isfinite(values := found.values(metric)).any():
                    row[metric] = float(np.nanmean(values))
            rows.append(row)
    return pd.DataFrame(rows)


def episodes_frame(data: ExperimentData) -> DataFrame:
    """Return a row for each evaluation episode of each policy, and of each of its trainings, in each world.

    Actions of learned policies are sampled as in training. Rows of one world and one ``episode`` met the same arrivals.
    """
    import pandas as pd

    parts = []
    for place in data.places:
        for label in data.labels:
            found = data.found(place, label)
            for number in range(len(found.values(data.kind.metric))):
                seed = found.seeds[number] if found.seeded else None
                columns = {metric: found.values(metric)[number] for metric in found.metrics}
                part = pd.DataFrame(_about(data, place, label) | {"training_seed": seed, **columns})
                part.insert(part.columns.get_loc("training_seed") + 1, "episode", range(len(part)))
                parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    frame["training_seed"] = frame["training_seed"].astype("Int64")
    return frame


def _about(data: ExperimentData, place: Place, label: str) -> dict[str, Any]:
    """The columns that every frame begins with."""
    found = data.found(place, label)
    how = "learned" if found.learned else "tuned" if found.tuning else "rule"
    return {
        "experiment": data.name,
        "scenario": place[0],
        **({} if data.experiment.axis is None else {"value": place[1]}),
        "policy": label,
        "title": data.title(label),
        "kind": how,
    }


def _best_first(data: ExperimentData) -> list[str]:
    return sorted(data.labels, key=lambda label: float(np.mean([data.ratios(place, label) for place in data.places])))


def _difference(data: ExperimentData, place: Place, label: str) -> Any:
    return crossed_difference(data.found(place, label).values(data.kind.metric), data.base(place))


def _place_title(data: ExperimentData, place: Place) -> str:
    axis, parts = data.experiment.axis, []
    if len(data.experiment.scenarios) > 1 or axis is None:
        parts.append(data.title(place[0]))
    if axis is not None:
        parts.append(f"{axis.label} {shown_value(place[1] or 0)}")
    return ", ".join(parts)


class Study:
    """A study that was run, as it was saved.

    Attributes:
        experiments: Its experiments by name, as plain data (``raw``) and arrays.
    """

    def __init__(self, experiments: Sequence[ExperimentData]) -> None:
        self.experiments = {data.name: data for data in experiments}

    def to_frame(self) -> DataFrame:
        """Return every evaluation episode of every policy, a row each; measures that an experiment lacks are empty."""
        import pandas as pd

        return pd.concat([episodes_frame(data) for data in self.experiments.values()], ignore_index=True)

    def levels(self) -> DataFrame:
        """Return level, difference and ratio of every policy in every world, a row each, with intervals."""
        import pandas as pd

        return pd.concat([levels_frame(data) for data in self.experiments.values()], ignore_index=True)


def load_study(report: str | Path) -> Study:
    """Read a study that ``edgegen reproduce`` has run.

    Args:
        report: The report, ``docs/results/reproduce-NAME.md``, or the folder beside it.

    Raises:
        InputError: If there is no data, or it is damaged.
    """
    folder = Path(report).expanduser()
    folder = folder.with_suffix("") if folder.suffix == ".md" else folder
    names = sorted(
        path.stem for path in (folder / DATA_FOLDER).glob("*.json") if not path.name.endswith(".marl-eval.json")
    )
    experiments = read_data(folder / DATA_FOLDER, names)
    if not experiments:
        raise InputError(
            f"'{report}' is no study that was run: there is no data in '{folder / DATA_FOLDER}'; give the report of "
            "edgegen reproduce, or the folder beside it."
        )
    return Study(experiments)
