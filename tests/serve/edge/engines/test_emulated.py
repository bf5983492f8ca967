# SPDX-License-Identifier: Apache-2.0
"""An emulated engine: times of a profile on a virtual clock, and pictures that say what they are."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

from edgegen.envs.core.errors import InputError
from edgegen.serve.edge.engines.emulated import EmulatedEngine
from edgegen.serve.edge.server import EdgeServer
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelConfig, card_of
from edgegen.serve.profile.model_profile import ModelProfile, write_profile
from tests.serve.edge.fake_engine import job, send

PROFILE = {
    "device": "cpu",
    "machine": "none",
    "size_gb": 2.0,
    "load_s": 3.0,
    "load_from_host_s": 0.5,
    "step_s": 0.2,
    "fixed_s": 0.4,
    "further_picture": 0.5,
    "quality": [{"steps": 4, "quality": 0.5}, {"steps": 20, "quality": 1.0}],
    "least_steps": 4,
    "full_steps": 20,
}


@pytest.fixture
def cards(tmp_path):
    """Two models with equal profiles; 1 Gcycle a step, so 2 Gcycle beside the steps."""
    made = {}
    for model in "ab":
        path = tmp_path / f"{model}.json"
        write_profile(ModelProfile.model_validate({"model": model, **PROFILE}), path)
        config = ModelConfig(cycles_per_step_gcycles=1.0, sizes=("64x64", "128x64"), profile=str(path))
        made[model] = card_of(model, config)
    return made


def edge_of(cards, **fields):
    config = EdgeConfig(name="edge", models=("a", "b"), engine="emulated", **fields)
    return EdgeServer(config, cards, 100, clock=asyncio.get_running_loop().time)


def test_the_profile_fills_the_card(cards):
    card = cards["a"]
    assert (card.size_gb, card.load_s, card.fixed_gcycles, card.least_steps) == (2.0, 3.0, pytest.approx(2.0), 4)
    assert card.workload_gcycles(2, 10, "64x64") == pytest.approx(24)


def test_pictures_and_loads_take_the_time_of_the_profile(cards, run_virtually):
    async def run():
        edge = edge_of(cards, memory_gb=3, host_memory_gb=2, speed=2.0)
        await asyncio.sleep(1)
        first, second, third, fourth = await asyncio.gather(
            *send(edge, job("1", steps=10), job("2", "b"), job("3", steps=10, seeds=(1, 2), width=128), job("4", "b"))
        )
        assert (first.load_s, first.generation_s) == pytest.approx((0, (0.4 + 10 * 0.2) / 2))
        assert (second.load_s, second.generation_s) == pytest.approx((3, (0.4 + 4 * 0.2) / 2))
        assert (third.load_s, third.generation_s) == pytest.approx((0.5, 2 * 2 * (0.4 + 10 * 0.2) / 2))
        assert fourth.load_s == pytest.approx(0.5)
        assert dict((await edge.report()).load_s) == pytest.approx({"a": 0.5, "b": 3.0})

    run_virtually(run())


def test_pictures_of_a_batch_take_their_time_together(cards, run_virtually):
    async def run():
        edge = edge_of(cards, max_batch=3)
        pictures = await asyncio.gather(*send(edge, job("1", seeds=(1, 2)), job("2"), job("3")))
        together_s = 0.4 + 4 * 0.2 * (1 + 0.5 * 2)
        assert [made.generation_s for made in pictures] == pytest.approx([together_s, together_s, 0.4 + 4 * 0.2])

    run_virtually(run())


def test_the_capacity_is_that_of_the_profile_from_the_start(cards, run_virtually):
    async def run():
        edge = edge_of(cards, speed=3.0)
        before = (await edge.report()).capacity_gcycles_s
        assert before == pytest.approx(3 * (2 + 8) / (0.4 + 8 * 0.2))  # 8 steps of 1 Gcycle, and 2 Gcycle beside them
        await asyncio.gather(*send(edge, job("1", steps=8)))

    run_virtually(run())


def test_what_is_done_side_by_side_does_not_wait(cards, run_virtually):
    async def run():
        edge = edge_of(cards, concurrency=3)
        pictures = await asyncio.gather(*send(edge, *(job(str(number), "ab"[number % 2]) for number in range(4))))
        assert [made.queue_s for made in pictures] == pytest.approx([0, 0, 0, 0.4 + 4 * 0.2])
        assert [made.load_s for made in pictures] == [0] * 4

    run_virtually(run())


def test_progress_is_reported_and_a_client_may_leave(cards, run_virtually):
    async def run():
        edge = edge_of(cards)
        (task,) = send(edge, job("1", steps=20))
        await asyncio.sleep(2.1)
        assert (await edge.report()).steps_left == 10
        task.cancel()
        await asyncio.sleep(0)
        started = asyncio.get_running_loop().time()
        (last,) = await asyncio.gather(*send(edge, job("2")))
        assert asyncio.get_running_loop().time() - started == pytest.approx(last.generation_s)

    run_virtually(run())


def test_pictures_are_valid_and_say_that_they_are_emulated(cards, run_virtually):
    async def run():
        edge = edge_of(cards)
        (made,) = await asyncio.gather(*send(edge, job("1", seeds=(7, 8))))
        (again,) = await asyncio.gather(*send(edge, job("2", seeds=(8,))))
        first, second = (Image.open(io.BytesIO(png)) for png in made.png)
        first.load()
        assert first.info["Description"] == "emulated: a, seed 7, 4 steps"
        assert first.getpixel((0, 0)) != second.getpixel((0, 0))
        assert made.png[1] == again.png[0]

    run_virtually(run())


def test_many_edges_share_one_loop_and_no_thread(cards, run_virtually):
    import threading

    async def run():
        threads = threading.active_count()
        edges = [edge_of(cards) for _ in range(300)]
        made = await asyncio.gather(*(edge.generate(job(str(number))) for edge in edges for number in range(2)))
        assert len(made) == 600
        assert asyncio.get_running_loop().time() == pytest.approx(2 * (0.4 + 4 * 0.2))
        assert threading.active_count() == threads

    run_virtually(run())


def test_without_a_profile_it_is_refused():
    card = card_of("a", ModelConfig(cycles_per_step_gcycles=1.0))
    config = EdgeConfig(name="edge", model="a", engine="emulated")
    with pytest.raises(
        InputError, match=r"'edge' is emulated, but its model 'a' has no profile; .*models\.a\.profile\."
    ):
        EmulatedEngine(config, {"a": card})
