# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.serve.profile.model_profile import ModelProfile, read_profile, write_profile

FIELDS = {
    "model": "toy",
    "device": "cpu",
    "machine": "a processor, 2 cores",
    "size_gb": 2.0,
    "load_s": 8.0,
    "load_from_host_s": 1.0,
    "step_s": 0.1,
    "fixed_s": 0.5,
    "further_picture": 0.25,
    "quality": [{"steps": 2, "quality": 0.4, "low": 0.3, "high": 0.5}, {"steps": 6, "quality": 0.8}],
    "least_steps": 2,
    "full_steps": 6,
    "batch_steps": 6,
    "batch": [{"pictures": 1, "time_s": 1.1}, {"pictures": 4, "time_s": 1.55, "low_s": 1.5, "high_s": 1.6}],
    "intervals": {"step_s": [0.09, 0.11]},
}


def test_times_are_those_of_the_formula_by_hand():
    profile = ModelProfile.model_validate(FIELDS)
    assert profile.time_s(6) == pytest.approx(0.5 + 0.6)
    assert profile.time_s(6, pictures=4) == pytest.approx(0.5 + 0.6 * 1.75)


@pytest.mark.parametrize(("steps", "quality"), [(0, 0), (1, 0.2), (2, 0.4), (3, 0.5), (6, 0.8), (50, 0.8)])
def test_quality_is_straight_between_points(steps, quality):
    assert ModelProfile.model_validate(FIELDS).quality_at(steps) == pytest.approx(quality)


def test_a_profile_survives_its_file(tmp_path):
    profile, path = ModelProfile.model_validate(FIELDS), tmp_path / "profile.json"
    write_profile(profile, path)
    assert read_profile(path) == profile
    assert [entry.name for entry in tmp_path.iterdir()] == ["profile.json"]
    assert json.loads(path.read_text())["format"] == "edgegen-model-profile-1"


def test_the_schema_names_every_field_for_others():
    schema = ModelProfile.model_json_schema()
    assert set(schema["required"]) < set(ModelProfile.model_fields) == set(schema["properties"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size_gb": 0}, "size_gb"),
        ({"load_s": -1}, "load_s"),
        ({"step_s": "fast"}, "step_s"),
        ({"step_s": float("nan")}, "step_s"),
        ({"further_picture": -0.1}, "further_picture"),
        ({"quality": []}, "quality"),
        ({"quality": [{"steps": 2, "quality": 1.2}]}, "quality.0.quality"),
        ({"quality": [{"steps": 2, "quality": 0.2, "low": 0.3}]}, "must lie between low and high"),
        ({"quality": [{"steps": 4, "quality": 0.2}, {"steps": 4, "quality": 0.3}]}, "quality must rise, but 4 follows"),
        ({"batch": [{"pictures": 2, "time_s": 1}, {"pictures": 1, "time_s": 1}]}, "batch must rise, but 1 follows 2"),
        ({"batch": [{"pictures": 2, "time_s": 1, "high_s": 0.9}]}, "must lie between low_s and high_s"),
        ({"least_steps": 7}, r"least_steps (7) must not exceed full_steps (6)"),
        ({"intervals": {"step_s": [0.2, 0.3]}}, "step_s is 0.1, but must lie in its interval from 0.2 to 0.3"),
        ({"host": "cellar"}, "host"),
        ({"format": "edgegen-model-profile-9"}, "format"),
        ({"colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_bad_fields_are_one_sentence_that_names_them(changes, sentence, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({**FIELDS, **changes}))
    with pytest.raises(InputError) as caught:
        read_profile(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["model", "size_gb", "quality", "full_steps"])
def test_a_missing_field_is_named(missing, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({name: value for name, value in FIELDS.items() if name != missing}))
    with pytest.raises(InputError, match=f"the field '{missing}' is missing"):
        read_profile(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_what_is_no_profile_is_refused(text, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"can not be read|must hold a JSON object"):
        read_profile(path)
    with pytest.raises(InputError, match="There is no profile file"):
        read_profile(tmp_path / "nothing.json")
