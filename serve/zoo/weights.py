# SPDX-License-Identifier: Apache-2.0
"""Files of a model before they are loaded: weights as safetensors alone, and the digests that a card pins.

Pickled weights (`.bin`, `.ckpt`, `.pt`) are programs: reading them runs what their author wrote. Safetensors hold
numbers and nothing else, so no other weights are read, from folders or hubs. A digest tells damage, and files of
another version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

INFO_FILE = "edgegen.json"
PINS = "sha256"
"""Field of the card with the SHA-256 digest of every other file that is loaded, by its path in the folder."""
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
"""Endings of the names of pickled weights."""
UNPINNED = (INFO_FILE, "README.md", "profile.json")
"""Files of a model's folder that say something of it and are no part of it."""


class UnknownModelError(ValueError):
    """A model name that stands for no embedded model, folder or reachable hub id."""


class UnsafeModelError(UnknownModelError):
    """A model with pickled weights and no safetensors."""


class DamagedModelError(UnknownModelError):
    """A model whose files are not those that its card pins."""


def pinned_files(folder: Path) -> dict[str, str]:
    """Return the digests of the files of a model's folder that are loaded, by path in the folder with `/`."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name: digest(folder / name) for name in sorted(names - set(UNPINNED))}


def digest(path: Path) -> str:
    """Return the SHA-256 digest of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_safetensors(folder: Path, model: str, without: Collection[str] = ()) -> None:
    """Refuse the folder of a pipeline with a part that has pickled weights and no safetensors.

    Args:
        folder: Folder of a diffusers pipeline.
        model: What the model is called, for the sentence.
        without: Parts that are not loaded.

    Raises:
        UnsafeModelError: If there is such a part.
    """
    for path in sorted(folder.rglob("*")):
        part = path.relative_to(folder).parts[0]
        if path.suffix in PICKLED and part not in without and not any(path.parent.glob("*.safetensors")):
            raise UnsafeModelError(unsafe(model, path.relative_to(folder).as_posix()))


def check_digests(folder: Path, model: str) -> None:
    """Refuse a folder with files that are not what its card pins.

    Args:
        folder: Folder of a diffusers pipeline. Without a card, or a card without digests, nothing is compared.
        model: What the model is called, for the sentence.

    Raises:
        DamagedModelError: A pinned file is missing, or differs.
        UnknownModelError: The digests can not be read.
    """
    for name, pinned in _pins(folder).items():
        path = folder / name
        if not path.is_file():
            raise DamagedModelError(
                f'the model "{model}" is damaged: its file {name} is missing; install or train it again'
            )
        found = digest(path)
        if found != pinned:
            raise DamagedModelError(
                f'the model "{model}" is damaged: the SHA-256 of its file {name} is {found[:12]}…, but its card pins '
                f"{pinned[:12]}…; install or train it again"
            )


def unsafe(model: str, what: str = "") -> str:
    """Return the sentence about a model without safetensors.

    Args:
        model: What the model is called.
        what: A pickled file, if one is known.
    """
    found = f" ({what})" if what else ""
    return (
        f'the model "{model}" can not be loaded with its weights as safetensors: it has others{found}, and pickled '
        "ones can run any program when they are read; convert them, or take a model that has safetensors"
    )


def _pins(folder: Path) -> dict[str, str]:
    path = folder / INFO_FILE
    if not path.is_file():
        return {}
    try:
        pins: Any = json.loads(path.read_text(encoding="utf-8")).get(PINS, {})
        return {str(name): str(pinned) for name, pinned in pins.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UnknownModelError(f"the model card '{path}' can not be read ({type(error).__name__}: {error})") from None
