# SPDX-License-Identifier: Apache-2.0
"""The catalogue of well-known hub models: what they are called, and what a server has to know before it loads one.

None of them ships with the package: they load when their weights are in the cache of the hub or the hub can be reached.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from edgegen.envs.core.fields import Count, Frozen, NonNegative, Positive
from edgegen.envs.core.yaml_files import read_mapping

CATALOGUE = Path(__file__).with_suffix(".yaml")


class Entry(Frozen):
    """A model of the hub.

    Attributes:
        hub: Its id there.
        steps: Denoising steps of a normal request.
        guidance: Classifier-free guidance scale of a normal request.
        native_size: Width and height of its pictures, pixels.
        size_gb: Its weights in half precision, GB (10⁹ bytes).
    """

    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    steps: Count
    guidance: NonNegative
    native_size: Count
    size_gb: Positive


@cache
def catalogue() -> dict[str, Entry]:
    """Return the entries by short name."""
    return {name: Entry.model_validate(fields) for name, fields in read_mapping(CATALOGUE, "Catalogue").items()}


def entry_of(model: str) -> Entry | None:
    """Return the entry of a short name or a hub id, None if there is none."""
    return next((entry for name, entry in catalogue().items() if model in (name, entry.hub)), None)
