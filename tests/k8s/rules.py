# SPDX-License-Identifier: Apache-2.0
"""The rules of a CRD (`x-kubernetes-validations`), evaluated as an API server does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from cel_expr_python import cel

_MISSING = object()


def broken_rules(schema: dict[str, Any], one: Any, old: Any = _MISSING, path: str = "$") -> Iterator[str]:
    """Yield a sentence for every rule that an object breaks.

    Args:
        schema: Schema of the object, as the CRD has it.
        one: The object.
        old: What it replaces; rules about `oldSelf` are evaluated only then.
        path: Where the object is.
    """
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"] and old is _MISSING:
            continue
        values = {"self": one} | ({} if old is _MISSING else {"oldSelf": old})
        found = _compiled(rule["rule"]).eval(data=values)
        if found.value() is not True:
            yield f"{path}: {rule.get('message', rule['rule'])} ({found.value()})"
    if isinstance(one, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties")
        for name, value in one.items():
            inner = known.get(name, more if isinstance(more, dict) else None)
            if inner is not None:
                before = old.get(name, _MISSING) if isinstance(old, dict) else _MISSING
                yield from broken_rules(inner, value, before, f"{path}.{name}")
    elif isinstance(one, list) and "items" in schema:  # of a list, Kubernetes tells no old elements apart
        for number, value in enumerate(one):
            yield from broken_rules(schema["items"], value, path=f"{path}[{number}]")


@cache
def _compiled(rule: str) -> cel.Expression:
    return cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}).compile(rule)
