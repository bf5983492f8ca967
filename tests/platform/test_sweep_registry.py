# SPDX-License-Identifier: Apache-2.0
"""From a policy folder to ``models:/NAME@champion`` and back, as MLflow and as every command sees it."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.codec import save_policy
from edgegen.algorithms.core.registered import fetch, how_to_look, is_registered, pinned
from edgegen.algorithms.methods.ladts import LADTSPolicy
from edgegen.algorithms.methods.t2drl import T2DRLPolicy, T2DRLSpec
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.envs.core.errors import InputError
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.urls import shown
from edgegen.platform.cli import app
from edgegen.platform.records.gate import Judge
from edgegen.platform.records.lineage import lineage
from edgegen.platform.records.model_flavor import PolicyModel
from edgegen.platform.records.model_registry import CHALLENGER, CHAMPION, Candidate, register
from edgegen.platform.records.tracking import Store
from edgegen.platform.runs.rule_search import TuneRequest
from edgegen.platform.runs.tuning import tune
from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.registering import model_of

BUDGET = {"trials": 1, "episodes": 4, "report_every": 4}
SWEEP = make_sweep(
    {
        "name": "small",
        "algorithm": "ladts",
        "overrides": {"slots": 4, "tasks_per_slot.high": 3},
        "settings": {"hidden": 8},
        "space": {"actor_lr": {"uniform": [0.1, 1]}},
        "budget": BUDGET,
        "evaluation": {"episodes": 4},
    }
)
WORLD: Any = SWEEP.world


def ladts_policy(folder):
    """Write an untrained policy."""
    torch.manual_seed(0)
    actor = router_for(WORLD, SWEEP.settings({"actor_lr": 0.5})).actor()
    save_policy(LADTSPolicy(actor, None), folder, WORLD, {"seed": 0})
    return folder


def candidate(folder, run, sweep, description=""):
    return Candidate(f"policy {sweep}", folder, run, {"sweep": sweep}, description)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    patch.setenv("EDGEGEN_CACHE", str(folder / "cache"))
    yield Store(folder)
    patch.undo()


@pytest.fixture(scope="module")
def registered(store, tmp_path_factory):
    """A policy, registered; returns its folder and what became of it."""
    folder = ladts_policy(tmp_path_factory.mktemp("policy") / "policy")
    run = store.create_run("trained", {}, {})
    return folder, register(store, model_of(SWEEP), candidate(folder, run, "1", "the first"))


def test_registering_twice_is_registering_once(store, registered):
    folder, first = registered
    assert (first.name, first.version, first.alias) == ("edgegen-small", "1", CHAMPION)
    again = register(store, model_of(SWEEP), candidate(folder, store.create_run("x", {}, {}), "1", "the first"))
    assert (again.version, again.alias) == ("1", CHAMPION)
    assert len(store.client.search_model_versions("name='edgegen-small'")) == 1


def test_a_registered_policy_decides_like_its_folder(registered):
    folder, _ = registered
    observation = OffloadingWorld(WORLD, 3).reset(seed=5)
    decided = []
    for name in (
        str(folder),
        "models:/edgegen-small@champion",
        "models:/edgegen-small/1",
        "models:/edgegen-small/latest",
    ):
        policy = make_policy(name, SWEEP.world, 4)
        decided.append(policy.act("router", observation, policy.begin("router", observation), explore=False)[0])
    for other in decided[1:]:
        assert torch.equal(decided[0], other)


def test_the_model_has_a_signature_that_its_input_has_to_fit(store, registered):
    import mlflow

    model = mlflow.pyfunc.load_model("models:/edgegen-small@champion")
    names = model.metadata.signature.inputs.input_names()
    assert {"backlog_gcycles", "tasks.present", "tasks.size_mbit"} <= set(names)
    assert model.metadata.signature.outputs.input_names() == ["server"]
    given = PolicyModel(make_policy(str(registered[0]), SWEEP.world), SWEEP.world).example_input()
    policy = make_policy(str(registered[0]), SWEEP.world, 3)
    observation = OffloadingWorld(WORLD, 1).reset(seed=0)
    expected, _ = policy.act("router", observation, policy.begin("router", observation), explore=True)
    assert np.array_equal(model.predict(given, params={"sample": True, "seed": 3})["server"], expected.numpy())
    with pytest.raises(mlflow.exceptions.MlflowException, match="backlog_gcycles"):
        model.predict({**given, "backlog_gcycles": given["backlog_gcycles"][:, :2]})


def test_only_a_better_policy_becomes_champion(store, registered, tmp_path, monkeypatch):
    scores: dict[Any, float] = {}
    monkeypatch.setattr(Judge, "values", lambda self, at: np.full(2, scores.get(at, 1.0)))
    worse, better = ladts_policy(tmp_path / "worse"), ladts_policy(tmp_path / "better")
    scores |= {worse: 1.5, better: 0.5}
    run = store.create_run("y", {}, {})
    second = register(store, model_of(SWEEP), candidate(worse, run, "2"))
    assert (second.version, second.alias) == ("2", CHALLENGER)
    assert "1.5, champion 1 has 1 on the same 2 episodes (difference +0.5 [+0.5, +0.5])" in second.reason
    third = register(store, model_of(SWEEP), candidate(better, run, "3"))
    assert (third.version, third.alias) == ("3", CHAMPION)
    aliases = {
        name: int(version) for name, version in store.client.get_registered_model("edgegen-small").aliases.items()
    }
    assert aliases == {CHAMPION: 3, CHALLENGER: 2}
    assert pinned("models:/edgegen-small@champion") == "models:/edgegen-small/3"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The policy folder of a rule that was tuned."""
    request = TuneRequest("priced-greedy", SWEEP.world, 2, 1)
    return tune(request, tmp_path_factory.mktemp("tuned") / "run", False, False, lambda trials, wanted: None).policy


def aliases_of(store, name):
    return {alias: int(version) for alias, version in store.client.get_registered_model(name).aliases.items()}


@pytest.mark.parametrize(
    ("own", "bar", "before", "aliases", "reason"),
    [
        # No champion yet: whichever is better becomes it.
        (
            1.5,
            0.5,
            None,
            {CHALLENGER: 1, CHAMPION: 2},
            "tuned rule is champion, as version 2. There was none before.",
        ),
        (0.5, 1.5, None, {CHAMPION: 1}, "There was none before."),
        # A champion that is better than both stays.
        (1.5, 0.5, 0.4, {CHAMPION: 1, CHALLENGER: 2}, "tuned rule is not champion. Not better: mean_delay_s 0.5"),
        (
            1.5,
            0.5,
            0.6,
            {CHAMPION: 3, CHALLENGER: 2},
            "is champion, as version 3. Better: mean_delay_s 0.5, champion 1",
        ),
        # The bar is no champion itself where the policy is better.
        (0.3, 0.5, 0.4, {CHAMPION: 2}, "Better: mean_delay_s 0.3, champion 1 has 0.4"),
    ],
)
def test_a_tuned_rule_is_the_bar_for_the_champion(
    store, tuned, tmp_path, monkeypatch, own, bar, before, aliases, reason
):
    name = f"bar-{own}-{bar}-{before}"
    sweep = make_sweep({**SWEEP.spec.model_dump(), "model": name})
    folder = ladts_policy(tmp_path / "own")
    scores = {folder: own, tuned: bar}
    monkeypatch.setattr(Judge, "values", lambda self, at: np.full(2, scores.get(at, before)))
    run = store.create_run("z", {}, {})
    if before is not None:
        register(store, model_of(sweep), candidate(ladts_policy(tmp_path / "before"), run, "before"))
    rival = Candidate("tuned rule", tuned, run, {"sweep": "bar"}, "")
    for _ in range(2):  # a resumed sweep registers again
        done = register(store, model_of(sweep), candidate(folder, run, "own"), rival)
        assert aliases_of(store, name) == aliases
        assert aliases[done.alias] == int(done.version)
        if _ == 0:
            assert reason in done.reason
    if own > bar:
        assert "Not above the bar: mean_delay_s 1.5, tuned rule has 0.5 on the same 2 episodes" in done.reason


@pytest.mark.parametrize(
    ("own", "bar", "champion", "alias", "reason"),
    [
        # Better on average, and no more than luck: the interval holds zero.
        ([0.9, 0.7, 1.1], None, [1.0, 1.0, 0.9], CHALLENGER, "Not better: mean_delay_s 0.9, champion 1 has 0.9667"),
        ([0.8, 0.79, 0.81], None, [1.0, 1.0, 0.9], CHAMPION, "Better: mean_delay_s 0.8, champion 1 has 0.9667"),
        (
            [0.8, 0.79, 0.81],
            [0.9, 0.7, 1.1],
            [1, 1, 1],
            CHALLENGER,
            "Not above the bar: mean_delay_s 0.8, a-rule has 0.9",
        ),
        (
            [0.8, 0.79, 0.81],
            [0.9, 0.91, 0.9],
            [1, 1, 1],
            CHAMPION,
            "Above the bar: mean_delay_s 0.8, a-rule has 0.9033",
        ),
        ([0.5], None, [1.0], CHALLENGER, "one episode tells no interval"),
    ],
)
def test_luck_does_not_pass_the_gate(store, tmp_path, monkeypatch, request, own, bar, champion, alias, reason):
    name = f"gate-{request.node.callspec.indices['own']}"
    model = dataclasses.replace(model_of(SWEEP), name=name)
    mine, run = ladts_policy(tmp_path / "mine"), store.create_run("z", {}, {})
    register(store, model, candidate(ladts_policy(tmp_path / "before"), run, "before"))
    values = {mine: own, "a-rule": bar}
    monkeypatch.setattr(Judge, "values", lambda self, at: np.array(values.get(at, champion), dtype=float))
    done = register(store, model, candidate(mine, run, "mine"), "a-rule" if bar else None)
    assert done.alias == alias
    assert reason in done.reason
    assert aliases_of(store, name)[CHAMPION] == (2 if alias == CHAMPION else 1)


def test_force_makes_champion_and_says_so(store, tmp_path, monkeypatch):
    model = dataclasses.replace(model_of(SWEEP), name="forced")
    worse, run = ladts_policy(tmp_path / "worse"), store.create_run("z", {}, {})
    register(store, model, candidate(ladts_policy(tmp_path / "before"), run, "before"))
    monkeypatch.setattr(Judge, "values", lambda self, at: np.full(3, 2.0 if at == worse else 1.0))
    done = register(store, model, candidate(worse, run, "worse"), "least-delay", force=True)
    assert (done.alias, done.version) == (CHAMPION, "2")
    assert done.reason.startswith("Forced. Not above the bar: mean_delay_s 2, least-delay has 1")
    assert aliases_of(store, "forced") == {CHAMPION: 2}
    tags = store.client.get_model_version("forced", "2").tags
    assert tags["edgegen.forced"].startswith("Not above the bar")


def test_where_a_policy_comes_from_is_told(monkeypatch):
    monkeypatch.setenv("EDGEGEN_IMAGE", "registry/edgegen:1")
    monkeypatch.setenv("EDGEGEN_JOB", "train-7")
    told = lineage(SWEEP.world)
    assert (told["edgegen.image"], told["edgegen.job"]) == ("registry/edgegen:1", "train-7")
    assert told["edgegen.dataset"] == lineage(SWEEP.world.model_copy(update={"name": "other"}))["edgegen.dataset"]
    assert told["edgegen.dataset"] != lineage(SWEEP.world.model_copy(update={"slots": 9}))["edgegen.dataset"]
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", told.get("edgegen.git_commit", "0" * 40))
    monkeypatch.setenv("PATH", "")
    assert "edgegen.git_commit" not in lineage(SWEEP.world)


def test_a_tuned_rule_is_loaded_and_called_like_any_policy(store, tuned):
    import mlflow

    sweep = make_sweep({**SWEEP.spec.model_dump(), "model": "rule"})
    register(store, model_of(sweep), candidate(tuned, store.create_run("z", {}, {}), "t"))
    model = mlflow.pyfunc.load_model("models:/rule@champion")
    policy = make_policy("models:/rule@champion", sweep.world, 3)
    assert policy.name == "priced-greedy (tuned)"
    given = PolicyModel(policy, sweep.world).example_input()
    assert isinstance(sweep.world, OffloadingScenario)
    observation = OffloadingWorld(sweep.world, 1).reset(seed=0)
    expected, _ = policy.act("router", observation, policy.begin("router", observation), explore=False)
    assert np.array_equal(model.predict(given)["server"], expected.numpy())


def test_a_champion_that_can_not_be_fetched_here_stays(store, registered, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("EDGEGEN_CACHE", str(tmp_path / "cache"))
    version = register(
        store, model_of(SWEEP), candidate(ladts_policy(tmp_path / "new"), store.create_run("z", {}, {}), "4")
    )
    assert version.alias == CHALLENGER
    assert "can not be played at present" in version.reason


def test_a_provisioning_policy_is_a_model_too(store, tmp_path):
    import mlflow

    sweep = make_sweep(
        {
            "name": "provisioning",
            "algorithm": "t2drl",
            "settings": {"hidden": 8, "cacher_hidden": 8},
            "space": {"actor_lr": {"uniform": [0.1, 1]}},
            "budget": BUDGET,
        }
    )
    assert isinstance(sweep.world, ProvisioningScenario)
    spec = T2DRLSpec.of(sweep.world, sweep.settings({"actor_lr": 0.5}))
    policy = T2DRLPolicy(spec, spec.actor(), spec.cacher(), sweep.world)
    save_policy(policy, tmp_path / "policy", sweep.world, {"seed": 0})
    done = register(store, model_of(sweep), candidate(tmp_path / "policy", store.create_run("z", {}, {}), "p"))
    decided = mlflow.pyfunc.load_model(done.uri).predict(PolicyModel(policy, sweep.world).example_input())
    cells, users, models = sweep.world.cells, sweep.world.users, sweep.world.models
    assert decided["cache"].shape == (1, cells, models)
    assert decided["bandwidth"].shape == decided["compute"].shape == (1, cells, users)
    assert decided["bandwidth"].sum() == pytest.approx(1, abs=1e-4)


def test_evaluate_and_compare_take_registered_models(registered):
    tiny = ["--set", "slots=4", "--set", "tasks_per_slot.high=3", "--episodes", "2"]
    for command in (["evaluate", "models:/edgegen-small/1"], ["compare", "models:/edgegen-small@champion", "uniform"]):
        result = CliRunner().invoke(app, [*command, *tiny])
        assert result.exit_code == 0, result.stderr
        assert "lad-ts" in result.stdout or "edgegen-small@champion" in result.stdout


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("models:/edgegen-small", "must look like models:/NAME@ALIAS"),
        ("models:/edgegen-small/best", "versions are numbers"),
        ("models:/edgegen-small/99", "no version 99"),
        ("models:/edgegen-smal@champion", "Did you mean 'edgegen-small'?"),
        ("models:/edgegen-small@chmpion", "Did you mean 'champion'?"),
    ],
)
def test_names_of_models_that_are_not_there(registered, uri, sentence):
    result = CliRunner().invoke(app, ["evaluate", uri])
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_without_a_registry_it_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(InputError, match=r"there is no MLflow database .*none\.db"):
        fetch("models:/x@champion")
    assert not list(tmp_path.iterdir())


def test_passwords_are_not_printed():
    assert shown("postgresql://me:secret@host:5432/db") == "postgresql://me:***@host:5432/db"
    assert shown("http://host:5000") == "http://host:5000"
    assert shown("request to http://me:secret@host:5000/api failed") == "request to http://me:***@host:5000/api failed"
    assert how_to_look("http://me:secret@host:5000") == "http://me:***@host:5000"
    assert how_to_look("sqlite:///runs/mlflow.db") == "mlflow ui --backend-store-uri sqlite:///runs/mlflow.db"


@pytest.mark.parametrize("uri", ["nosuchdriver://me:secret@host/db", "http://[::1"])
def test_a_store_that_can_not_be_opened_is_one_sentence(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match="can not be used") as refused:
        pinned("models:/x@champion")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not is_registered("runs/models")


def test_a_service_keeps_the_version_it_began_with(registered, monkeypatch):
    pytest.importorskip("diffusers")
    from edgegen.serve.config import load_config
    from edgegen.serve.kinds import cast

    def policy(name):
        return cast.lasting(load_config("demo", {"policy": name})).policy

    assert policy("least-delay") == "least-delay"
    assert policy("models:/edgegen-small/1") == str(fetch("models:/edgegen-small/1"))  # a database is a file of here
    monkeypatch.setattr(cast, "tracking_uri", lambda: "http://tracking:5000")
    monkeypatch.setattr(cast, "pinned", lambda name: pinned("models:/edgegen-small/1"))
    assert policy("models:/edgegen-small@champion") == "models:/edgegen-small/1"  # each replica fetches
    several = policy("router=models:/edgegen-small@champion cacher=price-greedy")
    assert several == "router=models:/edgegen-small/1 cacher=price-greedy"
