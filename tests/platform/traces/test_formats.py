# SPDX-License-Identifier: Apache-2.0
"""Files that others recorded, as traces: by hand, and every kind of wrong file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.traces import Trace
from edgegen.platform.cli import app
from edgegen.platform.traces.formats import read_format

HEADERS = {
    "azure-llm-2023": "TIMESTAMP,ContextTokens,GeneratedTokens\n",
    "gentd26": "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,negative_prompt_length,"
    "num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora\n",
    "edgegen": "arrival_s,model,pictures,steps,work\n",
}
AZURE = HEADERS["azure-llm-2023"] + "2023-11-16 18:15:46.5000000,374,44\r\n2023-11-16 18:15:50.7500001,396,88\r\n"
GENTD = HEADERS["gentd26"] + (
    "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0,63.0,26.0,1.0,30.0,M0,0\n"
    "2024-11-15 18:16:14,TXT_2_IMG,FAILED,43.0,G1,93.0,,4.0,40.0,M1,0\n"
    "2024-11-15 18:16:20,TXT_2_IMG,SUCCEED,43.0,G1,,,,,,0\n"
    "2024-11-16 00:00:00,TXT_2_IMG,SUCCEED,43.0,G1,93.0,,4.0,40.0,M1,0\n"
    "2024-11-16 00:00:00,TXT_2_IMG,SUCCEED,43.0,G1,93.0,,4.0,40.0,M1,0\n"
)
OWN = HEADERS["edgegen"] + "5,cat,1,20,1\n6.5,dog,2,30,2\n6.5,cat,1,20,1\n"


def run(folder: Path, text: str, form: str, *more: str):
    (folder / "in.csv").write_text(text)
    words = ["trace", "import", str(folder / "in.csv"), "--format", form, "--out", str(folder / "t.parquet"), *more]
    return CliRunner().invoke(app, words)


def imported(folder: Path, text: str, form: str) -> tuple[Any, dict[str, Any]]:
    result = run(folder, text, form, "--json", str(folder / "facts.json"))
    assert result.exit_code == 0, result.output
    facts = json.loads((folder / "facts.json").read_text())
    return Trace.from_parquet((folder / "t.parquet").read_bytes(), "Trace"), facts


def test_azure(tmp_path: Path) -> None:
    trace, facts = imported(tmp_path, AZURE, "azure-llm-2023")
    assert trace.arrival_s.tolist() == [0, 4.2500001]
    assert trace.work.tolist() == [44, 88]
    assert trace.columns == ("work",)
    assert facts["columns"] == ["arrival_s", "work"]
    assert facts["requests"] == 2
    assert facts["models"] == 0


def test_gentd26(tmp_path: Path) -> None:
    trace, facts = imported(tmp_path, GENTD, "gentd26")
    assert trace.arrival_s.tolist() == [0, 4704, 25330, 25330]
    assert [trace.names[rank] for rank in trace.rank] == ["M0", "M1", "M1", "M1"]
    assert trace.pictures.tolist() == [1, 4, 4, 4]
    assert trace.steps.tolist() == [30, 40, 40, 40]
    assert facts["left_out"] == 1
    assert facts["duplicates"] == 1
    assert facts["longest_gap_s"] == 20626


def test_own_files_and_the_same_bytes_again(tmp_path: Path) -> None:
    trace, _ = imported(tmp_path, OWN, "edgegen")
    assert trace.arrival_s.tolist() == [0, 1.5, 1.5]
    assert trace.names == ("cat", "dog")
    assert trace.work.tolist() == [1, 2, 1]
    first = (tmp_path / "t.parquet").read_bytes()
    imported(tmp_path, OWN, "edgegen")
    assert (tmp_path / "t.parquet").read_bytes() == first
    again = CliRunner().invoke(
        app, ["trace", "import", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "again.parquet")]
    )
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.parquet").read_bytes() == first


def test_gaps_are_counted(tmp_path: Path) -> None:
    times = [*range(300), 100_000, *range(100_001, 100_300)]
    _, facts = imported(tmp_path, "arrival_s\n" + "".join(f"{time}\n" for time in times), "edgegen")
    assert facts["gaps"] == 1
    assert facts["longest_gap_s"] == 100_000 - 299
    assert facts["duplicates"] == 0


A, G, E = HEADERS


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        (A, "", "is empty; it needs the header TIMESTAMP,ContextTokens,GeneratedTokens"),
        (A, HEADERS[A], "has no requests, only a header"),
        (A, GENTD, "has no column 'TIMESTAMP'; it needs TIMESTAMP, ContextTokens, Gener"),
        (A, AZURE.replace("TIMESTAMP", "TIMESTAMP,Region,Tier"), "unknown columns 'Region', 'Tier'; it"),
        (A, AZURE + "2023-11-16 18:15:40,1,1\n", "line 4: the clock runs backwards, from 2023-11-16 18:15:50"),
        (A, AZURE + "yesterday,1,1\n", "line 4: the column 'TIMESTAMP' is 'yesterday', but must be a time"),
        (A, AZURE + "\n\n9999-11-16 18:15:40,1,1\n", "line 6: the column 'TIMESTAMP' is '9999-11-16"),
        (A, AZURE + "2023-11-16 19:00:00,1,many\n", "line 4: the column 'GeneratedTokens' is 'many', but"),
        (A, AZURE + "2023-11-16 19:00:00,1\n", "line 4: the column 'GeneratedTokens' is '', but must be"),
        (A, AZURE + "2023-11-16 19:00:00,-1,1\n", "line 4: the column 'ContextTokens' is '-1', but"),
        (G, GENTD + "2024-11-17 00:00:00,,,,,,,4.5,40,M1,0\n", "line 7: the column 'num_images_per_prompt' is '4.5'"),
        (G, GENTD + "2024-11-17 00:00:00,,,,,,,4,,M1,0\n", "line 7: the column 'num_inference_steps' is '', but"),
        (G, GENTD + "2024-11-17 00:00:00,,,,,,,4,40,,0\n", "line 7: the column 'checkpoint_model_version_id' is"),
        (G, GENTD + "2024-11-14 00:00:00,,,,,,,,,,0\n", "line 7: the clock runs backwards"),
        (G, HEADERS[G] + "2024-11-17 00:00:00,,,,,,,,,,0\n", "says of no request which model"),
        (E, OWN.replace("arrival_s", "arrivals"), "has no column 'arrival_s'"),
        (E, OWN + "nan,cat,1,20,1\n", "line 5: the column 'arrival_s' is 'nan', but must be a number from 0"),
        (E, OWN + "7,cat,1,20,inf\n", "line 5: the column 'work' is 'inf', but must be a number from 1e-12"),
        (E, OWN + "7,cat,0,20,1\n", "line 5: the column 'pictures' is '0', but must be a whole number from 1"),
        (E, OWN + "6,cat,1,20,1\n", "line 5: the clock runs backwards, from 6.5 to 6.0"),
        (E, "arrival_s\n3\n", "needs requests at two times or more"),
        (E, "arrival_s;model\n3;a\n", "separated by semicolons"),
        ("azure", AZURE, "There is no format 'azure'; --format must be one of gentd26, azure-llm-2023, edgegen."),
    ],
)  # fmt: skip
def test_wrong_files_are_refused_in_a_sentence_and_leave_nothing(
    form: str, text: str, said: str, tmp_path: Path
) -> None:
    result = run(tmp_path, text, form)
    assert result.exit_code == 2, (result.output, result.exception)
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "t.parquet").exists()


def test_the_trace_has_to_be_a_parquet_file_and_not_the_one_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(OWN)
    other = CliRunner().invoke(app, ["trace", "import", str(tmp_path / "in.csv"), "--out", str(tmp_path / "t.csv")])
    assert other.exit_code == 2
    assert "must end in .parquet" in other.stderr
    same = CliRunner().invoke(app, ["trace", "import", str(tmp_path / "in.csv"), "--out", str(tmp_path / "in.csv")])
    assert same.exit_code == 2
    assert "is both the recorded file and the trace" in same.stderr


@pytest.mark.skipif("EDGEGEN_GENTD26" not in os.environ, reason="EDGEGEN_GENTD26 names no request file")
def test_the_public_file_becomes_a_fleet(tmp_path: Path) -> None:
    found: Any = read_format(Path(os.environ["EDGEGEN_GENTD26"]), "gentd26")
    assert (found.facts["requests"], found.facts["models"], found.left_out) == (26_798, 86, 25)
    share = np.bincount(found.trace.rank) / len(found.trace)
    assert share[:10].sum() == pytest.approx(0.87, abs=0.01)
    assert np.mean(found.trace.steps == 30) == pytest.approx(0.91, abs=0.01)
    (tmp_path / "t.parquet").write_bytes(found.trace.to_parquet({}))
    world = load_scenario("fleet-gentd", {"recorded.trace": str(tmp_path / "t.parquet"), "frames": 400})
    requests = draw_requests(world, 1, range(4))
    assert (requests.number > 1000).all()
