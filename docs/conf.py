# SPDX-License-Identifier: Apache-2.0
"""The website: the Markdown pages where they lie, and a reference made from the code. `make docs` builds it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import reference  # noqa: E402

project = "edgegen"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
html_title = f"edgegen {release}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid"]

# The source folder is the repository, so that links between pages hold here as they do in a checkout.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "k8s/README.md", "tune_configs/README.md", "serve/zoo/models/*/README.md"]
include_patterns += ["envs/recording_files/README.md", "examples/plugin/README.md", "build/reference/**"]
exclude_patterns = [".*", "build/site", "runs", "out", "src", "algorithms", "platform", "tests", "dist"]

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
suppress_warnings = [
    "myst.header",  # docstrings and pages begin sections at the level they need
    "ref.python",  # two modules have a class of the same name; a short name in a signature may then mean either
]

html_theme = "furo"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
templates_path = ["_templates"]
html_additional_pages = {"index": "redirect.html"}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


NAVIGATION = {
    "Guides": ["researcher", "operator", "learn-back", "cluster", "kubernetes", "day-2", "reproduce", "/CONTRIBUTING"],
    "Topics": [
        "simulator",
        "ladts",
        "t2drl",
        "fleet",
        "zoo",
        "profiling",
        "serving",
        "api",
        "neighbours",
        "security",
        "observability",
        "sweeps",
        "python",
        "plugins",
        "architecture",
        "spec/*",
        "glossary",
    ],
    "Results": ["results/ladts", "results/t2drl", "results/reproduce-ladts", "results/reproduce-t2drl", "results/*"],
    "Reference": ["/build/reference/index"],
    "More": [
        "README </README>",
        "/CHANGELOG",
        "Manifests </k8s/README>",
        "Files of sweeps </tune_configs/README>",
        "Recordings of traffic </envs/recording_files/README>",
        "A plugin </examples/plugin/README>",
        "/serve/zoo/models/*/README",
    ],
}
"""The sidebar. A page that is in no group fails the build."""


def add_navigation(app: Any, page: str, source: list[str]) -> None:
    """Add the sidebar to the first page here, because the page itself has to read well outside of the website too."""
    del app
    if page == root_doc:
        for caption, names in NAVIGATION.items():
            lines = "\n".join(names)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n{lines}\n```\n"


def setup(app: Any) -> None:
    """Write the reference pages, add the sidebar, and read Markdown where docstrings use it."""
    reference.write_pages(ROOT / "build" / "reference")
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", reference.to_restructured_text)
