"""Study files: YAML, shipped or anybody's, read and checked field by field."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from edgegen.envs.errors import InputError, did_you_mean, from_validation
from edgegen.platform.studies.spec import Axis, Claim, Experiment, Extent, Method, Point, Published, StudySpec

STUDY_FOLDER = Path(__file__).parent


def study_names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in STUDY_FOLDER.glob("*.yaml"))


def read_study(name_or_path: str) -> StudySpec:
    """Read a shipped study by name, or any by path.

    Raises:
        InputError: If there is none, or a field in it is wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = STUDY_FOLDER / f"{name_or_path}.yaml"
        if not path.is_file():
            names = study_names()
            raise InputError(
                f"Unknown study '{name_or_path}'; studies are {', '.join(names)}, or give the path of a .yaml file."
                f"{did_you_mean(name_or_path, names)}"
            )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no study file '{path}'.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"Study file '{path}' can not be read: {' '.join(str(error).split())}.") from None
    if not isinstance(data, dict):
        raise InputError(f"Study file '{path}' must hold a mapping of fields, not {type(data).__name__}.")
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
