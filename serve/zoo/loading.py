# SPDX-License-Identifier: Apache-2.0
"""From a model name to a ready diffusers pipeline.

An embedded name such as `shapes-64` stands for a folder that ships with the package. A path is a diffusers folder, with
`~` as a home folder. A short name of the catalogue stands for its hub id. Every other string goes to
`DiffusionPipeline.from_pretrained` as it is, for example a hub id. Weights are read from safetensors alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.serve.zoo.catalogue import entry_of
from edgegen.serve.zoo.weights import (
    INFO_FILE,
    UnknownModelError,
    UnsafeModelError,
    check_digests,
    check_safetensors,
    unsafe,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "INDEX_FILE",
    "INFO_FILE",
    "MODELS",
    "ModelInfo",
    "UnknownModelError",
    "embedded_models",
    "load_pipeline",
    "model_folder",
    "model_info",
]

MODELS = Path(__file__).resolve().parent / "models"
INDEX_FILE = "model_index.json"
PATHS_BEGIN = ("/", "./", "../", "~")
"""Beginnings of names that are paths, even of folders that do not exist."""


@dataclass(frozen=True)
class ModelInfo:
    """What a server needs to know before it runs a model.

    Attributes:
        name: The name that was asked for.
        native_size: Width and height of its pictures in pixels; None leaves the choice to the pipeline.
        default_steps: Denoising steps of a normal request.
        default_guidance: Classifier-free guidance scale of a normal request.
        example_prompt: A prompt that the model can paint.
        subject: What it paints, a key of :data:`edgegen.serve.zoo.subjects.SUBJECTS`; None for other models, which no
            judge here can tell anything about.
    """

    name: str
    native_size: int | None = None
    default_steps: int = 20
    default_guidance: float = 7.5
    example_prompt: str = "a red circle"
    subject: str | None = None


def embedded_models() -> dict[str, Path]:
    """Return the folders of the models that ship with the package, by name."""
    return {index.parent.name: index.parent for index in sorted(MODELS.glob(f"*/{INDEX_FILE}"))}


def model_folder(model: str) -> Path | None:
    """Return the folder that a model name means, whether it holds a model or not; None for what can be a hub id."""
    embedded = embedded_models().get(model)
    if embedded is not None:
        return embedded
    # As a text, because to pathlib ./~ is the same as ~, and a home folder that does not exist is an error.
    folder = Path(os.path.expanduser(model))  # noqa: PTH111
    return folder if model.startswith(PATHS_BEGIN) or folder.is_dir() else None


def model_info(model: str) -> ModelInfo:
    """Return what is known of a model without loading it.

    Args:
        model: An embedded name, a diffusers folder, a name of the catalogue or a hub id. Folders without an
            `edgegen.json` and hub ids that are not in the catalogue get the general defaults of `ModelInfo`.

    Raises:
        UnknownModelError: If the `edgegen.json` of the model can not be read or lacks a field.
    """
    folder = model_folder(model)
    if folder is None:
        entry = entry_of(model)
        return ModelInfo(model, entry.native_size, entry.steps, entry.guidance) if entry else ModelInfo(model)
    if not (folder / INFO_FILE).is_file():
        return ModelInfo(name=model)
    path = folder / INFO_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return ModelInfo(
            name=model,
            native_size=int(stored["native_size"]),
            default_steps=int(stored["default_steps"]),
            default_guidance=float(stored["default_guidance"]),
            example_prompt=str(stored["example_prompt"]),
            subject=None if stored.get("subject") is None else str(stored["subject"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownModelError(f"the model card '{path}' can not be read ({type(error).__name__}: {error})") from None


def parts_of(model: str) -> frozenset[str] | None:
    """Return the names of the parts of a model's pipeline; None where that can not be told without loading it."""
    folder = model_folder(model)
    try:
        stored = None if folder is None else json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return frozenset(name for name in stored if not name.startswith("_")) if isinstance(stored, dict) else None


def load_pipeline(
    model: str,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    offload: str = "none",
    without: Sequence[str] = (),
    safetensors_only: bool = True,
) -> Any:
    """Load a pipeline, silent and on its device.

    Args:
        model: An embedded name, a diffusers folder, a name of the catalogue or a hub id.
        device: A torch device such as `cpu` or `cuda:0`.
        dtype: Number format of the weights, float32 if not given.
        offload: What waits in the memory of the host: `none`, a whole `model` that is not in use, or all but the layer
            in use (`sequential`).
        without: Parts that are left out, such as a large text encoder that the pipeline can do without.
        safetensors_only: Whether pickled weights are refused, which can run any program when they are read.

    Raises:
        UnknownModelError: There is no such model, or not in this form, or the hub cannot be reached and the model is
            not in its cache.
        UnsafeModelError: It has pickled weights and no safetensors.
        DamagedModelError: Its files are not those that its card pins.
    """
    import diffusers
    import torch
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder, entry = model_folder(model), entry_of(model)
    source = str(folder) if folder is not None else entry.hub if entry is not None else model
    release = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    keyword = "dtype" if release >= (0, 42) else "torch_dtype"  # the older spelling warns since 0.42
    try:
        if folder is not None and not (folder / INDEX_FILE).is_file():  # a path must not be taken for a hub id
            raise FileNotFoundError(f"there is no {folder / INDEX_FILE}")
        if folder is not None:
            check_digests(folder, model)
            if safetensors_only:
                check_safetensors(folder, model, without)
        options: dict[str, Any] = {keyword: dtype or torch.float32, **dict.fromkeys(without)}
        if safetensors_only:
            options["use_safetensors"] = True
        pipeline = diffusers.DiffusionPipeline.from_pretrained(source, **options)
    except UnknownModelError:
        raise
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        if safetensors_only and "safetensors" in str(error):  # what both libraries say where there are only others
            raise UnsafeModelError(unsafe(model)) from error
        if model in embedded_models():  # a damaged installation, not a wrong name
            raise
        raise UnknownModelError(
            f'unknown model "{model}": use an embedded model ({", ".join(embedded_models())}), a diffusers folder that '
            f"holds {INDEX_FILE}, or the id of a diffusers model on a hub that can be reached from here"
            f"{', with its weights as safetensors' if safetensors_only else ''}"
        ) from error
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline = pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
