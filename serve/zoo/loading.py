"""From a model name to a ready diffusers pipeline.

An embedded name such as `shapes-64` stands for a folder that ships with the package. A path is a diffusers folder, with
`~` as a home folder. Every other string goes to `DiffusionPipeline.from_pretrained` as it is, for example a hub id.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MODELS = Path(__file__).resolve().parent / "models"
INDEX_FILE = "model_index.json"
INFO_FILE = "edgegen.json"
PATHS_BEGIN = ("/", "./", "../", "~")
"""Beginnings of names that are paths, even of folders that do not exist."""


class UnknownModelError(ValueError):
    """A model name that stands for no embedded model, folder or reachable hub id."""


@dataclass(frozen=True)
class ModelInfo:
    """What a server needs to know before it runs a model.

    Attributes:
        name: The name that was asked for.
        native_size: Width and height of its pictures in pixels; None leaves the choice to the pipeline.
        default_steps: Denoising steps of a normal request.
        default_guidance: Classifier-free guidance scale of a normal request.
        example_prompt: A prompt that the model can paint.
    """

    name: str
    native_size: int | None = None
    default_steps: int = 20
    default_guidance: float = 7.5
    example_prompt: str = "a red circle"


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
        model: An embedded name, a diffusers folder or a hub id. Folders without an `edgegen.json` and hub ids get the
            general defaults of `ModelInfo`.

    Raises:
        UnknownModelError: If the `edgegen.json` of the model can not be read or lacks a field.
    """
    folder = model_folder(model)
    if folder is None or not (folder / INFO_FILE).is_file():
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
    safetensors_only: bool = False,
) -> Any:
    """Load a pipeline, silent and on its device.

    Args:
        model: An embedded name, a diffusers folder or a hub id.
        device: A torch device such as `cpu` or `cuda:0`.
        dtype: Number format of the weights, float32 if not given.
        offload: What waits in the memory of the host: `none`, a whole `model` that is not in use, or all but the layer
            in use (`sequential`).
        without: Parts that are left out, such as a large text encoder that the pipeline can do without.
        safetensors_only: Whether weights in other forms are refused, which may bring code along.

    Raises:
        UnknownModelError: There is no such model, or not in this form, or the hub cannot be reached and the model is
            not in its cache.
    """
    import diffusers
    import torch
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder = model_folder(model)
    source = model if folder is None else str(folder)
    release = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    keyword = "dtype" if release >= (0, 42) else "torch_dtype"  # the older spelling warns since 0.42
    try:
        if folder is not None and not (folder / INDEX_FILE).is_file():  # a path must not be taken for a hub id
            raise FileNotFoundError(f"there is no {folder / INDEX_FILE}")
        options: dict[str, Any] = {keyword: dtype or torch.float32, **dict.fromkeys(without)}
        if safetensors_only:
            options["use_safetensors"] = True
        pipeline = diffusers.DiffusionPipeline.from_pretrained(source, **options)
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
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
