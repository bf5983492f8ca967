# SPDX-License-Identifier: Apache-2.0
"""A sequence as a service served it: an episode like a simulated one, with the same measures and the same picture."""

from __future__ import annotations

from collections.abc import Sequence as Listed
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.kinds import Values
from edgegen.envs.core.timeline import Columns, Record
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.curves import quality_of
from edgegen.envs.fleet.draws import ASKED
from edgegen.envs.fleet.meter import UtilityMeter
from edgegen.envs.fleet.timeline import RESULTS
from edgegen.envs.fleet.world import FleetWorld
from edgegen.serve.load.sending import Answered
from edgegen.serve.load.sequence import Sequence

ON_THE_WAY = physics.TRANSFER
"""What of the delay was neither waiting nor work counts as the way there."""


def results_of(sequence: Sequence, answers: Listed[Answered], cloud: str | None = None) -> NDArray[np.float64]:
    """Judge answers by the objective of the fleet; columns as in :mod:`edgegen.envs.fleet.physics` ``[N, 11]``.

    A request without a picture counts as refused where that has a price, and else as late and worth nothing.

    Args:
        sequence: What was sent.
        answers: What came back, in its order.
        cloud: The edge that is the cloud, if one is.
    """
    scenario, fixed = sequence.scenario, physics.fixed_of(sequence.scenario)
    results = np.zeros((len(answers), physics.RESULT))
    for k, (answer, row) in enumerate(zip(answers, results, strict=True)):
        asked, model = answer.asked, int(sequence.drawn.model[0, k])
        row[physics.DELAY], row[physics.LATE] = answer.delay_s, float(answer.is_late)
        if not answer.edge:
            refusable = scenario.refuse_price is not None
            row[physics.SITE] = scenario.sites + 1
            lost = scenario.refuse_price if refusable else scenario.late_penalty
            row[physics.LATE], row[physics.UTILITY] = float(not refusable), -(lost or 0.0) * asked.weight
            continue
        site = scenario.sites if answer.edge == cloud else sequence.edges.index(answer.edge)
        full = float(sequence.drawn.more[0, k, ASKED])
        least = min(float(fixed.least_steps[model]), full)
        quality = quality_of(fixed, model, float(answer.steps), least, full)
        worth = quality
        if answer.is_late:
            over = (answer.delay_s - asked.deadline_s) / asked.deadline_s
            decayed = 0.0 if scenario.late_decay is None else quality * np.exp(-scenario.late_decay * over)
            worth = decayed - scenario.late_penalty
        price = scenario.cloud.price if site == scenario.sites else scenario.hop_price * (answer.edge != asked.home)
        row[physics.SITE], row[physics.STEPS], row[physics.WAIT] = site, answer.steps, answer.queue_s
        row[physics.LOADED], row[physics.GENERATION] = answer.load_s, answer.generation_s
        row[ON_THE_WAY] = max(answer.delay_s - answer.queue_s - answer.load_s - answer.generation_s, 0.0)
        row[physics.QUALITY] = quality
        row[physics.UTILITY] = asked.weight * worth - scenario.delay_price * answer.delay_s - price
    return results


def values_of(sequence: Sequence, results: NDArray[np.float64]) -> Values:
    """Measure a served sequence as the simulator measures an episode; arrays of one value by name.

    Raises:
        InputError: If the sequence is empty.
    """
    world = FleetWorld(sequence.scenario, 1)
    world.reset(sequence.seed, sequence.episode)
    meter = UtilityMeter(world)
    loads = np.array([(results[:, physics.LOADED] > 0).sum()])
    meter.take(sequence.drawn, results[None], loads)
    return meter.values()


def record_of(sequence: Sequence, results: NDArray[np.float64]) -> Record:
    """Lay a served sequence out as an episode, for the same pictures as simulated ones.

    What edges loaded for themselves and what they kept is not known to who sends requests, and is left out.
    """
    scenario, drawn, count = sequence.scenario, sequence.drawn, len(results)
    served: dict[str, NDArray[Any]] = dict(zip(RESULTS, results.T, strict=True))
    served["site"], served["late"] = served["site"].astype(np.int64), served["late"] > 0
    names = ("arrival_s", "home", "model", "pictures", "deadline_s", "weight")
    arrivals = {name: getattr(drawn, name)[0, :count] for name in names}
    at_s = arrivals["arrival_s"]
    begun_s = at_s + served["wait_s"]
    here = np.flatnonzero(served["site"] < scenario.sites)
    loaded = here[served["load_s"][here] > 0]
    nothing: Columns = {name: np.zeros(0, dtype=np.int64) for name in ("site", "model")}
    done_s = (begun_s + served["load_s"] + served["generation_s"])[here]
    return Record(
        duration_s=scenario.duration_s,
        sites=sequence.edges,
        models=sequence.models,
        arrivals={**arrivals, "asked": drawn.more[0, :count, ASKED]},
        served=served,
        loads={
            "site": served["site"][loaded],
            "model": arrivals["model"][loaded],
            "request": loaded,
            "at_s": at_s[loaded],
            "begun_s": begun_s[loaded],
            "done_s": (begun_s + served["load_s"])[loaded],
        },
        queues={"site": served["site"][here], "at_s": at_s[here], "free_s": done_s},
        residents={**nothing, "from_s": np.zeros(0), "until_s": np.zeros(0)},
        names=sequence.edges,
        troubles={"site": np.zeros(0, dtype=np.int64), **{name: np.zeros(0) for name in ("from_s", "until_s", "pace")}},
    )
