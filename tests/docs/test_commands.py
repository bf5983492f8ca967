# SPDX-License-Identifier: Apache-2.0
"""Every command and every Python block of the pages runs, or is checked as far as it can be without its cluster."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs import doc_rules
from tests.docs.doc_pages import ROOT, SHELLS, blocks, commands, pages
from tests.docs.doc_runner import Runner

PAGES = [page for page in pages() if any(block.language in (*SHELLS, "python") for block in blocks(page))]
K8S_NAMES = {
    document["metadata"]["name"]
    for path in (ROOT / "k8s").rglob("*.yaml")
    if "kind:" in path.read_text()
    for document in yaml.safe_load_all(path.read_text())
    if isinstance(document, dict) and isinstance(document.get("metadata"), dict) and "name" in document["metadata"]
}


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    pytest.importorskip("diffusers")
    made = Runner(tmp_path_factory.mktemp("docs"))
    yield made
    made.close()


@pytest.mark.e2e
@pytest.mark.timeout(1800)  # a page may hold many commands
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=() if page in doc_rules.QUICK else pytest.mark.soak) for page in PAGES]
)
def test_the_commands_of_a_page_run_as_written(page, runner):
    for words in doc_rules.PREPARED.get(page, ()):
        runner.run(words)
    for block in blocks(page):
        if block.language == "python":
            source = doc_rules.substitute(block.text, doc_rules.PYTHON_SUBSTITUTES)
            name = re.sub(r"\W", "_", f"{page}_{block.line}")
            runner.python(name, doc_rules.PRELUDES.get(page, "") + source)
        for command in commands(block) if block.language in SHELLS else ():
            if doc_rules.elsewhere(command.text) is None:
                try:
                    runner.run(command.text)
                except AssertionError as error:
                    pytest.fail(f"{command.page}:{command.line}: {error}", pytrace=False)


ELSEWHERE = [
    command
    for page in PAGES
    for block in blocks(page)
    if block.language in SHELLS
    for command in commands(block)
    if doc_rules.elsewhere(command.text)
]


@pytest.mark.parametrize("command", ELSEWHERE, ids=str)
def test_what_does_not_run_here_names_what_exists(command):
    text = command.text
    for path in re.findall(r"(?<![\w/])(?:k8s|tests|tune_configs|docs|serve)/[\w./*-]+", text):
        assert (ROOT / path).exists(), f"{command}: there is no {path}"
    for folder in re.findall(r" -k (\S+)", text):
        assert (ROOT / folder / "kustomization.yaml").is_file(), f"{command}: {folder} is no kustomization"
    if text.startswith("make "):
        subprocess.run(["make", "-n", *text.split()[1:]], cwd=ROOT, check=True, capture_output=True)
    for target in re.findall(r"--target (\S+)", text):
        assert f" AS {target}\n" in (ROOT / "k8s/image/Dockerfile").read_text(), f"{command}: no target {target}"
    kinds = "rayservice|rayjob|deployment|cronjob|statefulset|job|svc"
    for name in re.findall(rf"(?:{kinds})/([\w-]+)|exec (?:-i )?([\w-]+)", text):
        wanted = re.sub(r"-(serve|head)-svc$|-\d+$", "", "".join(name))
        assert wanted in K8S_NAMES, f"{command}: no manifest makes {wanted}"
    if "pre-commit" in text:
        program = Path(sys.executable).with_name("pre-commit")
        config = ROOT / ".pre-commit-config.yaml"
        subprocess.run([program, "validate-config", config], check=True, capture_output=True)


@pytest.mark.e2e
def test_the_arguments_of_serve_run_make_an_application():
    app = pytest.importorskip("edgegen.serve.app")
    found = [command for command in ELSEWHERE if command.text.startswith("serve run ")]
    assert found
    for command in found:
        _, _, target, *pairs = command.text.replace("/policies/best", "least-delay").split()
        assert target == "edgegen.serve.app:app"
        assert app.app(dict(pair.split("=", 1) for pair in pairs))


def test_images_are_built_before_they_are_loaded():
    for page in PAGES:
        shown = " ".join(command.text for command in ELSEWHERE if command.page == page)
        for image in re.findall(r"kind load docker-image --name \S+ ((?:[\w.:-]+ ?)+)", shown):
            for tag in image.split():
                if ":" in tag:
                    assert f"-t {tag} " in shown, f"{page} loads {tag}, but does not build it"


def test_no_rule_is_left_over():
    shell = [c.text for page in PAGES for b in blocks(page) if b.language in SHELLS for c in commands(b)]
    python = [block.text for page in PAGES for block in blocks(page) if block.language == "python"]
    for table, texts in ((doc_rules.SUBSTITUTES, shell), (doc_rules.PYTHON_SUBSTITUTES, python)):
        for entry in table:
            assert any(re.search(entry.words, text, re.MULTILINE) for text in texts), entry
    for pattern in (*doc_rules.SERVICES, *doc_rules.CLIENTS):
        assert any(re.search(pattern, doc_rules.substitute(text), re.MULTILINE) for text in shell), pattern
    for page in (*doc_rules.PREPARED, *doc_rules.PRELUDES, *doc_rules.QUICK):
        assert page in PAGES
