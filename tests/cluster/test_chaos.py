# SPDX-License-Identifier: Apache-2.0
"""What the chaos command concludes, and what it refuses; the faults themselves are those of test_nodes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgegen.platform.cli import app
from edgegen.platform.cluster.chaos import ChaosPlan, Outcome, verdict
from edgegen.platform.runs.statistics import mean_interval

PLAN = ChaosPlan(Path("unused"), episodes=8)


def outcome(fault="", weights="a", delay=0.5, **changes):
    fields = {"fault": fault, "seed": 0, "done": "killed" if fault else "", "notices": (), "episodes": 8}
    fields |= {"delay_s": mean_interval([delay, delay + 0.02]), "weights": weights, "seconds": 1.0, **changes}
    return Outcome(**fields)


UNDISTURBED = [outcome(), outcome(weights="b", delay=0.56)]  # means 0.51 and 0.57: up to 0.63 is their spread again


@pytest.mark.parametrize(
    ("struck", "came_through", "why"),
    [
        (outcome("learner"), True, "the very weights"),
        (outcome("learner", weights="c"), False, "other weights"),  # a restart that is not exact is a fault
        (outcome("runner", weights="c", delay=0.6), True, "0.510 to 0.570"),
        (outcome("runner", weights="c", delay=0.7), False, "0.510 to 0.570"),
        (outcome("node", episodes=6), False, "only 6 of 8"),
        (outcome("node", done=""), False, "before anything broke"),
        (outcome("disk", delay_s=None, error="it is gone"), False, "it is gone"),
    ],
)
def test_verdicts(struck, came_through, why):
    result, reason = verdict(PLAN, struck, UNDISTURBED)
    assert result is came_through
    assert why in reason


def test_unknown_faults_are_refused():
    result = CliRunner().invoke(app, ["chaos", "lerner"])
    assert result.exit_code == 2
    assert result.stderr == (
        "Unknown fault 'lerner'; faults are runner, learner, node, driver, disk, head. Did you mean 'learner'?\n"
    )
