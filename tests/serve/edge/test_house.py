# SPDX-License-Identifier: Apache-2.0
"""Edges that share a process: the application puts them there, and each call finds its edge."""

from __future__ import annotations

import asyncio

import pytest

from edgegen.serve.app import build
from edgegen.serve.config import build_config
from edgegen.serve.edge.house import EdgeHouse
from edgegen.serve.profile.model_profile import ModelProfile, write_profile
from tests.serve.edge.fake_engine import job

PROFILE = {
    "device": "cpu",
    "machine": "none",
    "size_gb": 2.0,
    "load_s": 3.0,
    "load_from_host_s": 0.5,
    "step_s": 0.002,
    "fixed_s": 0.001,
    "further_picture": 0.5,
    "quality": [{"steps": 4, "quality": 0.5}],
    "least_steps": 4,
    "full_steps": 20,
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "profile.json"
    write_profile(ModelProfile.model_validate({"model": "a", **PROFILE}), path)
    shared = {"model": "a", "engine": "emulated", "process": "cheap", "resources": {"rack": 0.25}}
    return build_config(
        {
            "models": {"a": {"cycles_per_step_gcycles": 1.0, "sizes": ["64x64"], "profile": str(path)}},
            "edges": [
                {**shared, "name": "edge-a", "speed": 2.0},
                {"name": "edge-b", "model": "a", "engine": "emulated"},
                {**shared, "name": "edge-c", "concurrency": 4},
            ],
        }
    )


def test_one_deployment_for_each_process(config):
    houses = {node._bound_deployment.name: node._bound_deployment for node in build(config)._bound_deployment.init_args}
    assert list(houses) == ["cheap", "edge-b"]
    options = houses["cheap"].ray_actor_options
    assert (options["num_cpus"], options["resources"]) == (0.2, {"rack": 0.25})

    async def run():
        house = EdgeHouse(*houses["cheap"].init_args)
        made = await asyncio.gather(*(house.generate(edge, job(edge, key=edge)) for edge in ("edge-a", "edge-c")))
        assert all(pictures.png for pictures in made)
        found = await house.find("edge-c", "edge-c")
        assert found is not None
        assert found.server == "edge-c"
        assert await house.find("edge-a", "edge-c") is None
        await house.keep("edge-a", ["a"])
        reports = [await house.report(edge) for edge in ("edge-a", "edge-c")]
        assert [report.name for report in reports] == ["edge-a", "edge-c"]
        assert [report.pictures for report in reports] == [1, 1]
        await house.check_health()

    asyncio.run(run())
