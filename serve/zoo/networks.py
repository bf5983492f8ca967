# SPDX-License-Identifier: Apache-2.0
"""The parts of the embedded pipeline: tokenizer, text encoder, picture autoencoder, denoiser and scheduler.

Every function builds one untrained diffusers or transformers object; those libraries are imported on the first call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from edgegen.serve.zoo.shapes import SIDE, WORDS

MAX_TOKENS = 16
LATENT_CHANNELS = 4
LATENT_SIDE = SIDE // 8
TEXT_WIDTH = 128
AUTOENCODER_WIDTHS = (8, 16, 32, 64)
DENOISER_WIDTHS = (64, 96)
TIMESTEPS = 1000
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"


def build_tokenizer(words: Iterable[str] = WORDS) -> Any:
    """Build a CLIP tokenizer with one token for each of `words`.

    The base vocabulary is the byte alphabet of CLIP, so other words are spelled in characters instead of failing.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    merges = learn_merges(words)
    tokens = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Learn byte-pair merges until every word is one token, most frequent pair first (ties in alphabetical order)."""
    spelled = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges: list[tuple[str, str]] = []
    while True:
        counts = Counter(pair for symbols in spelled for pair in pairwise(symbols))
        if not counts:
            return merges
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelled = [_merge(symbols, best) for symbols in spelled]


def _merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of `pair`, from the left."""
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def build_text_encoder(tokenizer: Any) -> Any:
    """Build a two-layer CLIP text encoder for the vocabulary of `tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_autoencoder() -> Any:
    """Build the autoencoder between 64×64 pictures and 8×8 latents; it has no attention, so it also takes crops."""
    from diffusers import AutoencoderKL

    levels = len(AUTOENCODER_WIDTHS)
    return AutoencoderKL(
        sample_size=SIDE,
        block_out_channels=AUTOENCODER_WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
    )


def build_denoiser(widths: tuple[int, int] = DENOISER_WIDTHS, middle: bool = True) -> Any:
    """Build the U-Net that predicts the velocity of noisy latents, with cross-attention to the caption at 4×4.

    Args:
        widths: Channels on 8×8 and on 4×4 latents, multiples of 16.
        middle: Whether there is a block between the way down and the way up.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn" if middle else None,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )


_NOISE = {"num_train_timesteps": TIMESTEPS, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def build_noise_schedule() -> Any:
    """Build the schedule by which training adds noise."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(**_NOISE, clip_sample=False, steps_offset=1)


def build_scheduler(spacing: str = "linspace") -> Any:
    """Build the sampler of the finished pipeline: Euler steps on the noise levels of training, without new noise.

    Args:
        spacing: Where its steps begin: `linspace` has a step at the least noise, too, `trailing` spends none there.
    """
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(**_NOISE, timestep_spacing=spacing, steps_offset=1)
