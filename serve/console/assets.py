# SPDX-License-Identifier: Apache-2.0
"""The files of the console: a page that needs nothing from elsewhere, with a policy that allows it nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

INDEX = "index.html"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob:",  # pictures that have just come
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",  # texts from outside can not become anything else
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for again each time, and sent again if it has changed
}


@dataclass(frozen=True)
class Asset:
    """A file of the page.

    Attributes:
        body: What is in it.
        kind: Its media type.
        tag: Another one for every other content.
    """

    body: bytes
    kind: str
    tag: str

    @property
    def headers(self) -> dict[str, str]:
        """Headers of an answer with it."""
        return {**HEADERS, "ETag": self.tag}


@cache
def assets() -> dict[str, Asset]:
    """Return the files by name."""
    found = {}
    for path in files("edgegen.serve.console").joinpath("page").iterdir():
        kind = KINDS.get(f".{path.name.rpartition('.')[2]}")
        if kind is not None:
            body = path.read_bytes()
            found[path.name] = Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found
