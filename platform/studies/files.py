# SPDX-License-Identifier: Apache-2.0
"""Study files: YAML, shipped or anybody's, read and checked field by field."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from edgegen.envs.core.errors import from_validation
from edgegen.envs.core.named_files import find_file
from edgegen.envs.core.plugins import with_plugins
from edgegen.envs.core.yaml_files import read_mapping
from edgegen.platform.studies.spec import Axis, Claim, Experiment, Extent, Method, Point, Published, StudySpec

STUDY_FOLDER = Path(__file__).parent


def study_file(name_or_path: str) -> Path:
    """Return the file of a shipped study, or of any that is given by path.

    Raises:
        InputError: If there is none.
    """
    return find_file(name_or_path, STUDY_FOLDER, "study")


def read_study(name_or_path: str) -> StudySpec:
    """Read a shipped study by name, or any by path.

    Raises:
        InputError: If there is none, or a field in it is wrong.
    """
    path = study_file(name_or_path)
    data = with_plugins(read_mapping(path, "Study file"), path, ("algorithm", "rules", "tuned"))
    data.setdefault("name", path.stem)
    try:
        return StudySpec.model_validate(data)
    except ValidationError as error:
        raise from_validation(error, f"Study '{data['name']}'", _fields_at(error)) from None


def _fields_at(error: ValidationError) -> list[str]:
    """Names of the fields that are known where the first complaint is."""
    by_name: dict[str, type[BaseModel]] = {
        "methods": Method,
        "experiments": Experiment,
        "full": Extent,
        "quick": Extent,
        "axis": Axis,
        "points": Point,
        "published": Published,
        "claims": Claim,
    }
    model: type[BaseModel] = StudySpec
    for part in error.errors(include_url=False)[0]["loc"][:-1]:
        model = by_name.get(str(part), model)
    return list(model.model_fields)
