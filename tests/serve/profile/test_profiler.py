# SPDX-License-Identifier: Apache-2.0
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.provisioning.curves import load_curves
from edgegen.serve.profile import profiler
from edgegen.serve.profile.curve_report import Provenance, make_report
from edgegen.serve.profile.measurements import Holding, Profile, ProfileRequest, StepPoint
from edgegen.serve.profile.picture_quality import Estimate
from edgegen.serve.profile.profiler import run_profile

STEPS = (1, 2, 4, 8, 16, 32)
PROVENANCE = Provenance("edgegen profile --seed 0", "a processor, 2 cores", {"torch": "2.4"}, "2030-01-02")


@pytest.fixture(autouse=True)
def loads(monkeypatch):
    """One counted load instead of three, which is all that most tests need."""
    monkeypatch.setattr(profiler, "LOADS", 1)


def made_up(qualities, *, busy=1.0, threads=1, device="cpu", slope=0.02, steps=STEPS):
    """A profile without a model: ``qualities`` by measure and step count."""
    points = []
    for index, count in enumerate(steps):
        cpu = tuple(slope * count + 0.05 + late for late in (0.004, 0.0, 0.02))
        quality = {
            name: Estimate(values[index], values[index] - 1, values[index] + 1, 2.0)
            for name, values in qualities.items()
        }
        points.append(StepPoint(count, tuple(busy * value for value in cpu), cpu, 0.01, quality))
    request = ProfileRequest("toy", tuple(steps), device=device)
    return Profile(request, 2.0, (64, 64, 3), threads, Holding(3.0, 0.2, 0.014, 0.1, None), tuple(points))


FALLING = {"tv": [90, 90, 50, 10, 10, 10], "distance": [50, 40, 30, 20, 10, 0]}
RISING = {"tv": [10, 12, 20, 30, 31, 31], "distance": [50, 40, 30, 20, 10, 0]}


def test_the_least_processor_time_of_one_thread_makes_the_line():
    report = make_report(made_up(FALLING, busy=1.5), PROVENANCE)
    assert report.profile.clock == "cpu"
    assert (report.time.b1_s_per_step, report.time.b2_s) == pytest.approx((0.02, 0.05))
    assert (report.median_time.b1_s_per_step, report.median_time.b2_s) == pytest.approx((0.02, 0.054))
    assert report.profile.busyness == pytest.approx(1.5)
    assert any("1.50 times their processor time" in note for note in report.notes())


@pytest.mark.parametrize("where", [{"threads": 2}, {"device": "cuda:0"}])
def test_wall_time_counts_where_processor_time_says_little(where):
    report = make_report(made_up(FALLING, busy=1.5, **where), PROVENANCE)
    assert report.profile.clock == "wall"
    assert report.time.b1_s_per_step == pytest.approx(0.03)
    assert not any("busy" in note for note in report.notes())


def test_a_good_curve_needs_no_note_and_loads(tmp_path):
    report = make_report(made_up(FALLING), PROVENANCE)
    assert report.measure == "tv"
    assert report.notes() == []
    path = tmp_path / "toy.yaml"
    path.write_text(report.curve_file(), encoding="utf-8")
    loaded = load_curves(path)
    assert loaded == report.curve_set()
    (curve,) = loaded.curves
    assert (curve.a1_steps, curve.a2_tv, curve.a3_steps, curve.a4_tv) == pytest.approx((2, 90, 6, 10), rel=0.3)
    assert (curve.b1_s_per_step, curve.b2_s) == pytest.approx((0.02, 0.05))
    assert (curve.model, curve.load_s, curve.size_gb) == ("toy", 0.2, 0.014)
    for part in ("edgegen profile --seed 0", "a processor, 2 cores", "torch 2.4", "2030-01-02", "1 thread", "float32"):
        assert part in loaded.source
    assert "total variation" in loaded.quality


def test_every_measured_point_is_in_the_file():
    lines = make_report(made_up(FALLING), PROVENANCE).curve_file().splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("# steps"))
    rows = [line.split() for line in lines[head + 1 : head + 1 + len(STEPS)]]
    assert [int(row[1]) for row in rows] == list(STEPS)
    assert [float(row[2]) for row in rows] == pytest.approx([0.02 * steps + 0.05 for steps in STEPS])


def test_quality_that_gets_worse_is_said_and_still_a_valid_file(tmp_path):
    report = make_report(made_up(RISING), PROVENANCE)
    notes = " ".join(report.notes())
    assert "Not monotone: tv rises by 21 between 1 and 16 steps" in notes
    assert "Flat: tv does not fall" in notes
    path = tmp_path / "toy.yaml"
    path.write_text(report.curve_file(), encoding="utf-8")
    loaded = load_curves(path)
    assert loaded.curves[0].a2_tv == loaded.curves[0].a4_tv
    assert "Not monotone" in loaded.description
    assert make_report(made_up(RISING), PROVENANCE, "distance").quality.a2 > 0


def test_an_unfinished_fall_and_poor_fits_are_said():
    unfinished = {"tv": [31, 30.5, 29.5, 27.5, 23.5, 15.5], "distance": FALLING["distance"]}
    assert any("Not saturated" in note for note in make_report(made_up(unfinished), PROVENANCE).notes())
    bumpy = {"tv": [50, 90, 20, 60, 30, 40], "distance": FALLING["distance"]}
    assert any("Poor fit" in note for note in make_report(made_up(bumpy), PROVENANCE).notes())
    profile = made_up(FALLING)
    points = tuple(
        replace(point, cpu_s=(0.1 + 0.1 * (index % 2),) * 3, wall_s=(0.2,) * 3)
        for index, point in enumerate(profile.points)
    )
    assert any("Poor line" in note for note in make_report(replace(profile, points=points), PROVENANCE).notes())


def test_residuals_of_few_counts_are_not_taken_for_a_good_fit():
    few = {name: values[:5] for name, values in FALLING.items()}
    report = make_report(made_up(few, steps=STEPS[:5]), PROVENANCE)
    assert report.quality.r_squared == pytest.approx(1)
    assert any("Few counts" in note and "with 5 step counts" in note for note in report.notes())


def test_constants_have_the_digits_of_the_worst_quality(tmp_path):
    report = make_report(made_up(FALLING), PROVENANCE)
    fit = replace(report.quality, a2=98.76543, a4=1.234567e-7, rms=0.01234567)
    (curve,) = replace(report, qualities={"tv": fit}).curve_set().curves
    assert (curve.a2_tv, curve.a4_tv, curve.tv_residual) == (98.765, 0, 0.012)
    empty = replace(report.quality, a2=0.0, a4=0.0, rms=0.0)
    assert replace(report, qualities={"tv": empty}).curve_set().curves[0].a2_tv == 0


def test_a_measure_that_was_not_taken_is_refused():
    with pytest.raises(InputError, match="'inaccuracy' was not measured; use tv or distance"):
        make_report(made_up(FALLING), PROVENANCE, "inaccuracy")


def test_json_has_total_variation_in_every_unit():
    data = make_report(made_up(FALLING), PROVENANCE).to_json()
    row = data["points"][0]
    assert row["tv_per_pixel"] == pytest.approx(90 / 255)
    assert row["tv_total"] == pytest.approx(90 / 255 * 64 * 64 * 3)
    assert data["format"] == "edgegen-profile-1"
    assert set(data["quality_fits"]) == {"tv", "distance"}


@pytest.fixture(scope="module")
def measured():
    """A small profile of the embedded model, for real."""
    return run_profile(ProfileRequest("shapes-64", (1, 2, 4, 8), pictures=12, repeats=2, seed=3))


def test_the_embedded_model_is_profiled(measured, tmp_path):
    assert [point.steps for point in measured.points] == [1, 2, 4, 8]
    assert measured.picture_shape == (64, 64, 3)
    assert measured.guidance == 2.0
    for point in measured.points:
        assert len(point.wall_s) == len(point.cpu_s) == 2
        assert min(*point.wall_s, *point.cpu_s, point.batch_wall_s) > 0
        assert point.time_s("wall", statistics.median) == statistics.median(point.wall_s)
    # The three weight files hold 14.2 MB.
    assert measured.holding.weights_gb == pytest.approx(0.0142, abs=0.0002)
    assert measured.holding.gpu_peak_gb is None
    report = make_report(measured, PROVENANCE)
    assert report.measure == "inaccuracy"
    (tmp_path / "shapes.yaml").write_text(report.curve_file(), encoding="utf-8")
    (curve,) = load_curves(tmp_path / "shapes.yaml").curves
    # One step shows nothing, and from four steps on nearly every picture is right.
    assert curve.a2_tv > 80
    assert curve.a4_tv < 20
    assert curve.a3_steps <= 8


def test_quality_is_repeatable_and_unfinished_pictures_are_far_from_finished_ones(measured):
    again = run_profile(ProfileRequest("shapes-64", (2, 8), pictures=12, repeats=1, seed=3, batch=5))
    for name, estimate in again.points[0].quality.items():
        # Another batch size rounds differently.
        assert estimate.mean == pytest.approx(measured.points[1].quality[name].mean, rel=1e-2), name
    distances = [point.quality["distance"].mean for point in measured.points]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == 0


def test_a_folder_without_a_judge_is_profiled(tiny_pipeline):
    measured = run_profile(ProfileRequest(tiny_pipeline, (1, 2), pictures=2, repeats=1, prompts=("abc",)))
    assert measured.picture_shape == (16, 16, 3)
    assert set(measured.points[0].quality) == {"tv", "distance"}
    assert make_report(measured, PROVENANCE).measure == "tv"


def test_an_unconditional_pipeline_is_profiled(tmp_path):
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    network = UNet2DModel(sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, **blocks)
    DDIMPipeline(network, DDIMScheduler()).save_pretrained(tmp_path)
    measured = run_profile(ProfileRequest(str(tmp_path), (1, 3), pictures=3, repeats=1, batch=2))
    assert measured.picture_shape == (8, 8, 3)
    assert all(math.isfinite(point.quality["tv"].mean) for point in measured.points)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"device": "cuda:99"}, "Device 'cuda:99' can not be used"),
        ({"device": "toaster"}, "Device 'toaster' can not be used"),
        ({"dtype": "float7"}, "Number format 'float7' is unknown"),
        ({"dtype": "int64"}, "Number format 'int64' is unknown"),
        ({"dtype": "float8_e4m3fn"}, "Number format 'float8_e4m3fn' is unknown"),
        ({"steps": (1, 1001)}, "1000 noise levels"),
        ({"prompts": ("a sonnet",)}, "Prompt accuracy can not be judged: not a caption"),
    ],
)
def test_what_can_not_be_measured_is_refused_in_one_sentence(changes, sentence):
    request = replace(ProfileRequest("shapes-64", (1, 2), pictures=2, repeats=1), **changes)
    with pytest.raises(InputError) as caught:
        run_profile(request)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_the_judge_can_not_read_are_refused(tiny_pipeline):
    request = ProfileRequest(tiny_pipeline, (1, 2), pictures=2, repeats=1, judged=True)
    with pytest.raises(InputError, match="64 x 64 x 3"):
        run_profile(request)


def test_an_unknown_model_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"^Unknown model .*model_index\.json.*\.$") as caught:
        run_profile(ProfileRequest(str(tmp_path), (1, 2)))
    assert "\n" not in str(caught.value)


def test_values_that_are_no_numbers_are_refused(measured, monkeypatch):
    class Broken:
        def __init__(self):
            self.components = {}

        def __call__(self, prompt, num_inference_steps, generator, output_type):
            return type("Output", (), {"images": np.full((len(prompt), 4, 4, 3), np.nan)})

    monkeypatch.setattr(profiler, "load_pipeline", lambda *given: Broken())
    with pytest.raises(InputError, match="try another --dtype"):
        run_profile(ProfileRequest("broken", (1, 2), pictures=1, repeats=1))


def test_a_pipeline_without_step_counts_is_refused(monkeypatch):
    monkeypatch.setattr(profiler, "load_pipeline", lambda *given: lambda prompt: None)
    with pytest.raises(InputError, match="takes no prompt and step count"):
        run_profile(ProfileRequest("other", (1, 2), pictures=1, repeats=1))


@pytest.mark.parametrize(
    "error", [ValueError("`image` must be given.\nSee the docs."), TypeError("`image` must be given")]
)
def test_a_pipeline_that_wants_more_than_a_prompt_is_refused(monkeypatch, error):
    class Inpainting:
        def __init__(self):
            self.components = {}

        def __call__(self, prompt, num_inference_steps, image=None, **other):
            raise error

    monkeypatch.setattr(profiler, "load_pipeline", lambda *given: Inpainting())
    sentence = r"its Inpainting makes no picture of a prompt alone \(`image` must be given\)\.$"
    with pytest.raises(InputError, match=sentence):
        run_profile(ProfileRequest("other", (1, 2), pictures=1, repeats=1))
