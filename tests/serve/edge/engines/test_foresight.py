# SPDX-License-Identifier: Apache-2.0
"""Previews from real pipelines: early guesses of the picture, small, and without a trace in it."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from edgegen.serve.config import build_config
from edgegen.serve.edge.engines.foresight import SIDE, Foresight
from edgegen.serve.edge.server import EdgeServer
from tests.serve.edge.fake_engine import job, send


def painted(model, side, *jobs, max_batch=1):
    """Pictures and previews of jobs."""

    async def whole():
        card = {"cycles_per_step_gcycles": 0.1, "sizes": [f"{side}x{side}"]}
        edge = {"name": "edge", "model": model, "max_batch": max_batch}
        config = build_config({"models": {model: card}, "edges": [edge]})
        server = EdgeServer(config.edges[0], config.cards(), 16, 1)
        try:
            made = await asyncio.gather(*send(server, *jobs))
            seen = [await server.watch(one.id, 0, 0.0) for one in jobs]
        finally:
            await server.close()
        return [pictures.png for pictures in made], [glimpse.previews for glimpse in seen]

    return asyncio.run(whole())


def levels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64)


def test_previews_leave_no_trace_in_pictures_and_come_to_whoever_wants_them(tiny_pipeline):
    asked = {"model": tiny_pipeline, "width": 16, "height": 16, "steps": 8}
    jobs = [job(f"{n}", seeds=(n, n + 1), previews=n % 3, **asked) for n in range(3)]
    plain, none = painted(tiny_pipeline, 16, *(job(one.id, seeds=one.seeds, **asked) for one in jobs))
    assert none == [(), (), ()]
    for max_batch in (1, 6):
        pictures, previews = painted(tiny_pipeline, 16, *jobs, max_batch=max_batch)
        for one, other in zip(pictures, plain, strict=True):
            assert max(np.abs(levels(a) - levels(b)).max() for a, b in zip(one, other, strict=True)) <= 1
        places = [sorted((one.picture, one.index, one.step, one.steps) for one in shown) for shown in previews]
        assert places == [
            [],
            [(0, 0, 4, 8), (1, 0, 4, 8)],
            [(0, 0, 3, 8), (0, 1, 5, 8), (1, 0, 3, 8), (1, 1, 5, 8)],
        ]
        assert {levels(one.png).shape for shown in previews for one in shown} == {(16, 16, 3)}


def test_previews_show_early_what_the_picture_will_be():
    """Halfway through, a guess is much nearer to the picture than to one of another prompt."""
    prompts = ("a large red circle in the center", "a large blue square in the center")
    asked = {"model": "shapes-64", "width": 64, "height": 64, "steps": 12, "guidance_scale": 2.0, "previews": 3}
    pictures, previews = painted("shapes-64", 64, *(job(text, prompt=text, **asked) for text in prompts))
    (red, blue), shown = (levels(made[0]) for made in pictures), previews[0]
    assert [one.step for one in shown] == [3, 6, 9]
    far = [np.abs(levels(one.png) - red).mean() for one in shown]
    assert far[1] < np.abs(levels(shown[1].png) - blue).mean() / 3
    assert far[2] < far[0]


class Decoder:
    """Decodes to eight times the size, and remembers what it got."""

    def __init__(self, dtype=torch.float32, force_upcast=False):
        self.dtype = dtype
        self.config = SimpleNamespace(scaling_factor=2.0, shift_factor=1.0, force_upcast=force_upcast)

    def to(self, dtype):
        self.dtype = dtype

    def decode(self, latents, return_dict):
        assert latents.dtype == self.dtype
        self.got = latents
        return (latents.repeat_interleave(8, -1).repeat_interleave(8, -2),)


class Scheduler:
    def __init__(self, made):
        self.made = made

    def step(self, model_output, timestep, sample, return_dict=True):
        return self.made


class FlowMatchScheduler(Scheduler):
    sigmas, step_index = torch.tensor([1.0, 0.5, 0.0]), 2


def foreseen(scheduler, side=64, latents=None, decoder=None):
    """What a decoder gets of a guess, and the previews."""
    sizes: list[tuple[int, ...]] = []

    def postprocess(images, output_type):
        assert output_type == "pil"
        sizes.extend(tuple(image.shape[-2:]) for image in images)
        return [Image.new("RGB", tuple(image.shape[-2:])) for image in images]

    pipeline = SimpleNamespace(
        vae=decoder or Decoder(), scheduler=scheduler, image_processor=SimpleNamespace(postprocess=postprocess)
    )
    plain = scheduler.step
    sample = torch.ones(1, 4, side // 8, side // 8)
    with Foresight(pipeline, side, side) as foresight:
        assert scheduler.step(2 * sample, 0, 3 * sample) is scheduler.made
        made = foresight.pictures({"latents": 9 * sample if latents is None else latents}, [0])
    assert scheduler.step == plain
    return pipeline.vae, made, sizes


def test_guesses_are_found_where_schedulers_have_them():
    sample = torch.ones(1, 4, 8, 8)
    for scheduler, guess in (
        (Scheduler((sample, 5 * sample)), 5.0),
        (Scheduler(SimpleNamespace(prev_sample=sample, pred_original_sample=7 * sample)), 7.0),
        (Scheduler((sample,)), 9.0),  # no guess: the noisy latents
        (FlowMatchScheduler((sample,)), 3 - 0.5 * 2),
    ):
        decoder, made, _ = foreseen(scheduler)
        assert len(made) == 1
        assert decoder.got.unique().tolist() == [guess / 2 + 1]


@pytest.mark.parametrize(("force_upcast", "used"), [(True, torch.float32), (False, torch.float16)])
def test_decoders_that_overflow_in_half_precision_are_widened_for_a_moment(force_upcast, used):
    decoder = Decoder(torch.float16, force_upcast)
    sample = torch.ones(1, 4, 8, 8, dtype=torch.float16)
    _, made, _ = foreseen(Scheduler((sample,)), latents=sample, decoder=decoder)
    assert len(made) == 1
    assert (decoder.got.dtype, decoder.dtype) == (used, torch.float16)


def test_previews_of_large_pictures_are_small():
    _, made, sizes = foreseen(Scheduler((torch.ones(1, 4, 128, 128),)), side=1024)
    assert sizes == [(SIDE, SIDE)]
    assert len(made) == 1


def test_pipelines_that_can_not_decode_show_nothing(caplog):
    _, made, _ = foreseen(Scheduler((torch.ones(1, 4, 8, 8),)), latents=torch.ones(1, 16, 4))
    assert made == []
    assert "shows no previews" in caplog.text


@pytest.mark.parametrize("seen", [0, 1])
def test_whoever_watches_late_gets_what_is_left(tiny_pipeline, seen):
    async def whole():
        card = {"cycles_per_step_gcycles": 0.1, "sizes": ["16x16"]}
        config = build_config({"models": {tiny_pipeline: card}, "edges": [{"name": "edge", "model": tiny_pipeline}]})
        server = EdgeServer(config.edges[0], config.cards(), 16, 1)
        (work,) = send(server, job("1", model=tiny_pipeline, width=16, height=16, steps=6, previews=2))
        await work
        glimpse = await server.watch("1", seen, 60.0)
        assert ([one.index for one in glimpse.previews], glimpse.done) == ([0, 1][seen:], True)
        assert (await server.watch("other", 0, 60.0)).done
        await server.close()

    asyncio.run(whole())
