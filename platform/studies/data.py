# SPDX-License-Identifier: Apache-2.0
"""What an experiment found, as plain data: all that figures and report are made of, and nothing that is not in it."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.algorithms.methods.registry import headline_of
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Array, Kind, kind_named, kind_of
from edgegen.envs.core.threads import available_cpus
from edgegen.platform.engine.doing import read_done, read_json, unit_folder
from edgegen.platform.engine.tuning import Spent, Tuning
from edgegen.platform.engine.unit import RULE, SAMPLED
from edgegen.platform.files import write_text_if_changed
from edgegen.platform.studies.plan import Cell, ExperimentPlan, Plan, shown_value
from edgegen.platform.studies.spec import Experiment
from edgegen.platform.studies.units import TRAINING_FILE

FORMAT = "edgegen-experiment-1"
DATA_FOLDER = "data"
STEP_EPISODES = 10
"""Training episodes that are one step in the layout of marl-eval."""

Value = float | str | None
Place = tuple[str, Value]
"""A world of an experiment: the scenario and the value of the axis."""


def collect(plan: Plan, experiment: ExperimentPlan, runs: Path, mlflow: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what the units of an experiment found.

    Args:
        plan: The study.
        experiment: The experiment; all of its units are finished.
        runs: Folder of the study.
        mlflow: ``parent`` and, by unit, ``units``: ids of runs; empty without tracking.
    """
    world = next(iter(experiment.evaluations.values())).world
    headline, kind = headline_of(experiment.kind, world), kind_of(world)
    information: dict[str, str] = {}
    spent: dict[str, list[tuple[float, int]]] = {}
    cells = []
    for cell in experiment.cells:
        folders = [unit_folder(runs, identity) for identity in cell.units]
        file_name = experiment.evaluations[cell.scenario, cell.value].file_name
        results = [read_json(folder / file_name) for folder in folders]
        spent.setdefault(cell.label, []).extend((r["decision_wall_s"], r["decisions"]) for r in results)
        information[cell.label] = results[0]["information"]
        tunings = [unit for identity in cell.units if isinstance(unit := plan.units[identity], Tuning)]
        trained = folders if cell.seeds else [unit_folder(runs, identity) for identity in cell.streams]
        cells.append(
            {
                "scenario": cell.scenario,
                "value": cell.value,
                "label": cell.label,
                "learned": cell.learned,
                "seeds": cell.seeds,
                "episodes": cell.episodes,
                "curves": [read_json(folder / TRAINING_FILE)["episodes"][headline] for folder in trained],
                "evaluation": {
                    mode: {metric: [result["modes"][mode][metric] for result in results] for metric in kind.metrics}
                    for mode in results[0]["modes"]
                },
                "tuning": [vars(unit.spent(unit_folder(runs, unit.identity))) for unit in tunings],
            }
        )
    first = next(iter(experiment.evaluations.values()))
    decision_us = {
        label: round(1e6 * sum(wall_s for wall_s, _ in parts) / max(1, sum(count for _, count in parts)), 3)
        for label, parts in spent.items()
    }
    methods = {name: plan.spec.methods[name].model_dump(mode="json") for name in experiment.experiment.methods}
    return {
        "format": FORMAT,
        "study": plan.spec.name,
        "size": plan.size,
        "experiment": experiment.experiment.model_dump(mode="json"),
        "methods": methods,
        "kind": experiment.kind,
        "reference": experiment.reference,
        "evaluation": {"episodes": first.episodes, "seed": first.seed},
        "information": information,
        "worlds": [
            {"scenario": scenario, "value": value, "world": evaluation.world.model_dump(mode="json")}
            for (scenario, value), evaluation in experiment.evaluations.items()
        ],
        "cells": cells,
        "provenance": {**_provenance(experiment.cells, runs, mlflow), "decision_us": decision_us},
    }


def _provenance(cells: tuple[Cell, ...], runs: Path, mlflow: Mapping[str, Any]) -> dict[str, Any]:
    identities = dict.fromkeys(identity for cell in cells for identity in (*cell.units, *cell.streams))
    done = {identity: read_done(unit_folder(runs, identity)) or {} for identity in identities}
    return {
        "machine": machine(),
        "units": {
            identity: {
                "cpu_s": round(found.get("cpu_s", 0.0), 1),
                "wall_s": round(found.get("wall_s", 0.0), 1),
                "resumed_at": found.get("resumed_at", []),
                "mlflow_run": mlflow.get("units", {}).get(identity),
            }
            for identity, found in done.items()
        },
        "versions": sorted({found.get("version", "?") for found in done.values()}),
        "code": sorted({found.get("code", "?") for found in done.values()}),
        "mlflow_parent": mlflow.get("parent"),
    }


def machine() -> dict[str, Any]:
    """Describe the machine: what a time without it would mean nothing without."""
    import ray
    import torch

    return {
        "cpus": available_cpus(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": ray.__version__,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def save_data(data: Mapping[str, Any], folder: Path) -> Path:
    """Write an experiment's data, and the same in the layout of marl-eval, where either has changed."""
    name = data["experiment"]["name"]
    path = folder / f"{name}.json"
    for target, content in ((path, dict(data)), (folder / f"{name}.marl-eval.json", marl_eval(data))):
        write_if_changed(target, content)
    return path


def write_if_changed(path: Path, content: Any) -> bool:
    """Write JSON unless the file holds it already; returns whether it was written.

    In few characters, for there are many numbers; those that JSON does not have are written as null.
    """
    text = json.dumps(_finite(content), allow_nan=False, separators=(",", ":")) + "\n"
    return write_text_if_changed(path, text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_data(folder: Path, names: list[str], labels: Mapping[str, str] | None = None) -> list[ExperimentData]:
    """Read the saved experiments of a folder, in the order of the names; those that are not there are left out.

    Args:
        folder: Where they are.
        names: Their names.
        labels: What rules and scenarios are called, by name.

    Raises:
        InputError: If a file is damaged.
    """
    found = []
    for name in names:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        try:
            data = read_json(path)
            if data["format"] != FORMAT:
                raise KeyError("format")
            found.append(ExperimentData(data, labels))
        except InputError as error:
            raise InputError(f"The data in '{path}' can not be used: {error}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"The data in '{path}' can not be read ({error!r}); run the experiment again.") from None
    return found


def marl_eval(data: Mapping[str, Any]) -> dict[str, Any]:
    """Lay an experiment out as instadeepai/marl-eval has it: environment, task, algorithm, run, step, metric.

    A step is some training episodes with one entry each; the absolute metrics have one entry per evaluation episode.
    More is better of ``mean_reward`` only, the negative of the metric that decides.
    """
    metric = _kind(data).metric
    tasks: dict[str, Any] = {}
    for cell in data["cells"]:
        value = cell["value"]
        task = cell["scenario"] if value is None else f"{cell['scenario']}, {shown_value(value)}"
        runs = tasks.setdefault(task, {}).setdefault(cell["label"], {})
        metrics = cell["evaluation"][SAMPLED if cell["learned"] else RULE]
        for number in range(len(metrics[metric])):
            absolute = {name: values[number] for name, values in metrics.items()}
            absolute["mean_reward"] = [-value for value in absolute[metric]]
            curve = cell["curves"][number] if cell["seeds"] else []
            steps = {
                f"step_{first // STEP_EPISODES}": {
                    "step_count": min(first + STEP_EPISODES, len(curve)),
                    metric: curve[first : first + STEP_EPISODES],
                    "mean_reward": [-value for value in curve[first : first + STEP_EPISODES]],
                }
                for first in range(0, len(curve), STEP_EPISODES)
            }
            seed = cell["seeds"][number] if cell["seeds"] else data["evaluation"]["seed"]
            runs[f"seed_{seed}"] = {
                **(steps or {"step_0": {"step_count": 0, **absolute}}),
                "absolute_metrics": absolute,
            }
    return {data["kind"]: tasks}


@dataclass(frozen=True)
class Found:
    """A cell of an experiment as arrays.

    Attributes:
        label: Method or rule.
        learned: Whether it is a method that was trained.
        seeds: Training seeds, also of a rule that was tuned.
        episodes: Training episodes.
        curves: The metric that decides, in every training episode ``[R, E]``: of a rule, on the episodes of each
            training seed.
        evaluation: By mode and metric, values ``[R, K]``; R is 1 for a rule that was not tuned.
        tuning: What the tuning of each seed took; empty if nothing was tuned.
    """

    label: str
    learned: bool
    seeds: tuple[int, ...]
    episodes: int
    curves: Array
    evaluation: Mapping[str, Mapping[str, Array]]
    tuning: tuple[Spent, ...] = ()

    @property
    def seeded(self) -> bool:
        """Whether there is a run for each of several training seeds: trained, or tuned."""
        return bool(self.seeds)

    @property
    def metrics(self) -> list[str]:
        """What was measured; data of earlier versions may have less than the kind of world measures today."""
        return list(self.evaluation[SAMPLED if self.learned else RULE])

    def values(self, metric: str, mode: str = SAMPLED) -> Array:
        """Values of a metric ``[R, K]``."""
        return self.evaluation[mode if self.learned else RULE][metric]


class ExperimentData:
    """The data of an experiment, as figures and report ask for it.

    Args:
        data: What :func:`collect` returned.
        labels: What rules and scenarios are called in tables and figures, by name.

    Attributes:
        raw: The same.
        experiment: The experiment as it was run.
        kind: What its worlds judge policies by.
        reference: The rule that ratios refer to.
        places: Its worlds.
    """

    def __init__(self, data: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> None:
        self.raw = data
        self.kind: Kind = _kind(data)  # before all else: data of a kind that nobody knows are told by that
        self._titles = {name: str(method["title"]) for name, method in data["methods"].items()}
        self._titles = {**(labels or {}), **self._titles}
        self.experiment = Experiment.model_validate(data["experiment"])
        self.reference: str = data["reference"]
        self.places: list[Place] = [(world["scenario"], world["value"]) for world in data["worlds"]]
        self._cells: dict[tuple[Place, str], Found] = {}
        for cell in data["cells"]:
            self._cells[(cell["scenario"], cell["value"]), cell["label"]] = Found(
                cell["label"],
                cell["learned"],
                tuple(cell["seeds"]),
                cell["episodes"],
                np.array(cell["curves"], dtype=np.float64),
                {
                    mode: {metric: np.array(values, dtype=np.float64) for metric, values in metrics.items()}
                    for mode, metrics in cell["evaluation"].items()
                },
                tuple(Spent(**spent) for spent in cell.get("tuning", ())),  # data of earlier versions has none
            )

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.experiment.name

    @property
    def labels(self) -> list[str]:
        """Methods, then rules that were tuned, then others."""
        return list(dict.fromkeys(label for _, label in self._cells))

    @property
    def learned(self) -> list[str]:
        """Methods."""
        return [label for label in self.labels if self.found(self.places[0], label).learned]

    @property
    def tuned(self) -> list[str]:
        """Rules that were tuned."""
        return [label for label in self.labels if self.found(self.places[0], label).tuning]

    @property
    def rules(self) -> list[str]:
        """Rules and benchmarks as they are."""
        return [label for label in self.labels if label not in (*self.learned, *self.tuned)]

    def found(self, place: Place, label: str) -> Found:
        """Return what a method or rule achieved in a world."""
        return self._cells[place, label]

    def title(self, label: str) -> str:
        """What a method, a rule or a scenario is called."""
        return self._titles.get(label, label)

    def named(self, label: str) -> str:
        """What it is called on a page: names of the product are code."""
        return self._titles.get(label, f"`{label}`")

    def base(self, place: Place) -> Array:
        """The metric that decides, of the reference in a world, per evaluation episode ``[K]``."""
        base: Array = self.found(place, self.reference).values(self.kind.metric)[0]
        return base

    @property
    def baseline(self) -> str | None:
        """The method that all others are compared with, if it was run."""
        return self.experiment.baseline if self.experiment.baseline in self.labels else None

    def means(self, place: Place, label: str, metric: str | None = None, mode: str = SAMPLED) -> Array:
        """Mean over evaluation episodes of each run ``[R]``; episodes without the metric do not count."""
        means: Array = np.nanmean(self.found(place, label).values(metric or self.kind.metric, mode), axis=1)
        return means

    def ratios(self, place: Place, label: str) -> Array:
        """Mean of each run over that of the reference on the same episodes ``[R]``."""
        ratios: Array = self.means(place, label) / self.base(place).mean()
        return ratios


def _kind(data: Mapping[str, Any]) -> Kind:
    kind = kind_named(data["kind"], "The kind of a study's data")
    return kind.with_terms(data["worlds"][0]["world"].get("objective", ()) if data.get("worlds") else ())
