# SPDX-License-Identifier: Apache-2.0
"""Data of a study that nobody has run: methods and rules at known levels, with noise from a seed."""

from typing import Any

import numpy as np

from edgegen.platform.studies.data import FORMAT
from edgegen.platform.studies.spec import Experiment

EPISODES, JUDGED, SEEDS = 12, 6, (0, 1, 2, 3, 4)
ALL_FIGURES = ["curves", "efficiency", "final", "improvement", "profile"]


def made_up(
    figures=ALL_FIGURES, scenarios=("demo",), published=None, axis=None, shift=0.0, baseline=None
) -> dict[str, Any]:
    """An experiment in which `good` learns fast and beats the static rule, `slow` does neither, `like` is as `good`."""
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.3, JUDGED)
    falling = np.exp(-np.arange(EPISODES) / 3)
    levels = {"good": (0.8, 1.0), "slow": (1.5, 4.0), "like": (0.8, 1.0)}
    values = [None] if axis is None else list(axis["values"])
    cells = []
    for scenario in scenarios:
        for value in values:
            for label, (level, start) in levels.items():
                own = rng.normal(0, 0.02, (len(SEEDS), 1))
                final = level + shift + own + luck + rng.normal(0, 0.01, (len(SEEDS), JUDGED)) + 1
                curves = level + start * falling + own + rng.normal(0, 0.01, (len(SEEDS), EPISODES)) + 1
                cells.append(cell(scenario, value, label, SEEDS, curves, {"sampled": final, "greedy": final - 0.1}))
            for rule, level in {"capacity-weighted": 1.0, "least-delay": 0.9, "opt-ts": 0.6}.items():
                stream = level + 1 + np.zeros((len(SEEDS), EPISODES))
                cells.append(cell(scenario, value, rule, (), stream, {"rule": level + 1 + luck[None]}))
    experiment = {
        "name": "made",
        "title": "Made up",
        "methods": list(levels),
        "rules": ["capacity-weighted", "least-delay", "opt-ts"],
        "scenarios": list(scenarios),
        "figures": figures,
        "published": published,
        "axis": axis,
        "baseline": baseline,
    }
    return {
        "format": FORMAT,
        "study": "made",
        "size": "full",
        "experiment": Experiment.model_validate(experiment).model_dump(mode="json"),
        "methods": {name: {"title": name.capitalize(), "note": ""} for name in levels},
        "kind": "offloading",
        "reference": "capacity-weighted",
        "evaluation": {"episodes": JUDGED, "seed": 1000},
        "information": {**dict.fromkeys([*levels, "capacity-weighted", "least-delay"], "x"), "opt-ts": "everything"},
        "worlds": [{"scenario": scenario, "value": value, "world": {}} for scenario in scenarios for value in values],
        "cells": cells,
        "provenance": {
            "machine": {"cpus": 2, "processor": "P", "system": "S", "python": "3", "torch": "2", "ray": "2"},
            "units": {"abc": {"cpu_s": 3600.0, "wall_s": 1.0, "resumed_at": [], "mlflow_run": "run"}},
            "versions": ["1"],
            "code": ["c0de"],
            "mlflow_parent": "parent",
            "decision_us": dict.fromkeys([*levels, "capacity-weighted", "least-delay", "opt-ts"], 1.0),
        },
    }


def cell(scenario, value, label, seeds, curves, modes) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "value": value,
        "label": label,
        "learned": bool(seeds),
        "seeds": list(seeds),
        "episodes": EPISODES,
        "curves": curves.tolist(),
        "evaluation": {mode: {"mean_delay_s": values.tolist()} for mode, values in modes.items()},
    }


def with_tuned(level: float, raw: dict[str, Any] | None = None) -> dict[str, Any]:
    """The same with a rule beside it that was tuned for every seed, at a level of its own."""
    data, label, rng = raw or made_up(), "priced-greedy (tuned)", np.random.default_rng(1)
    luck = np.random.default_rng(0).normal(0, 0.3, JUDGED)
    for place in {(part["scenario"], part["value"]) for part in data["cells"]}:
        values = level + 1 + luck + rng.normal(0, 0.01, (len(SEEDS), JUDGED))
        found = cell(*place, label, SEEDS, level + 1 + np.zeros((len(SEEDS), EPISODES)), {"rule": values})
        tuning = [{"trials": 3, "episodes": 1, "played": 3 + 2 * (2 + n % 2), "requests": 100} for n in range(5)]
        data["cells"].append({**found, "learned": False, "tuning": tuning})
    data["information"][label] = "what it needs"
    data["provenance"]["decision_us"][label] = 1.0
    return data
