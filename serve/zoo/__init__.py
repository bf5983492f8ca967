# SPDX-License-Identifier: Apache-2.0
"""The embedded generative models: small text-to-image diffusion pipelines, their training and their judges.

The rooms are `shapes` and `digits` (procedural pictures and their captions), `judge` and `digit_judge` (what is in a
picture), `subjects` (both by name), `networks` (the parts of a pipeline), `recipe`, `beginning`, `autoencoder` and
`training` (how it learns), `distillation` (how a small one learns from a large one), `evaluation` (how well it does),
`weights` (which files are trusted), `catalogue` (well-known models of the hub) and `loading` (names to diffusers
pipelines). `training`, `distillation` and `evaluation` are command lines.
Nothing here imports diffusers or transformers until a pipeline is asked for.
"""

from edgegen.serve.zoo.loading import ModelInfo, embedded_models, load_pipeline, model_info
from edgegen.serve.zoo.weights import DamagedModelError, UnknownModelError, UnsafeModelError

__all__ = [
    "DamagedModelError",
    "ModelInfo",
    "UnknownModelError",
    "UnsafeModelError",
    "embedded_models",
    "load_pipeline",
    "model_info",
]
