# SPDX-License-Identifier: Apache-2.0
"""What is recorded of the requests of a service, and where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from edgegen.envs.core.fields import Frozen, Positive, Real, Whole
from edgegen.envs.core.paths import WRITTEN, as_path


class RecordConfig(Frozen):
    """A recording.

    Attributes:
        folder: Folder of the files. All gateways write to it, each to files of its own.
        prompts: What is written of prompts: ``none``, a ``hash`` that is the same for the same prompt in this folder
            and can not be made without its key, or the ``text``.
        file_rows: Most rows of a file.
        file_s: Longest time until a file is closed and a Parquet file is made of it, s.
        keep_mb: Most megabytes of Parquet files; beyond that the oldest are deleted. All are kept if left out.
    """

    folder: Annotated[str, Field(min_length=1)]
    prompts: Literal["none", "hash", "text"] = "none"
    file_rows: Annotated[Whole, Field(ge=1, le=1_000_000)] = 50_000
    file_s: Annotated[Real, Field(ge=1, le=604_800)] = 3600.0
    keep_mb: Positive | None = None

    @field_validator("folder")
    @classmethod
    def _can_be_a_folder(cls, folder: str) -> str:
        path = as_path(folder, "Folder", WRITTEN)
        if path.is_file():
            raise ValueError("is a file; give the name of a folder")
        return folder
