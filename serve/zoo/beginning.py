# SPDX-License-Identifier: Apache-2.0
"""Weights that a training begins with: those of another model of the same shape, or random ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from edgegen.serve.zoo import networks
from edgegen.serve.zoo.loading import load_pipeline
from edgegen.serve.zoo.recipe import Recipe


@dataclass(frozen=True)
class Parts:
    """The networks of a pipeline that learn."""

    autoencoder: Any
    text_encoder: Any
    denoiser: Any


def build_parts(recipe: Recipe, tokenizer: Any) -> Parts:
    """Build the networks of a run.

    Args:
        recipe: Says which seed, and whether there is a model to begin with.
        tokenizer: Its words need not be those of that model: what is said of a word goes over to the same word.

    Raises:
        UnknownModelError: There is no such model.
    """
    torch.manual_seed(recipe.seed)
    autoencoder = networks.build_autoencoder()
    torch.manual_seed(recipe.seed + 1)
    denoiser, text_encoder = networks.build_denoiser(), networks.build_text_encoder(tokenizer)
    if recipe.begin:
        other = load_pipeline(recipe.begin)
        autoencoder.load_state_dict(other.vae.state_dict())
        denoiser.load_state_dict(other.unet.state_dict())
        _take_words(text_encoder, tokenizer, other.text_encoder, other.tokenizer)
    return Parts(autoencoder, text_encoder, denoiser)


def _take_words(encoder: Any, tokenizer: Any, other: Any, other_tokenizer: Any) -> None:
    """Copy a text encoder to one with another vocabulary; words that are new keep their random beginnings."""
    own = encoder.get_input_embeddings().weight
    embeddings = own.detach().clone()
    known = other_tokenizer.get_vocab()
    for word, index in tokenizer.get_vocab().items():
        if word in known:
            embeddings[index] = other.get_input_embeddings().weight[known[word]].detach()
    state = {name: value for name, value in other.state_dict().items() if "token_embedding" not in name}
    encoder.load_state_dict(state, strict=False)
    with torch.no_grad():
        own.copy_(embeddings)
