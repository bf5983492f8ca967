# SPDX-License-Identifier: Apache-2.0
"""The registered model of a sweep, and the policies that may become its champion."""

from __future__ import annotations

from edgegen.platform.records.gate import Judge
from edgegen.platform.records.lineage import lineage
from edgegen.platform.records.model_registry import Candidate, Model
from edgegen.platform.sweeps.bar import TunedResult
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.report import FinalResult


def model_of(sweep: CheckedSweep) -> Model:
    """Return the registered model: its versions play validation episodes of the seed after the sweep's own."""
    validation = sweep.spec.validation
    judge = Judge(
        sweep.world,
        sweep.metric,
        (validation.seed + 1) % 2**32,
        sweep.spec.evaluation.episodes,
        validation.actions == "sampled",
    )
    return Model(sweep.model, f"{sweep.learner.name} on {sweep.world.name}, by edgegen sweep", judge)


def candidate_of(
    sweep: CheckedSweep, identity: str, result: FinalResult | TunedResult, run_id: str, what: str
) -> Candidate:
    """Describe a policy that may become champion.

    Args:
        sweep: The sweep.
        identity: What no other sweep is called.
        result: The policy, and what it reached.
        run_id: Its run in MLflow.
        what: What it is, for people.
    """
    return Candidate(
        title=result.label,
        policy=result.policy,
        run_id=run_id,
        tags={"edgegen.sweep": identity, "edgegen.settings_of": result.label, "edgegen.seed": str(result.seed)},
        lineage=lineage(sweep.world),
        description=f"{what}, sweep {sweep.spec.name}, training seed {result.seed}: {sweep.metric} "
        f"{result.objective:.4g} in validation.",
    )
