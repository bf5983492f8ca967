# SPDX-License-Identifier: Apache-2.0
"""Service configs: what is accepted, what is refused in which words, and the scenario they stand for."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.named_files import names_in
from edgegen.serve.config import CONFIG_FOLDER, build_config, load_config
from edgegen.serve.kinds.registry import scenario_of
from edgegen.serve.model_config import parse_size

EDGE = {"name": "edge-a", "model": "m"}
GOOD: dict[str, Any] = {"models": {"m": {"cycles_per_step_gcycles": 0.1}}, "edges": [EDGE]}


def test_demo_has_three_unequal_edges_with_the_embedded_model():
    config = load_config("demo")
    assert "demo" in names_in(CONFIG_FOLDER)
    assert len(config.edges) == 3
    assert len({edge.slowdown for edge in config.edges}) == 3
    assert {edge.model for edge in config.edges} == {"shapes-64"}
    assert scenario_of(config).servers == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"slot_s": 0}, ["slot_s", "0", "greater than 0"]),
        ({"slots": 3}, ["unknown field 'slots'", "slot_s"]),
        ({"edges": []}, ["edges", "at least 1"]),
        ({"edges": [EDGE, EDGE]}, ["edge-a", "2 times"]),
        ({"edges": [{**EDGE, "cloud": {}}]}, ["'edge-a' is the cloud, but there must be an edge that is not"]),
        ({"edges": [EDGE, *({**EDGE, "name": x, "cloud": {}} for x in "bc")]}, ["'b' and 'c' are both the cloud"]),
        ({"edges": [{**EDGE, "cloud": {"price": -1}}]}, ["edges.0.cloud.price", "-1"]),
        ({"edges": [{**EDGE, "model": "other"}]}, ["edge-a", "other", "only describes m"]),
        ({"edges": [{**EDGE, "slowdown": 0.5}]}, ["edges.0.slowdown", "0.5", "greater than or equal to 1"]),
        ({"edges": [{**EDGE, "capacity_gcycles_s": "fast"}]}, ["capacity_gcycles_s", "'fast'", "measured"]),
        ({"edges": [{**EDGE, "capacity_gcycles_s": -1}]}, ["capacity_gcycles_s", "-1", "positive"]),
        ({"edges": [{**EDGE, "capacity_gcycles_s": float("inf")}]}, ["capacity_gcycles_s", "inf"]),
        ({"edges": [{**EDGE, "capacity_gcycles_s": 1e-46}]}, ["capacity_gcycles_s", "1e-46", "from 1e-12 to 1e+12"]),
        ({"edges": [{**EDGE, "rate_mbit_s": 1e39}]}, ["edges.0.rate_mbit_s", "1e+39", "between"]),
        ({"edges": [{**EDGE, "threads": True}]}, ["edges.0.threads", "True", "must be a number"]),
        ({"explore": "yes"}, ["explore", "'yes'", "must be true or false"]),
        ({"seed": 2**63}, ["seed", "must be finite, and between"]),
        ({"edges": [{**EDGE, "host_memory_gb": 4}]}, ["edge-a", "host_memory_gb", "cpu"]),
        ({"edges": [{**EDGE, "offload": "model"}]}, ["edge-a", "offload", "cpu"]),
        (
            {"edges": [{**EDGE, "offload": "model", "host_memory_gb": 4, "device": "cuda:0"}]},
            ["both host_memory_gb and offload"],
        ),
        ({"edges": [{**EDGE, "engine": "comfy"}]}, ["edges.0.engine", "comfy", "diffusers"]),
        ({"edges": [{**EDGE, "engine": "remote"}]}, ["edge-a", "remote", "needs a url"]),
        ({"edges": [{**EDGE, "url": "http://x"}]}, ["edge-a", "diffusers", "url is an option of remote"]),
        ({"edges": [{**EDGE, "engine": "emulated", "device": "cuda"}]}, ["device is an option of diffusers"]),
        (
            {"edges": [{**EDGE, "engine": "emulated", "concurrency": 2, "memory_gb": 3}]},
            ["both concurrency and memory_gb"],
        ),
        ({"edges": [{**EDGE, "process": "p"}]}, ["process is an option of remote or emulated"]),
        ({"edges": [{**EDGE, "speed": 2}]}, ["speed is an option of emulated"]),
        (
            {"edges": [{**EDGE, "engine": "remote", "url": "http://x", "memory_gb": 3}]},
            ["memory_gb is an option of diffusers or emulated"],
        ),
        (
            {"edges": [{**EDGE, "engine": "remote", "url": "http://x", "model_names": {"n": "y"}}]},
            ["model_names", "'n'", "none of its models"],
        ),
        ({"edges": [{**EDGE, "pinned": ["n"]}]}, ["edge-a", "'n'", "none of its models"]),
        ({"edges": [{**EDGE, "name": "Edge A"}]}, ["edges.0.name", "Edge A"]),
        ({"edges": [{**EDGE, "slow_down": 2}]}, ["slow_down", "Did you mean 'slowdown'"]),
        ({"models": {}}, ["models"]),
        ({"models": {**GOOD["models"], "x": {"cycles_per_step_gcycles": 1}}}, ["'x'", "no edge holds it"]),
        ({"models": {"m": {}}}, ["cycles_per_step_gcycles", "missing"]),
        ({"models": {"m": {"cycles_per_step_gcycles": 1, "sizes": ["64"]}}}, ["WIDTHxHEIGHT", "64"]),
        ({"models": {"m": {"cycles_per_step_gcycles": 1, "default_steps": 51}}}, ["default_steps (51)", "50"]),
        ({"stall_timeout_s": 300}, ["stall_timeout_s is 300", "less than request_timeout_s (300)"]),
        (
            {"kind": "ofloading"},
            ["'ofloading', but it must be offloading or provisioning or fleet. Did you mean 'offloading'?"],
        ),
        ({"kind": 3}, ["kind", "3", "string"]),
        ({"fallback": "random"}, ["fallback", "random", "least-work"]),
    ],
)
def test_bad_values_give_one_sentence(change, words):
    with pytest.raises(InputError) as caught:
        build_config({**GOOD, **change})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_policy_may_be_named_by_its_role():
    assert build_config({**GOOD, "policy": "router=least-delay"}).policy == "least-delay"
    several = "router=least-delay cacher=price-greedy"
    assert build_config({**GOOD, "policy": several}).policy == several
    with pytest.raises(InputError, match=r"must look like ROLE=POLICY; roles are router, cacher, allocator\.$"):
        build_config({**GOOD, "policy": "router=least-delay painter=rcars"})


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'demo'"):
        load_config("demoo")
    broken = tmp_path / "broken.yaml"
    broken.write_text("edges: [")
    with pytest.raises(InputError, match="can not be read"):
        load_config(broken)
    broken.write_text("- 1")
    with pytest.raises(InputError, match="must hold a mapping"):
        load_config(broken)


def test_a_config_that_no_scenario_can_stand_for_is_refused_in_one_sentence():
    model = {"cycles_per_step_gcycles": 1e12, "max_steps": 10_000, "sizes": ["64x64"]}
    edges = [{"name": f"e{n}", "model": "shapes-64", "capacity_gcycles_s": 1e-12} for n in range(256)]
    most = {"max_queue": 10_000, "max_pictures": 100}
    config = build_config({"models": {"shapes-64": model}, "edges": edges, **most})
    with pytest.raises(InputError, match=r"^Scenario 'service': up to .* Gcycle in an episode"):
        scenario_of(config)


def test_overrides_replace_fields():
    assert load_config("demo", {"policy": "local"}).policy == "local"


def test_workload_counts_pictures_steps_and_pixels():
    sized = {"cycles_per_step_gcycles": 0.5, "sizes": ["64x64", "128x64"]}
    card = build_config({**GOOD, "models": {"m": sized}}).cards()["m"]
    assert card.workload_gcycles(3, 10, "64x64") == pytest.approx(15)
    assert card.workload_gcycles(1, 10, "128x64") == pytest.approx(10)
    assert parse_size("128x64") == (128, 64)


def test_scenario_uses_measured_capacities_where_asked():
    edges = [{**EDGE, "capacity_gcycles_s": 7}, {**EDGE, "name": "edge-b", "slowdown": 4}]
    config = build_config({**GOOD, "edges": edges})
    assert scenario_of(config).capacity_gcycles_s == (7, 0.25)
    assert scenario_of(config, {"edge-a": 99, "edge-b": 3}).capacity_gcycles_s == (7, 3)
    assert make_policy("least-delay", scenario_of(config)).name == "least-delay"


def test_light_parts_import_neither_ray_nor_diffusers():
    code = (
        "import importlib, pkgutil, sys, edgegen.serve.config\n"
        "import edgegen.serve.http.api, edgegen.serve.http.web, edgegen.serve.control as control\n"
        "import edgegen.serve.kinds as kinds\n"
        "found = {part.name for room in (control, kinds)"
        " for part in pkgutil.iter_modules(room.__path__, f'{room.__name__}.')}\n"
        "assert {'live_world', 'scheduler', 'registry', 'offloading'} <= {name.split('.')[-1] for name in found}\n"
        "for name in found:\n"
        "    importlib.import_module(name)\n"
        "heavy = {'ray', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
