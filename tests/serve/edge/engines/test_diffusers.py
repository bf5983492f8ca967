# SPDX-License-Identifier: Apache-2.0
"""The diffusers engine with a tiny pipeline: batches, options, loads and what is refused."""

from __future__ import annotations

import asyncio
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from edgegen.envs.core.errors import InputError
from edgegen.serve.config import build_config
from edgegen.serve.control.jobs import GenerationError
from edgegen.serve.edge.checks import check_edges
from edgegen.serve.edge.server import EdgeServer
from edgegen.serve.zoo.loading import load_pipeline
from tests.serve.edge.fake_engine import job, send


def config_of(models, **fields):
    model = {"cycles_per_step_gcycles": 0.1, "sizes": ["16x16"], "size_gb": 1.0, **fields.pop("model", {})}
    edge = {"name": "edge", "models": list(models), **fields}
    return build_config({"models": dict.fromkeys(models, model), "edges": [edge]})


def edge_of(models, **fields):
    config = config_of(models, **fields)
    return EdgeServer(config.edges[0], config.cards(), 16, 1)


def run(edge, *jobs):
    async def whole():
        try:
            return await asyncio.gather(*send(edge, *jobs), return_exceptions=True), await edge.report()
        finally:
            await edge.close()

    return asyncio.run(whole())


def levels(png):
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.int64)


def sized(name, model, **fields):
    return job(name, model, width=16, height=16, **fields)


@pytest.fixture(scope="module")
def two(tiny_pipeline, tmp_path_factory):
    """Two folders with a pipeline, of equal weights."""
    other = tmp_path_factory.mktemp("other") / "pipeline"
    shutil.copytree(tiny_pipeline, other)
    return [tiny_pipeline, str(other)]


def test_a_picture_of_a_batch_is_that_of_its_seed_alone(tiny_pipeline):
    jobs = [
        sized("1", tiny_pipeline, seeds=(1, 2), prompt="a red circle"),
        sized("2", tiny_pipeline, seeds=(3,), prompt="blue"),
        sized("3", tiny_pipeline, seeds=(4,), prompt="green", negative_prompt="red"),  # not with those
        sized("4", tiny_pipeline, seeds=(5,), prompt="x", negative_prompt="blue circle"),
    ]
    alone, _ = run(edge_of([tiny_pipeline]), *jobs)
    together, report = run(edge_of([tiny_pipeline], max_batch=4), *jobs)
    assert report.pictures == 5
    assert together[0].generation_s == together[1].generation_s
    assert together[2].generation_s == together[3].generation_s
    for one, other in zip(alone, together, strict=True):
        for lone, shared in zip(one.png, other.png, strict=True):
            assert np.abs(levels(lone) - levels(shared)).max() <= 1  # of 255: sums in another order
    shown = [levels(png) for made in together for png in made.png]
    assert all(np.abs(one - other).max() > 1 for n, one in enumerate(shown) for other in shown[:n])


def test_models_take_turns_in_a_memory_for_one(two):
    first, second = two
    edge = edge_of(two, memory_gb=1.5)
    assert set(edge._engine._resident) == {first}
    made, report = run(edge, sized("1", first), sized("2", second), sized("3", first))
    assert [pictures.load_s > 0 for pictures in made] == [False, True, True]
    assert made[0].png == made[1].png == made[2].png  # the weights are the same
    assert (report.resident, report.expected) == ((first,), (first,))
    assert all(load_s > 0 for _, load_s in report.load_s)


def test_a_model_that_can_not_be_loaded_fails_its_requests_alone(two, tmp_path):
    edge = edge_of([two[0], str(tmp_path)], memory_gb=1.5)
    made, report = run(edge, sized("1", str(tmp_path)), sized("2", two[0]))
    assert isinstance(made[0], GenerationError)
    assert "unknown model" in str(made[0])
    assert made[1].png
    assert report.resident == (two[0],)


def test_other_number_formats_paint_too(tiny_pipeline):
    (plain,), _ = run(edge_of([tiny_pipeline]), sized("1", tiny_pipeline))
    edge = edge_of([tiny_pipeline], dtype="bfloat16")
    assert edge._engine._resident[tiny_pipeline].pipeline.unet.dtype.is_floating_point
    full_gb = edge_of([tiny_pipeline])._engine.size_gb(tiny_pipeline)
    assert edge._engine.size_gb(tiny_pipeline) < 0.6 * full_gb
    (half,), _ = run(edge, sized("1", tiny_pipeline))
    assert levels(half.png[0]).shape == levels(plain.png[0]).shape


def test_weights_that_may_bring_code_are_refused(tiny_pipeline, tmp_path):
    from diffusers import StableDiffusionPipeline

    StableDiffusionPipeline.from_pretrained(tiny_pipeline).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="with its weights as safetensors"):
        edge_of([str(tmp_path)])
    edge_of([str(tmp_path)], safetensors_only=False)


def test_parts_can_be_left_out_and_must_exist(tiny_pipeline):
    config = config_of([tiny_pipeline], model={"without": ["image_encoder"]})
    check_edges(config.edges, config.cards())
    config = config_of([tiny_pipeline], model={"without": ["text_encoder_9"]})
    with pytest.raises(InputError, match=r"names 'text_encoder_9', but its parts are .*text_encoder, tokenizer"):
        check_edges(config.edges, config.cards())
    assert load_pipeline(tiny_pipeline).text_encoder is not None
    assert load_pipeline(tiny_pipeline, without=["text_encoder"]).text_encoder is None
