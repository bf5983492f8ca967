# SPDX-License-Identifier: Apache-2.0
"""Recorded traffic of a fleet: which trace, and what of it is played."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.fields import Frozen
from edgegen.envs.core.named_files import PARQUET, find_file, is_file_name, names_in
from edgegen.envs.core.paths import as_path
from edgegen.envs.fleet.records import read_trace
from edgegen.envs.fleet.traces import COLUMNS, Floats, Ints, Trace

RECORDING_FOLDER = Path(__file__).parents[1] / "recording_files"

MOST_NAMED = 5
"""Names in a message."""

Column = Literal["model", "pictures", "steps", "work"]


class Sums(NamedTuple):
    """Sums over all recorded requests of each rank ``[R]``, each counted by its work; None what is not played.

    Attributes:
        requests: Of 1.
        pictures: Of the pictures.
        steps: Of the steps.
        both: Of steps times pictures, where both are played.
    """

    requests: Floats
    pictures: Floats | None
    steps: Floats | None
    both: Floats | None


class Recorded(Frozen):
    """Requests that come when they were recorded, and are what they were.

    An episode plays a window of the trace, which begins at a time that is drawn and goes on with the first request
    after the last one. Time is stretched or shortened so that the whole trace has the scenario's load.

    Attributes:
        trace: Name of a shipped trace, the path of a ``.parquet`` file as ``edgegen trace import`` writes it, or that
            of a folder in which a service has recorded its requests.
        columns: What is played of it beside the times; all that it has if not given. The rest is drawn. Models are
            taken by popularity: which of the world's models is the most popular one, and so on, is drawn per episode,
            and where the trace has more models, several stand for one. ``work`` is a factor on the time of a request
            that is known when it is done.
        names: What the trace calls the models of the world, in their order, so that each request is for the model that
            it was for. Without them models are taken by popularity.
        content: ``trace``, a colon and the file in base64, so that a scenario that is saved stands alone. Read where it
            is not given, or that of another trace, because somebody changed the name in a saved scenario.
    """

    trace: str
    columns: Annotated[tuple[Column, ...], Field(max_length=len(COLUMNS))] | None = None
    names: Annotated[tuple[str, ...], Field(max_length=1000)] = ()
    content: str = Field(default="", repr=False)

    @model_validator(mode="before")
    @classmethod
    def _read_if_named(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("trace"), str):
            return data
        trace, content = data["trace"], data.get("content", "")
        if isinstance(content, str) and content.rpartition(":")[0] != trace:
            return {**data, "content": f"{trace}:{read_content(trace)}"}
        return data

    @model_validator(mode="after")
    def _has_what_is_played(self) -> Self:
        try:
            known = self.requests.columns
        except InputError as error:
            raise ValueError(str(error).rstrip(".")) from None
        missing = [name for name in self.columns or () if name not in known]
        if missing:
            raise ValueError(
                f"recorded.columns names {', '.join(missing)}, but of the trace '{self.trace}' can be played: "
                f"{', '.join(known) or 'the times only'}"
            )
        unknown = [name for name in self.requests.names if self.names and name not in self.names]
        if self.names and (unknown or len(set(self.names)) < len(self.names) or not self.plays("model")):
            raise ValueError(
                f"recorded.names must name every model of the trace '{self.trace}' once, and its models must be played"
                + (f"; it lacks {', '.join(unknown[:MOST_NAMED])}" if unknown else "")
            )
        return self

    @property
    def requests(self) -> Trace:
        """The trace."""
        return _decoded(self.content)

    def plays(self, column: Column) -> bool:
        """Whether a column of the trace is played."""
        return column in (self.requests.columns if self.columns is None else self.columns)

    def models(self, models: int) -> Ints:
        """Which of so many models, by popularity, each request asks for ``[N]``; all the first if they are drawn.

        With names they are the models of these names.
        """
        rank = self.requests.rank
        if rank is None or not self.plays("model"):
            return np.zeros(len(self.requests), dtype=np.int64)
        if self.names:
            return np.array([self.names.index(name) for name in self.requests.names])[rank]
        return rank % models

    def sums(self, models: int) -> Sums:
        """Sums over the requests of each of so many models at most."""
        trace = self.requests
        model = self.models(models)
        weight = trace.factor if trace.factor is not None and self.plays("work") else np.ones(len(trace))
        pictures = trace.pictures if self.plays("pictures") else None
        steps = trace.steps if self.plays("steps") else None

        def of(*columns: Floats | None) -> Floats | None:
            product = weight
            for column in columns:
                if column is None:
                    return None
                product = product * column
            return np.bincount(model, product).astype(np.float64)

        return Sums(np.bincount(model, weight).astype(np.float64), of(pictures), of(steps), of(steps, pictures))


def read_content(name_or_path: str) -> str:
    """The content of a trace, in base64: one that is shipped, by name, or any, by the path of a file or folder.

    Raises:
        InputError: If there is no such trace, or it can not be read.
    """
    if not is_file_name(name_or_path, PARQUET) and name_or_path not in names_in(RECORDING_FOLDER, PARQUET[0]):
        folder = as_path(name_or_path, "Recording")
        if folder.is_dir():
            return base64.b64encode(read_trace(folder).to_parquet({"recorded_in": name_or_path})).decode()
    path = find_file(name_or_path, RECORDING_FOLDER, "recording", endings=PARQUET)
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InputError(f"Recording '{path}' can not be read: {(error.strerror or str(error)).lower()}.") from None


@lru_cache(maxsize=8)
def _decoded(content: str) -> Trace:
    name, _, code = content.rpartition(":")
    what = f"Recording '{name}'"
    try:
        data = base64.b64decode(code, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{what} has a content that is no base64.") from None
    return Trace.from_parquet(data, what)
