# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from rich.console import Console

from edgegen.algorithms.core.rulebook import rules_for
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.records.tracking import URI_VARIABLE
from edgegen.platform.runs import demo


@pytest.mark.e2e
def test_training_and_comparison_leave_everything_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.delenv(URI_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    small = load_scenario("demo", {"slots": 4, "tasks_per_slot.high": 3})
    monkeypatch.setattr(demo, "load_scenario", lambda name: small)
    out = Console(width=170)
    request = demo.DemoRequest(
        out=tmp_path / "demo",
        episodes=4,
        service_episodes=4,
        evaluation_episodes=2,
        trials=2,
        sequences=1,
        seed=0,
        serve=False,
        keep=False,
        port=None,
    )
    with out.capture() as captured:
        demo.run_demo(request, out, Console(stderr=True, quiet=True))
    text = captured.get()
    assert "lad-ts" in text
    assert f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/demo/mlflow.db" in text
    data = json.loads((tmp_path / "demo" / "comparison.json").read_text())
    assert set(data["policies"]) == {"lad-ts", *rules_for(small)}
    for name in ("comparison.png", "comparison.svg", "mlflow.db", "train/learning_curve.png"):
        assert (tmp_path / "demo" / name).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
