# SPDX-License-Identifier: Apache-2.0
"""Published numbers beside ours, and what our data says of published statements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from edgegen.envs.core.kinds import Array
from edgegen.platform.runs.comparison import decimals_for
from edgegen.platform.runs.statistics import Interval, crossed_difference, iqm_interval, mean_interval, mean_ratio
from edgegen.platform.studies.data import ExperimentData, Place
from edgegen.platform.studies.levels import level_interval, place_ratio
from edgegen.platform.studies.spec import Claim

HOLDS, FAILS, OPEN, MISSING, FEW = "holds", "does not hold", "undecided", "not run", "too few seeds"
FEWEST_SEEDS = 5
"""With fewer training seeds nothing is concluded."""
_AROUND = 5
"""Episodes on either side of a published point that ours is averaged over."""


@dataclass(frozen=True)
class Verdict:
    """What the data says of a statement.

    Attributes:
        text: The statement.
        verdict: :data:`HOLDS`, :data:`FAILS`, :data:`OPEN`, :data:`MISSING` or :data:`FEW`.
        evidence: The numbers, as a sentence or two.
    """

    text: str
    verdict: str
    evidence: str

    def to_json(self) -> dict[str, str]:
        """Return plain values."""
        return vars(self)


def verdicts(data: ExperimentData) -> list[Verdict]:
    """Judge the published statements of an experiment; in its first world, where it has several."""
    published = data.experiment.published
    return [] if published is None else [_judge(data, data.places[0], claim) for claim in published.claims]


def _judge(data: ExperimentData, place: Place, claim: Claim) -> Verdict:
    named = [*claim.methods, *(name for name in (claim.method, claim.reference) if name is not None)]
    absent = [data.title(name) for name in named if name not in data.labels]
    if absent:
        return Verdict(claim.text, MISSING, f"{', '.join(absent)} was not trained in this run.")
    judged = _order(data, place, claim) if claim.kind == "order" else _level(data, place, claim)
    seeds = [len(data.found(place, name).seeds) for name in named if name in data.learned]
    if judged.verdict != MISSING and seeds and min(seeds) < FEWEST_SEEDS:
        return replace(judged, verdict=FEW)
    return judged


def _order(data: ExperimentData, place: Place, claim: Claim) -> Verdict:
    """Each neighbouring pair, seed by seed on the same training arrivals, over a block of episodes."""
    last = min(claim.last, *(data.found(place, name).curves.shape[1] for name in claim.methods))
    if last < claim.first:
        return Verdict(claim.text, MISSING, f"trainings end after {last} episodes.")
    outcomes, parts = [], []
    for better, worse in pairwise(claim.methods):
        interval = _paired(data, place, better, worse, claim.first, last)
        outcomes.append(HOLDS if interval.high < 0 else FAILS if interval.low > 0 else OPEN)
        parts.append(f"{data.title(better)} minus {data.title(worse)}: {interval.text(2, sign=True)}{_unit(data)}")
    verdict = FAILS if FAILS in outcomes else OPEN if OPEN in outcomes else HOLDS
    cut = "" if last == claim.last else f" (trainings end after {last} episodes)"
    return Verdict(claim.text, verdict, f"Episodes {claim.first} to {last}{cut}: " + "; ".join(parts) + ".")


def _paired(data: ExperimentData, place: Place, label: str, other: str, first: int, last: int) -> Interval:
    """Difference in a block of training episodes, over seeds; unpaired seeds do not count."""
    own, theirs = data.found(place, label), data.found(place, other)
    seeds = [seed for seed in own.seeds if seed in theirs.seeds]

    def block(curves: Array, order: tuple[int, ...]) -> Array:
        return np.array([curves[order.index(seed), first - 1 : last].mean() for seed in seeds])

    return mean_interval(block(own.curves, own.seeds) - block(theirs.curves, theirs.seeds))


def _level(data: ExperimentData, place: Place, claim: Claim) -> Verdict:
    """The final level of one over that of another, on the same evaluation episodes."""
    if claim.method is None or claim.reference is None:
        raise ValueError("checked when the study is read")
    ratio = ratio_between(data, place, claim.method, claim.reference)
    bound = claim.at_most if claim.kind == "ratio" and claim.at_most is not None else 1.0
    verdict = HOLDS if ratio.high <= bound else FAILS if ratio.low > bound else OPEN
    if not np.isfinite(ratio.low):
        verdict = OPEN
    published = f", published {bound:.3f}" if claim.kind == "ratio" else ""
    text = f"{data.title(claim.method)} over {data.title(claim.reference)}: {ratio.text(3)}{published}."
    return Verdict(claim.text, verdict, text)


def ratio_between(data: ExperimentData, place: Place, label: str, other: str) -> Interval:
    """Final level of one over that of another on the same evaluation episodes.

    The mean over seeds with a t interval, which does not promise too much with few of them; runs of two methods are
    taken seed by seed. Of two rules, paired over episodes.
    """
    metric = data.kind.metric
    own, theirs = data.found(place, label), data.found(place, other)
    if not own.seeded and not theirs.seeded:
        return mean_ratio(own.values(metric)[0], theirs.values(metric)[0])
    seeds = [seed for seed in own.seeds if not theirs.seeded or seed in theirs.seeds]
    upper = [data.means(place, label)[own.seeds.index(seed)] for seed in seeds]
    lower = [data.means(place, other)[theirs.seeds.index(seed) if theirs.seeded else 0] for seed in seeds]
    return mean_interval(np.array(upper) / np.array(lower))


def published_rows(data: ExperimentData) -> list[dict[str, Any]]:
    """Published final values beside ours: levels, and ratios to the best published one and to the static rule."""
    published = data.experiment.published
    if published is None or not published.final:
        return []
    place = data.places[0]
    best = min(published.final, key=lambda name: published.final[name])
    rows = []
    for name, value in sorted(published.final.items(), key=lambda item: item[1]):
        row: dict[str, Any] = {"label": data.title(name), "published": value, "best": data.title(best)}
        row["published_ratio"] = value / published.final[best]
        if name in data.labels:
            row["ours"] = level_interval(data, place, name)
            row["to_reference"] = place_ratio(data, place, name)
            if best in data.labels:
                row["to_best"] = ratio_between(data, place, name, best)
        rows.append(row)
    return rows


def published_points(data: ExperimentData) -> list[dict[str, Any]]:
    """Published points of learning curves beside our means over the episodes around them."""
    published = data.experiment.published
    if published is None:
        return []
    place, rows = data.places[0], []
    for name, points in published.curves.items():
        if name not in data.labels:
            continue
        curves = data.found(place, name).curves
        for episode, value in points.items():
            first, last = max(1, episode - _AROUND), episode + _AROUND - 1
            if episode <= curves.shape[1]:
                means = curves[:, first - 1 : last].mean(axis=1)
                ours = iqm_interval([means])
                rows.append({"label": data.title(name), "episode": episode, "published": value, "ours": ours})
    return rows


def worth_learning(data: ExperimentData, place: Place) -> dict[str, Any] | None:
    """Compare the best learned method in a world with the best rule, tuned or not, that knows what a scheduler can.

    Which are best is told by the same episodes as the difference, which flatters both a little.
    """
    rules = [rule for rule in (*data.tuned, *data.rules) if not _knows_all(data, rule)]
    if not rules or not data.learned:
        return None
    rule = min(rules, key=lambda label: float(np.mean(data.means(place, label))))
    method = min(data.learned, key=lambda label: float(np.mean(data.means(place, label))))
    metric = data.kind.metric
    values = data.found(place, rule).values(metric)
    base = values if data.found(place, method).seeds == data.found(place, rule).seeds else values.mean(axis=0)
    difference = crossed_difference(data.found(place, method).values(metric), base)
    won = HOLDS if difference.high < 0 else FAILS if difference.low > 0 else OPEN
    words = {HOLDS: "learning pays", FAILS: "the rule is better", OPEN: "undecided"}
    decimals = decimals_for(float(values.mean()))
    knowing = next((label for label in data.rules if _knows_all(data, label)), None)
    to_knowing = None if knowing is None else ratio_between(data, place, method, knowing)
    return {
        "knowing": knowing,
        "to_knowing": "" if to_knowing is None else to_knowing.text(3),
        "rule": data.title(rule),
        "method": data.title(method),
        "rule_level": level_interval(data, place, rule).text(decimals),
        "method_level": level_interval(data, place, method).text(decimals),
        "difference": difference.text(decimals, sign=True),
        "verdict": words[won],
    }


def _knows_all(data: ExperimentData, rule: str) -> bool:
    """Whether a rule uses what no scheduler can know."""
    information = str(data.raw["information"][rule])
    return any(word in information for word in ("everything", "every request", "true popularity"))


def _unit(data: ExperimentData) -> str:
    unit = data.kind.unit.strip(", ")
    return f" {unit}" if unit else ""
