# SPDX-License-Identifier: Apache-2.0
"""Curves: numbers worked out by hand, files that come back as they were, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.named_files import names_in
from edgegen.envs.core.yaml_files import dump_yaml
from edgegen.envs.provisioning.curves import CURVE_FOLDER, Curve, CurveSet, CurveTensors, load_curves


def curve(**changes: Any) -> Curve:
    values = {"a1_steps": 60, "a2_tv": 110, "a3_steps": 170, "a4_tv": 28, "b1_s_per_step": 0.18, "b2_s": 5.74}
    return Curve(**values | changes)


def test_quality_and_time_by_hand() -> None:
    steps = torch.tensor([0, 59, 60, 115, 170, 999])
    # Halfway between A1 and A3 quality is halfway between A2 and A4: (110 + 28) / 2.
    torch.testing.assert_close(curve().tv(steps), torch.tensor([110.0, 110, 110, 69, 28, 28]))
    # 0.18 * 100 + 5.74
    torch.testing.assert_close(curve().time_s(torch.tensor([[0.0, 100]])), torch.tensor([[5.74, 23.74]]))
    assert curve().tv(torch.tensor(115.0)).shape == ()
    assert curve(a3_steps=169.2).saturation_steps == 170


def test_many_curves_are_evaluated_side_by_side() -> None:
    curves = [curve(), curve(a1_steps=0, a3_steps=100, b2_s=0)]
    tensors = CurveTensors.of(curves, dtype=torch.float64)
    steps = torch.tensor([[0.0], [50], [130]], dtype=torch.float64)
    torch.testing.assert_close(tensors.tv(steps), torch.stack([c.tv(steps[:, 0]) for c in curves], dim=1))
    torch.testing.assert_close(tensors.time_s(steps), torch.stack([c.time_s(steps[:, 0]) for c in curves], dim=1))
    assert tensors.saturation_steps.tolist() == [170, 100]


def test_shipped_curves_load() -> None:
    assert "t2drl-assumed" in names_in(CURVE_FOLDER)
    for name in names_in(CURVE_FOLDER):
        assert load_curves(name).source
    assert load_curves("t2drl-assumed").per_model(3) == (curve(),) * 3


def test_a_written_file_reads_back_equal(tmp_path: Path) -> None:
    measured = curve(model="tiny", tv_residual=1.5, time_residual_s=0.01, load_s=3, size_gb=0.2)
    curves = CurveSet(source="a laptop, yesterday", description="Zwei Größen: groß & klein", curves=(measured, curve()))
    (tmp_path / "lab.yaml").write_text(dump_yaml(curves.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    assert load_curves(tmp_path / "lab.yaml") == curves
    assert curves.per_model(2) == (measured, curve())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- 1\n", "must hold a mapping"),
        ("a: [\n", "can not be read"),
        ("curves: []\n", "'source' is missing"),
        ("source: x\ncurves: []\ncurvs: []\n", "'curves' is \\[\\], but tuple should have at least 1 item"),
        ("a1_steps: 169.9999999", r"a3_steps \(170\) must exceed a1_steps \(170\)"),
        ("a3_steps: 1e7", "'curves.0.a3_steps' is 10000000.0, but input should be less than or equal to 1000000"),
        ("a2_tv: 1e39", r"'curves.0.a2_tv' is 1e\+39, but must be finite"),
        ("a3_steps: 50", r"a3_steps \(50\) must exceed a1_steps \(60\)"),
        ("a3_steps: 60", r"a3_steps \(60\) must exceed a1_steps \(60\)"),
        ("a4_tv: 111", r"a4_tv \(111\) must not exceed a2_tv \(110\), because lower is better"),
        ("b1_s_per_step: -1", r"'curves.0.b1_s_per_step' is -1"),
        ("a1_stps: 1", r"unknown field 'curves.0.a1_stps'.*Did you mean 'a1_steps'\?"),
    ],
)
def test_impossible_files_are_refused_in_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    if "source" not in text and text[-1] != "\n":  # one changed constant
        name, value = text.split(": ")
        values = {**curve().model_dump(include={"a1_steps", "a2_tv", "a3_steps", "a4_tv", "b1_s_per_step", "b2_s"})}
        text = "source: x\ncurves:\n- " + str({**values, name: float(value)}) + "\n"
    (tmp_path / "lab.yaml").write_text(text)
    with pytest.raises(InputError, match=complaint) as refused:
        load_curves(tmp_path / "lab.yaml")
    assert "\n" not in str(refused.value)


def test_unknown_curves_are_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"Unknown curves 't2drl-asumed'.*Did you mean 't2drl-assumed'\?"):
        load_curves("t2drl-asumed")
    with pytest.raises(ValueError, match="2 curves for 3 models"):
        CurveSet(source="x", curves=(curve(), curve())).per_model(3)
