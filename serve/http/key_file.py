# SPDX-License-Identifier: Apache-2.0
"""The file with the API keys of a service: who may ask for what, and of every key no more than its hash.

A key is 256 random bits. There is nothing to guess in them, so that a plain SHA-256 tells nobody the key, and costs a
microsecond on every request. Scrypt and Argon2 are slow on purpose, to protect passwords that people think up; here
they would protect nothing, and whoever sent wrong keys would keep a processor busy.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from edgegen.envs.core.errors import InputError, did_you_mean, from_validation
from edgegen.envs.core.fields import Count, Frozen, Positive
from edgegen.envs.core.paths import as_path, reason_of

PREFIX = "eg"
"""Begins every key, so that programs that look for leaked secrets can know them."""
ID_BYTES, SECRET_BYTES = 4, 32
MOST_KEYS = 10_000
MOST_BYTES = 8 * 1024**2
KEY = re.compile(rf"{PREFIX}-([0-9a-f]{{8}})-[A-Za-z0-9_-]{{43}}")

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


class ApiKey(Frozen):
    """Who has a key, and what it allows.

    Attributes:
        name: Who that is; also whose turn it is while there is more work than can be done.
        id: What the key is found by; stands in the key itself and is no secret.
        sha256: Hash of the whole key.
        created: When it was made.
        expires: From when on it is refused; never if None.
        requests_per_minute: Requests that do work, sent in a minute; no limit if None.
        pictures_per_minute: Pictures asked for in a minute; no limit if None.
        work_gcycles_per_minute: Work of what is asked for in a minute, Gcycle; no limit if None.
        weight: Share while there is more work than can be done; what the service's config says if None.
        models: Models it may use; all if None.
    """

    name: Name
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    requests_per_minute: Annotated[Count, Field(le=1_000_000)] | None = None
    pictures_per_minute: Annotated[Count, Field(le=1_000_000)] | None = None
    work_gcycles_per_minute: Positive | None = None
    weight: Annotated[Positive, Field(ge=0.001, le=1000)] | None = None
    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    def expired(self, now: datetime) -> bool:
        """Whether it is refused at a time."""
        return self.expires is not None and now >= self.expires

    def with_own_names(self, aliases: Mapping[str, str]) -> ApiKey:
        """Return it with the models that other names mean in place of these names."""
        if self.models is None:
            return self
        models = tuple(dict.fromkeys(aliases.get(model, model) for model in self.models))
        return self.model_copy(update={"models": models})


class KeyFile(Frozen):
    """All keys of a service."""

    format: Literal["edgegen-keys-1"] = "edgegen-keys-1"
    keys: Annotated[tuple[ApiKey, ...], Field(max_length=MOST_KEYS)] = ()

    @model_validator(mode="after")
    def _differ(self) -> Self:
        for field in ("name", "id"):
            seen: set[str] = set()
            for key in self.keys:
                value: str = getattr(key, field)
                if value in seen:
                    raise ValueError(f"two keys have the {field} '{value}', but each must have its own")
                seen.add(value)
        return self

    def with_key(self, key: ApiKey) -> KeyFile:
        """Return the file with one key more.

        Raises:
            InputError: If there is one of that name.
        """
        if any(other.name == key.name for other in self.keys):
            raise InputError(f"There is a key with the name '{key.name}' already; revoke it, or choose another name.")
        if len(self.keys) >= MOST_KEYS:
            raise InputError(f"There are {len(self.keys)} keys already, and a file holds at most {MOST_KEYS}.")
        return KeyFile(keys=(*self.keys, key))

    def without(self, name: str) -> KeyFile:
        """Return the file without a key.

        Raises:
            InputError: If there is none of that name.
        """
        names = [key.name for key in self.keys]
        if name not in names:
            raise InputError(f"There is no key with the name '{name}'.{did_you_mean(name, names)}")
        return KeyFile(keys=tuple(key for key in self.keys if key.name != name))

    def text(self) -> str:
        """Return it as it is written to a file."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def new_key(name: str, **limits: object) -> tuple[str, ApiKey]:
    """Make a key.

    Args:
        name: Who gets it.
        limits: Other fields of :class:`ApiKey`.

    Returns:
        The key itself, which is kept nowhere, and what a service has to know of it.

    Raises:
        InputError: If a field is impossible.
    """
    id_ = secrets.token_hex(ID_BYTES)
    text = f"{PREFIX}-{id_}-{secrets.token_urlsafe(SECRET_BYTES)}"
    fields = {"name": name, "id": id_, "sha256": digest(text).hex(), "created": datetime.now(UTC), **limits}
    try:
        return text, ApiKey.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error, "API key", ApiKey.model_fields) from None


def digest(text: str) -> bytes:
    """Return the hash of a key."""
    return hashlib.sha256(text.encode()).digest()


def read_keys(path: str | Path) -> KeyFile:
    """Read a file with keys.

    Raises:
        InputError: If there is none, or it is not what it should be. The sentence shows nothing of its content but
            the names of fields.
    """
    path = as_path(path, "Key file")
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(f"Key file '{path}' has {size} bytes, but {MOST_BYTES} at most are allowed.")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"Key file '{path}' can not be read: {reason_of(error)}.") from None
    try:
        return KeyFile.model_validate_json(data)
    except ValidationError as error:
        raise InputError(f"Key file '{path}': {_complaint(error)}.") from None


def _complaint(error: ValidationError) -> str:
    """What is wrong with a file, without values: where a hash should be, somebody may have written the key."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    place = ".".join(str(part) for part in first["loc"])
    return f"the field '{place}' is wrong ({message[0].lower()}{message[1:]})" if place else message
