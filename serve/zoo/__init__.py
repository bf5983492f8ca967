"""The embedded generative model: a small text-to-image diffusion pipeline, its training and its judge.

The rooms are `shapes` (procedural pictures and their captions), `judge` (what is in a picture), `networks` (the
parts of the pipeline), `training` and `evaluation` (command lines) and `loading` (names to diffusers pipelines).
Nothing here imports diffusers or transformers until a pipeline is asked for.
"""

from edgegen.serve.zoo.loading import ModelInfo, UnknownModelError, embedded_models, load_pipeline, model_info

__all__ = ["ModelInfo", "UnknownModelError", "embedded_models", "load_pipeline", "model_info"]
