# SPDX-License-Identifier: Apache-2.0
"""A real diffusers pipeline with tiny layers and random weights, and the helpers of these tests, importable."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgegen.serve.config import ServiceConfig, build_config
from tests.serve.slow_edges import serve_slowly, virtually

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SIDE = 16
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny Stable Diffusion pipeline that paints 16×16 pixels."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("tiny")
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    pipeline = StableDiffusionPipeline(
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16),
        text_encoder=CLIPTextModel(text),
        unet=UNet2DConditionModel(
            sample_size=SIDE // 2,
            layers_per_block=1,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            norm_num_groups=8,
            attention_head_dim=8,
        ),
        vae=AutoencoderKL(
            block_out_channels=(16, 32),
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            norm_num_groups=8,
            sample_size=SIDE,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    target: Path = folder / "pipeline"
    pipeline.save_pretrained(target)
    return str(target)


def make_config(model: str = "tiny", **fields: object) -> ServiceConfig:
    """Three edges of unequal capacity, with values that tests need not name."""
    return build_config(
        {
            "models": {model: {"cycles_per_step_gcycles": 0.1, "sizes": [f"{SIDE}x{SIDE}"], "default_steps": 10}},
            "edges": [
                {"name": f"edge-{letter}", "model": model, "capacity_gcycles_s": capacity}
                for letter, capacity in zip("abc", (4.0, 2.0, 1.0), strict=True)
            ],
            **fields,
        }
    )


@pytest.fixture(scope="session", name="make_config")
def make_config_fixture():
    return make_config


@pytest.fixture(scope="session")
def run_virtually():
    """Run a coroutine on a clock that jumps over every wait."""
    return virtually


@pytest.fixture(scope="session")
def in_virtual_time():
    """Run a scenario ``async (service)`` against a gateway with slow edges, in no time."""
    return serve_slowly
