# SPDX-License-Identifier: Apache-2.0
"""What is known of models, by hand and from profiles, and the books that a service opens with."""

from __future__ import annotations

import math

import pytest

from edgegen.envs.fleet.models import MOST_POINTS, Points
from edgegen.serve.config import build_config
from edgegen.serve.kinds.facts import USUAL_CURVE, USUAL_LOAD_S, USUAL_SIZE_GB, facts_of, open_books
from edgegen.serve.kinds.registry import training_scenario
from edgegen.serve.profile.model_profile import PROFILE_FILE, ModelProfile, write_profile

MEASURED = {
    "model": "m",
    "device": "cpu",
    "machine": "none",
    "size_gb": 2.5,
    "load_s": 4.0,
    "load_from_host_s": 1.0,
    "step_s": 0.2,
    "fixed_s": 0.1,
    "further_picture": 0.5,
    "least_steps": 4,
    "full_steps": 20,
}


def config(folder, points, **model):
    quality = [{"steps": steps, "quality": value} for steps, value in points]
    write_profile(ModelProfile.model_validate({**MEASURED, "quality": quality}), folder / PROFILE_FILE)
    name = str(folder)
    own = {"cycles_per_step_gcycles": 0.4, "sizes": ["16x16"], "default_steps": 10, **model}
    return build_config(
        {"kind": "fleet", "policy": "earliest", "models": {name: own}, "edges": [{"name": "a", "model": name}]}
    )


def test_a_profile_says_what_the_config_does_not(tmp_path):
    service = config(tmp_path, [(2, 0.2), (5, 0.6), (10, 0.8), (20, 0.9)])
    (facts,) = facts_of(service).values()
    assert (facts.size_gb, facts.load_s, facts.least_steps) == (2.5, 4.0, 4)
    assert facts.full_quality == 0.8
    assert isinstance(facts.curve, Points)
    assert list(facts.curve.steps) == [0.2, 0.5, 1]
    assert list(facts.curve.quality) == pytest.approx([0.25, 0.75, 1])
    assert [facts.quality(steps / 10) for steps in (1, 2, 5, 7.5, 10)] == pytest.approx([0.1, 0.2, 0.6, 0.7, 0.8])
    world = training_scenario(service)
    assert world.models[0].fixed_s == pytest.approx(0.2)  # half a step
    assert world.models[0].curve == facts.curve


def test_more_steps_are_never_worse(tmp_path):
    (facts,) = facts_of(config(tmp_path, [(2, 0.6), (5, 0.4), (9, 0.5), (20, 0.9)])).values()
    assert facts.full_quality == 0.6
    assert isinstance(facts.curve, Points)
    assert facts.curve.quality == (1, 1, 1, 1)


def test_long_curves_are_thinned_out(tmp_path):
    points = [(steps, steps / 100) for steps in range(1, 81)]
    (facts,) = facts_of(config(tmp_path, points, default_steps=80, max_steps=80)).values()
    assert isinstance(facts.curve, Points)
    assert len(facts.curve.steps) == MOST_POINTS
    assert (facts.curve.steps[0], facts.curve.steps[-1]) == (1 / 80, 1)
    assert facts.quality(0.5) == pytest.approx(0.4)


def test_what_nobody_says_is_usual():
    models = {"m": {"cycles_per_step_gcycles": 0.4}}
    service = build_config({"models": models, "edges": [{"name": "a", "model": "m", "memory_gb": 3}]})
    (facts,) = facts_of(service).values()
    assert (facts.size_gb, facts.load_s, facts.least_steps, facts.full_quality) == (USUAL_SIZE_GB, USUAL_LOAD_S, 1, 1)
    assert facts.quality(0.5) == pytest.approx(math.expm1(-USUAL_CURVE.rate / 2) / math.expm1(-USUAL_CURVE.rate))
    (server,) = open_books(service)
    assert server.ledger is not None
    assert server.ledger.memory_gb.tolist() == [3]
    assert server.ledger.load_s.tolist() == [[USUAL_LOAD_S]]
