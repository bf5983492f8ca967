# SPDX-License-Identifier: Apache-2.0
"""What cards and profiles of the embedded models say, against each other and against the files."""

import json
import re

import pytest
from scipy.stats import binomtest

from edgegen.envs.core.errors import InputError
from edgegen.serve.profile.model_profile import embedded_profile
from edgegen.serve.zoo import embedded_models, model_info
from edgegen.serve.zoo.distillation import Distillation
from edgegen.serve.zoo.evaluation import Row, write_accuracy
from edgegen.serve.zoo.recipe import RECIPES, Recipe
from edgegen.serve.zoo.weights import check_digests

MODELS = embedded_models()
models = pytest.mark.parametrize("name", MODELS)


def card_of(name):
    return json.loads((MODELS[name] / "edgegen.json").read_text())


@models
def test_intervals_are_those_of_the_counts(name):
    accuracy = card_of(name)["accuracy"]
    assert accuracy["guidance"] == model_info(name).default_guidance
    assert model_info(name).default_steps in [point["steps"] for point in accuracy["points"]]
    for point in accuracy["points"]:
        interval = binomtest(point["right"], accuracy["prompts"]).proportion_ci(method="wilson")
        assert point["accuracy"] == pytest.approx(point["right"] / accuracy["prompts"])
        assert (point["low"], point["high"]) == pytest.approx((interval.low, interval.high), abs=1e-4)


@models
def test_the_readme_shows_the_figures_of_the_card(name):
    text = (MODELS[name] / "README.md").read_text()
    accuracy = card_of(name)["accuracy"]
    rows = re.findall(r"^\| (\d+) \| ([\d.]+)% \| ([\d.]+)% \u2013 ([\d.]+)% \|", text, re.MULTILINE)
    shown = {int(steps): tuple(map(float, values)) for steps, *values in rows}
    for point in accuracy["points"]:
        values = [100 * point[key] for key in ("accuracy", "low", "high")]
        assert shown.pop(point["steps"]) == pytest.approx(values, abs=0.06)
    assert not shown
    steps = ",".join(str(point["steps"]) for point in accuracy["points"])
    command = f"--model {name} --steps {steps} --prompts {accuracy['prompts']} --seed {accuracy['seed']}"
    assert f"edgegen.serve.zoo.evaluation {command}" in text
    assert f"{card_of(name)['training_cpu_seconds']:,} s" in text


@models
def test_the_recipe_is_that_of_the_script(name):
    card = card_of(name)
    # Fields that were added later have the values that they stand for in older cards.
    if "teacher" in card:
        assert Distillation(**card["recipe"]) == Distillation()
    else:
        assert Recipe(**{"subject": card["subject"], **card["recipe"]}) == RECIPES[card["subject"]]


@models
def test_the_profile_fits_the_files_and_the_card(name):
    profile, card = embedded_profile(name), card_of(name)
    assert (profile.model, profile.device, profile.native_size) == (name, "cpu", card["native_size"])
    assert profile.machine
    assert f"edgegen profile --model {name} " in profile.measured
    weights = sum(path.stat().st_size for path in MODELS[name].rglob("*.safetensors"))
    assert profile.size_gb == pytest.approx(weights / 1e9, rel=0.02)
    assert [point.pictures for point in profile.batch] == [1, 2, 4, 8]
    assert all(getattr(profile.intervals, field) is not None for field in type(profile.intervals).model_fields)
    # Two samples of pictures, of the same model: their intervals meet.
    by_steps = {point.steps: point for point in profile.quality}
    for point in card["accuracy"]["points"]:
        other = by_steps.get(point["steps"])
        if other is not None:
            assert other.low <= point["high"]
            assert point["low"] <= other.high


def test_the_models_differ_in_size_speed_and_quality():
    slow, fast = embedded_profile("shapes-64"), embedded_profile("shapes-64-fast")
    assert fast.size_gb < 0.6 * slow.size_gb
    assert fast.step_s < 0.7 * slow.step_s
    assert fast.time_s(fast.full_steps) < slow.time_s(slow.full_steps)
    assert max(point.quality for point in fast.quality) < max(point.quality for point in slow.quality)


def test_only_embedded_models_have_shipped_profiles():
    with pytest.raises(InputError, match=r"Model 'mine' has no shipped profile; embedded models are .*shapes-64"):
        embedded_profile("mine")


def test_writing_the_accuracy_leaves_digests_and_the_rest(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("x")
    before = {
        "name": "model",
        "sha256": {"weights": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},
    }
    (folder / "edgegen.json").write_text(json.dumps(before))
    row = Row(2, 10, 7, 0.7, 0.39681, 0.89222, {}, {}, 0.1)
    write_accuracy(str(folder), [row], prompts=10, seed=3, guidance=2.0)
    card = json.loads((folder / "edgegen.json").read_text())
    point = {"steps": 2, "right": 7, "accuracy": 0.7, "low": 0.3968, "high": 0.8922}
    assert card.pop("accuracy") == {"prompts": 10, "seed": 3, "guidance": 2.0, "points": [point]}
    assert card == before
    check_digests(folder, "model")
