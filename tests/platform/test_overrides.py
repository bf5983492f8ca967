# SPDX-License-Identifier: Apache-2.0
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.platform.overrides import parse_overrides, split_overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("-2E3", -2000.0),
        ("true", True),
        ("none", "none"),
        ("[1, 2.5, 1e2]", [1, 2.5, 100.0]),
        ("{low: 1, high: 9}", {"low": 1, "high": 9}),
        ("a=b", "a=b"),
        ("'3'", "3"),
        ("yes", "yes"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("1_0", "1_0"),
        ("[on, 0x1F, 2001-01-01]", ["on", "0x1F", "2001-01-01"]),
    ],
)
def test_values_are_yaml(text, value):
    parsed = parse_overrides([f"key={text}"])["key"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_the_last_of_a_repeated_key_holds():
    assert parse_overrides(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}


@pytest.mark.parametrize("text", ["", "key", "=3", "key=", "key=[1, 2", "key=null"])
def test_what_is_no_setting_is_refused(text):
    with pytest.raises(InputError):
        parse_overrides([text])


def test_names_go_to_whoever_has_them():
    overrides = {"slots": 1, "tasks.high": 2, "gamma": 3, "scenario.both": 4, "algorithm.both": 5}
    assert split_overrides(overrides, {"slots", "tasks", "both"}, {"gamma", "both"}) == (
        {"slots": 1, "tasks.high": 2, "both": 4},
        {"gamma": 3, "both": 5},
    )


def test_a_name_of_both_must_say_whose():
    with pytest.raises(InputError, match=r"write scenario\.both or algorithm\.both"):
        split_overrides({"both": 1}, {"both"}, {"both"})


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(InputError, match="Did you mean 'gamma'"):
        split_overrides({"gama": 1}, {"slots"}, {"gamma"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{low: 1, low: 2}", "'{low: 1, low: 2}' is not a YAML value .*: 'low' stands twice, in line 1, but may stand"),
        ("[" * 10_000, r"'\[{77}\.\.\.' is not a YAML value .*more than 50 levels deep"),
        ("3\n---\n4", "'3 --- 4' is not a YAML value"),
        ("\udcff", "surrogates not allowed"),
        ("a\0b", "control characters are not allowed"),
    ],
)
def test_what_is_no_value_is_refused_in_one_sentence(text, complaint):
    with pytest.raises(InputError, match=f"^--set key: .*{complaint}") as refused:
        parse_overrides([f"key={text}"])
    assert "\n" not in str(refused.value)
