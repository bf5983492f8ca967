# SPDX-License-Identifier: Apache-2.0
"""YAML: words mean what they say, keys stand once, and what is no YAML is told in one sentence."""

import math
from pathlib import Path

import pytest
import yaml

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.yaml_files import dump_yaml, parse_yaml, read_mapping
from edgegen.envs.provisioning.curves import load_curves
from edgegen.serve.config import load_config

TEXTS = ["yes", "No", "on", "OFF", "y", "1:30", "190:20:30", "1_0", "010", "-007", "0o10", "0x1F", "0b1", "2001-01-01"]
TEXTS += ["2001-12-14t21:59:43.10-05:00", "tRUE", "1e", "1,5", "0x", "+", ".", "=", "1.2.3", "08.5"]


@pytest.mark.parametrize("text", TEXTS)
def test_words_that_only_yaml_1_1_takes_for_something_else_are_texts(text: str) -> None:
    assert parse_yaml(text) == text
    assert parse_yaml(f"[{text if ',' not in text else repr(text)}]") == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("+5", 5),
        ("1e-3", 1e-3),
        ("-2E3", -2e3),
        ("1.", 1.0),
        (".5", 0.5),
        ("1.5e+2", 150.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
    ],
)
def test_numbers_truth_values_and_nothing(text: str, value: object) -> None:
    parsed = parse_yaml(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "value", [*TEXTS, "1e5", "0o7", "", "~", "<<", "true", 1e-5, 3, None, True, [".5", {"a": "1e-3"}]]
)
def test_what_is_written_is_read_back(value: object) -> None:
    assert parse_yaml(dump_yaml({"key": value})) == {"key": value}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\nb: 2\na: 1\n", "'a' stands twice, in lines 1 and 3"),
        ("variants:\n  calm: {slots: 3}\n  calm: {slots: 4}\n", "'variants.calm' stands twice, in lines 2 and 3"),
        ("models:\n- {b: 1, 'b': 2}\n", "'models.0.b' stands twice, in line 2"),
        ("a: &x {b: 1}\nc: {<<: *x, <<: *x}\n", "'c.<<' stands twice, in line 2"),
        ("1: a\n'1': b\n", "'1' stands twice"),
        ("a: 1\n---\nb: 2\n", "expected a single document in the stream but found another document in line 2"),
        ("a:\n\tb: 1\n", "in line 2; lines are indented with spaces, not tabs"),
        ("a: [1, 2\n", "while parsing a flow sequence"),
        ("a: &x [*x]\n", "an alias stands inside of what it refers to in line 1"),
        ("a: *x\n", "undefined alias"),
        ("a: !!int yes\n", "'yes' is not a whole number in line 1"),
        ("a: !!timestamp x\n", "could not determine a constructor"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("? [a]\n: 1\n", "a list or a mapping stands where a name is needed in line 1"),
        ("a: " + "9" * 5000, "a number has 5000 digits, but may have at most 400"),
        ("a: " + "[" * 10_000, "more than 50 levels deep"),
        ("a: " + "[" * 10_000 + "]" * 10_000, "more than 50 levels deep"),
        ("a\0: 1", "control characters are not allowed"),
        ("a: \udcff", "surrogates not allowed"),
    ],
)
def test_what_can_not_be_read_is_told_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(yaml.YAMLError) as refused:
        parse_yaml(text)
    assert complaint in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_aliases_can_be_used_but_not_to_repeat_without_end() -> None:
    assert parse_yaml("a: &x {b: 1, c: 2}\nd: *x\ne:\n  b: 3\n  <<: *x\n") == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 2},
        "e": {"b": 3, "c": 2},
    }
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 40))
    with pytest.raises(yaml.YAMLError, match="there are more than 1000000 values, counting what aliases repeat"):
        parse_yaml(bomb)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "must hold a mapping of fields, not nothing"),
        (b"# only this\n", "must hold a mapping of fields, not nothing"),
        (b"- 1\n", "must hold a mapping of fields, not a list"),
        (b"words\n", "must hold a mapping of fields, not 'words'"),
        (b"\xff\xfea\x00", "can not be read: 'utf-8' codec"),
        (b"a: 1\na: 2\n", "can not be read: 'a' stands twice, in lines 1 and 2, but may stand only once."),
    ],
)
def test_files_that_hold_no_fields_are_refused_in_one_sentence(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "lab.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_mapping(path, "Lab file")
    assert str(refused.value).startswith(f"Lab file '{path}' ")
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_byte_order_mark_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_bytes(b"\xef\xbb\xbfextends: demo\nslots: 3\n")
    assert load_scenario(tmp_path / "lab.yaml").slots == 3


@pytest.mark.parametrize("load", [load_scenario, load_curves, load_config])
def test_every_kind_of_file_has_its_keys_once(tmp_path: Path, load) -> None:
    (tmp_path / "lab.yaml").write_text("name: a\ncurves: []\nname: a\n")
    with pytest.raises(InputError, match="'name' stands twice, in lines 1 and 3"):
        load(tmp_path / "lab.yaml")
