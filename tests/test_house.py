# SPDX-License-Identifier: Apache-2.0
"""What keeps the house in order: who may know which kind, who plays a world, and who imports whom."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("envs", "algorithms", "serve", "platform")
KINDS = ("offloading", "provisioning", "fleet")

REGISTRY = "envs/core/kinds.py"

FOR_ALL = (
    *("envs/core/", "algorithms/core/", "algorithms/nets/", "serve/control/", "serve/http/", "platform/engine/"),
    *("platform/records/", "platform/sweeps/", "platform/figures/"),
)
"""Folders that work for every kind."""

LOOPS = {
    "algorithms/core/play.py": "the loop that plays every world",
    "platform/runs/replay.py": "no world: the equations serve the tasks of a trace, and empty slots are jumped over",
    "platform/records/model_flavor.py": "asks a policy once for every role, to see what goes in and comes out",
    "platform/bench/offloading.py": "no policy: times the bare simulator, with actions drawn beforehand",
    "platform/bench/provisioning.py": "the same",
}
"""Loops in which decisions are made or taken, by file, and why each is there."""

TURNS = {
    "envs/core/agents.py": "other libraries take the turns",
    "envs/offloading/agents.py": "the same",
    "envs/offloading/batched.py": "the same, of many copies at once",
    "algorithms/rllib/runner.py": "training stops in the middle of an episode, is stored, and goes on",
    "serve/control/seat.py": "a live service decides when a request comes",
}
"""Functions and classes that look and decide once at a time, by file, whenever somebody else says so."""

PRIVATE = {
    "algorithms/rllib/private.py": "RLlib's",
    "algorithms/rllib/private_learners.py": "Train's, which only remote learners import",
    "algorithms/rllib/private_core.py": "those of Ray's core, without importing RLlib",
}
"""Files that may touch private parts of Ray."""

OPEN = {"_check_component"}
"""Private by name, but what RLlib tells subclasses of ``Checkpointable`` to use in ``get_state``."""

MAY_IMPORT = {
    "envs": {"envs"},
    "algorithms": {"envs", "algorithms"},
    "serve": {"envs", "algorithms", "serve"},
    "platform": {"envs", "algorithms", "serve", "platform"},
}


@cache
def sources() -> dict[str, ast.Module]:
    """All modules of the package, parsed, by path below the root."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def module_of(path: str) -> str:
    return "edgegen." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(tree: ast.AST) -> Iterator[str]:
    """Names of modules and of what is imported from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def prose(tree: ast.AST) -> set[int]:
    """Strings that are statements of their own: docstrings."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def kinds_known(tree: ast.AST) -> set[str]:
    """Kinds that code names: in an import, in a string that is nothing else, or in the name of a class."""
    docstrings = prose(tree)
    words = [part for name in imports(tree) for part in name.split(".")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words.append(node.value)
        elif isinstance(node, ast.Name):
            words.append(node.id)
    return {kind for kind in KINDS for word in words if word == kind or word.startswith(kind.capitalize())}


def calls(tree: ast.AST) -> set[str]:
    """Names of the methods that are called in a piece of code."""
    found = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.attr for function in found if isinstance(function, ast.Attribute)}


def test_every_file_names_its_licence() -> None:
    for room in (*ROOMS, "tests", "examples", "docs", "k8s"):
        for path in (ROOT / room).rglob("*.py"):
            head = path.read_text(encoding="utf-8").splitlines()[:2]
            assert not head or "# SPDX-License-Identifier: Apache-2.0" in head, path


def test_only_the_registry_names_more_than_one_kind() -> None:
    for path, tree in sources().items():
        known = kinds_known(tree)
        assert len(known) < 2 or path == REGISTRY, f"{path} names {known}; let it ask the registry, or split it by kind"


def test_what_is_for_all_kinds_names_none() -> None:
    for path, tree in sources().items():
        known = kinds_known(tree)
        assert not known or path == REGISTRY or not path.startswith(FOR_ALL), f"{path} names {known}"


def test_the_registry_knows_all_kinds_that_are_looked_for() -> None:
    assert kinds_known(sources()[REGISTRY]) == set(KINDS)
    rooms = {path.name for path in (ROOT / "envs").iterdir() if (path / "kind.py").exists()}
    assert rooms == set(KINDS)


def asked_for(node: ast.AST) -> str:
    """Classes that code asks for: by isinstance or issubclass, by comparing a type, or in a pattern."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
        return ast.unparse(node.args[1])
    if isinstance(node, ast.Compare) and any("type(" in ast.unparse(side) for side in (node.left, *node.comparators)):
        return ast.unparse(node)
    return ast.unparse(node.cls) if isinstance(node, ast.MatchClass) else ""


def test_nobody_asks_what_a_scenario_a_policy_or_a_result_is() -> None:
    """By its class. But ``as_scenario`` in envs/core takes scenarios, names and paths, and plugins may be anything."""
    classes = re.compile(r"\w*(Scenario|Policy|Results?|World|View|Outcome)\b")
    for path, tree in sources().items():
        if path.startswith("envs/core/") or path == "algorithms/core/plugged.py":
            continue
        for node in ast.walk(tree):
            if asked := asked_for(node):
                line = getattr(node, "lineno", 0)
                assert not classes.search(asked), f"{path}:{line} asks for {asked}; let the object tell"


def test_one_loop_plays_a_world() -> None:
    """Whoever wants to see the turns gives ``play`` a watch."""
    taking = {"act", "decide", "cache", "allocate"}
    loops = (ast.While, ast.For, ast.comprehension)
    found = {
        path
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, loops) and taking & calls(node)
    }
    assert found - set(LOOPS) == set(), "play a world; let them use edgegen.algorithms.core.play"
    assert set(LOOPS) - found == set(), "have no loop any more; take them off the list"


def test_whoever_takes_single_turns_is_known() -> None:
    holders = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = {
        path
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, holders) and {"observe", "decide"} <= calls(node)
    }
    assert found - set(LOOPS) == set(TURNS)


def first_imports(path: str) -> set[str]:
    """Modules of the package that a module imports when it is imported itself, with what is imported from packages."""
    found: set[str] = set()

    def walk(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.update(imports(ast.Module([node], [])))
            elif isinstance(node, ast.If):
                if "TYPE_CHECKING" not in ast.unparse(node.test):
                    walk(node.body)
                walk(node.orelse)
            elif isinstance(node, ast.Try | ast.With):
                walk(node.body)

    walk(sources()[path].body)
    known = {module_of(other): other for other in sources()}
    named = (name if name in known else name.rpartition(".")[0] for name in found)
    return {known[name] for name in named if name in known} - {path}


def test_imports_between_files_have_no_circles() -> None:
    graph = {path: first_imports(path) for path in sources()}
    done: set[str] = set()

    def visit(path: str, trail: tuple[str, ...]) -> None:
        assert path not in trail, " -> ".join([*trail[trail.index(path) :], path])
        if path not in done:
            for other in sorted(graph[path]):
                visit(other, (*trail, path))
            done.add(path)

    for path in graph:
        visit(path, ())


def test_arrows_between_rooms_point_one_way() -> None:
    """Wherever the import stands, and for types too."""
    for path, tree in sources().items():
        for name in imports(tree):
            room = name.split(".")[1] if name.startswith("edgegen.") else ""
            assert room not in ROOMS or room in MAY_IMPORT[path.partition("/")[0]], f"{path} imports {name}"


def private_of_ray(path: str) -> set[str]:
    """Private names of Ray: imported, asked of another object, or inherited as RLlib's classes have them."""
    tree = sources()[path]
    names = {name for name in imports(tree) if name.startswith("ray.") and re.search(r"\._[a-z]", name, re.I)}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {node.attr for node in attributes if ast.unparse(node.value) == "self"}
    asked = {node.attr for node in attributes if ast.unparse(node.value) != "self"}
    if path.startswith("algorithms/rllib/"):  # classes elsewhere extend none of these; a name may be the same by chance
        asked |= own | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names | (asked & _rays_own())


@cache
def _rays_own() -> set[str]:
    """Private attributes and methods of those classes of RLlib that are extended or asked here."""
    found: set[str] = set()
    for module in ("core/learner/learner_group", "core/learner/learner", "core/learner/torch/torch_learner"):
        found |= _privates(f"{module}.py")
    return (found | _privates("env/env_runner_group.py") | _privates("env/env_runner.py")) - OPEN


def _privates(file: str) -> set[str]:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "rllib" / file).read_text(encoding="utf-8")
    return set(re.findall(r"\bself\.(_[a-z]\w*)", text)) | set(re.findall(r"\bdef (_[a-z]\w*)", text))


def test_private_parts_of_ray_are_touched_in_one_place() -> None:
    for path, tree in sources().items():
        if any(name.startswith("ray") for name in imports(tree)) and path not in PRIVATE:
            assert not private_of_ray(path), f"{path} touches {private_of_ray(path)}; move it to {next(iter(PRIVATE))}"


def test_what_is_looked_for_is_there() -> None:
    """Else these tests would find nothing, whatever the code does."""
    found = {path: private_of_ray(path) for path in PRIVATE}
    assert all(found.values()), found
    assert {"_learner", "_update", "_make_worker"} <= set().union(*found.values())
    assert len(sources()) > 150
