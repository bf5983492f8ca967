# SPDX-License-Identifier: Apache-2.0
"""What the gauges of policies say, with gauges that only remember."""

from __future__ import annotations

from typing import ClassVar

import ray.serve.metrics

from edgegen.serve.metrics import Meter
from edgegen.serve.telemetry.instruments import RayInstruments
from edgegen.serve.telemetry.measured import Measured


class Remembering:
    """A metric of any kind that keeps its latest values."""

    made: ClassVar[dict[str, Remembering]] = {}

    def __init__(self, name, **options):
        self.name, self.values = name, {}
        Remembering.made[name] = self

    def set(self, value, tags):
        self.values[tuple(tags.values())] = value


def test_policies_are_named_by_their_slots(monkeypatch):
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(ray.serve.metrics, kind, Remembering)
    meter = Measured(RayInstruments())
    shadow = {"name": "dark", "decisions": 4, "agreement": 0.25, "expected_gain": 0.1}
    canary = {"name": "new", "interval": [-0.1, 0.3]}
    meter.policies("old", {"shadow": shadow, "canary": canary})
    meter.policies("new", {"shadow": {**shadow, "decisions": 0}, "canary": None})
    values = {name: gauge.values for name, gauge in Remembering.made.items()}
    assert values["edgegen_policy"] == {
        ("charge", "old"): 0,
        ("canary", "new"): 0,
        ("charge", "new"): 1,
        ("shadow", "dark"): 1,
    }
    assert values["edgegen_shadow_agreement"] == {("dark",): 0.25}
    assert values["edgegen_shadow_expected_gain"] == {("dark",): 0.1}
    assert values["edgegen_canary_difference"] == {("new", "low"): -0.1, ("new", "high"): 0.3}
    Meter().policies("old", {})  # records nothing
