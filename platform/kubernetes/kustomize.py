# SPDX-License-Identifier: Apache-2.0
"""The words of Kustomize."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

NAMESPACE = "edgegen"
KUSTOMIZATION = "kustomization.yaml"


class _Dumper(yaml.SafeDumper):
    """Writes for readers of YAML 1.1, such as kubectl, without aliases, and texts of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write what is shared wherever it stands."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def manifest(*documents: Mapping[str, Any] | list[dict[str, Any]]) -> str:
    """Return plain data as the text of a manifest."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def image_entry(name: str, image: str) -> dict[str, str]:
    """Return what tells Kustomize which image stands for a name.

    Args:
        name: The name in the manifests.
        image: The image, with its tag or digest.
    """
    repository, _, digest = image.partition("@")
    head, separator, tag = repository.rpartition(":")
    if not separator or "/" in tag:
        head, tag = repository, ""
    entry = {"name": name} | ({} if head == name else {"newName": head})
    entry |= {"newTag": tag} if tag else {}
    return entry | ({"digest": digest} if digest else {})


def json_patch(kind: str, name: str | None, operation: str, path: str, value: Any) -> dict[str, Any]:
    """Return the entry of a patch of one operation.

    Args:
        kind: What is patched.
        name: Which one, as a regular expression; all of the kind if None.
        operation: ``add`` or ``replace``.
        path: Where.
        value: By what.
    """
    target = {"kind": kind} | ({} if name is None else {"name": name})
    return {"target": target, "patch": manifest([{"op": operation, "path": path, "value": value}])}
