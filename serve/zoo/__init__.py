"""The embedded generative model: a small text-to-image diffusion pipeline, its training and its judge.

The rooms are `shapes` (procedural pictures and their captions), `judge` (what is in a picture), `networks` (the
parts of the pipeline), `recipe`, `autoencoder` and `training` (how it learns), `evaluation` (how well it does) and
`loading` (names to diffusers pipelines). `training` and `evaluation` are command lines.
Nothing here imports diffusers or transformers until a pipeline is asked for.
"""

from edgegen.serve.zoo.loading import ModelInfo, UnknownModelError, embedded_models, load_pipeline, model_info

__all__ = ["ModelInfo", "UnknownModelError", "embedded_models", "load_pipeline", "model_info"]
