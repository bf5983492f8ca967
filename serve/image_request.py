# SPDX-License-Identifier: Apache-2.0
"""The body of a request for pictures: the shape of the OpenAI images API, narrowed to what a service allows.

The JSON schema of the class that :func:`request_model` makes is what is enforced, what ``/openapi.json`` shows, and
what the sentences about bad values are made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model, model_validator

from edgegen.envs.core.errors import did_you_mean, from_validation
from edgegen.envs.core.seeds import MAX_SEED
from edgegen.serve.config import ServiceConfig
from edgegen.serve.http.errors import MOST_SHOWN, RequestError, short
from edgegen.serve.model_config import ModelCard

AUTO_SIZE = "auto"
PRIORITIES = ("low", "normal", "high")
LEAST_DEADLINE_S = 0.01
MOST_NAME = 256
"""Characters of the name of a user; queues remember it."""
VISIBLE = (
    r"[^\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]"
)
"""A character that shows: no space, no control character, and none that Unicode calls ignorable. Written out, because
the classes of the regular expressions of Rust, Python and JavaScript differ."""
_SIZE = r"^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$"
_MEANINGS = {VISIBLE: ", at least one of them visible", _SIZE: " of the form WIDTHxHEIGHT, or auto"}
_CODES = {"model": "model_not_found", "edge": "edge_not_found", "size": "invalid_size"}
_NO_MEANING: dict[str, tuple[object, ...]] = {
    "style": (),
    "background": ("auto", "opaque"),
    "moderation": ("auto",),
    "complexity": (),
}
"""Fields that change nothing here, with the values that ask for what is done anyway."""
OLD_QUALITIES = {"standard": "medium", "hd": "high"}
"""Grades of quality of earlier versions of the API, and what they are called now."""


def _whole(value: object) -> object:
    """A whole number, also where it is written 2.0: for JSON schema, that is one too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)


class LeftOut(BaseModel):
    """What clients send. ``null`` means what leaving a field out means."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, data: Any) -> Any:
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in data.items() if value is not None or name not in optional}


Sent = TypeVar("Sent", bound=LeftOut)


class ImageRequest(LeftOut):
    """Body of ``POST /v1/images/generations``. ``null`` means what leaving a field out means."""

    prompt: Annotated[str, Field(min_length=1, pattern=VISIBLE)] = Field(description="What to paint.")
    model: str | None = Field(None, description="A name of GET /v1/models; the service's first model if left out.")
    n: Annotated[int, Field(ge=1), _WHOLE] | None = Field(1, description="Number of pictures.")
    size: Annotated[str, Field(pattern=_SIZE)] | None = Field(
        None, description="WIDTHxHEIGHT in pixels; the model's native size if left out or auto."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        "b64_json", description="Whether pictures come as base64, or as addresses that can be fetched for a while."
    )
    output_format: Literal["png", "jpeg", "webp"] | None = Field("png", description="Format of the pictures.")
    output_compression: Annotated[int, Field(ge=0, le=100), _WHOLE] | None = Field(
        None,
        description="Of JPEG and WebP, from 0 (small) to 100 (good, as if left out); PNG loses nothing.",
    )
    stream: bool | None = Field(False, description="Whether the answer is a stream of events, with pictures as base64.")
    partial_images: Annotated[int, Field(ge=0, le=3), _WHOLE] | None = Field(
        0, description="Previews of each picture in a stream; fewer where it has few steps or the edge can show none."
    )
    progress: bool | None = Field(
        False, description="Whether a stream also tells how far the request is, in events of the type edgegen.progress."
    )
    negative_prompt: str | None = Field(None, description="What not to paint.")
    num_inference_steps: Annotated[int, Field(ge=1), _WHOLE] | None = Field(
        None, description="Denoising steps; the model's default if left out."
    )
    guidance_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = Field(
        None, description="Classifier-free guidance scale; the model's default if left out."
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), _WHOLE] | None = Field(
        None, description="Seed of the first picture; further pictures count up. Drawn if left out."
    )
    edge: str | None = Field(None, description="The edge that the request arrived at; in turn if left out.")
    deadline_s: Annotated[float, Field(ge=LEAST_DEADLINE_S, allow_inf_nan=False)] | None = Field(
        None, description="Time by which the answer is wanted, s from now; as long as a request may take if left out."
    )
    weight: Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)] | None = Field(
        1.0, description="Worth of the request, for policies that know of it."
    )
    priority: Literal["low", "normal", "high"] | None = Field(
        "normal", description="Which of its user's requests go first while there is more work than can be done."
    )
    user: Annotated[str, Field(max_length=MOST_NAME)] | None = Field(
        None, description="Who asks; users take fair turns while there is more work than can be done."
    )
    safety_identifier: Annotated[str, Field(max_length=MOST_NAME)] | None = Field(
        None, description="The same under its newer name, which goes before."
    )
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = Field(
        None, description="A range of denoising steps, of the model; means nothing beside num_inference_steps."
    )
    style: Literal["vivid", "natural"] | None = Field(None, description="Means nothing here; the prompt does.")
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None, description="Means nothing here: pictures are opaque."
    )
    moderation: Literal["auto", "low"] | None = Field(None, description="Means nothing here: nothing is moderated.")
    complexity: Literal["low", "medium", "high"] | None = Field(
        None, description="Means nothing here: nothing is planned before it is painted."
    )

    def ignored(self) -> list[str]:
        """The fields that were given and changed nothing."""
        found = [name for name, usual in _NO_MEANING.items() if getattr(self, name) not in (None, *usual)]
        beside = {
            "quality": self.num_inference_steps is not None and self.quality not in (None, "auto"),
            "partial_images": bool(self.partial_images) and not self.stream,
            "progress": bool(self.progress) and not self.stream,
            "output_compression": self.output_compression is not None and self.output_format == "png",
        }
        return [*found, *(name for name, idle in beside.items() if idle)]

    @property
    def tenant(self) -> str:
        """Who asks, under whichever name; empty if that is not said."""
        return self.safety_identifier or self.user or ""

    @property
    def grade(self) -> str | None:
        """The grade of quality that counts, under its present name; None for what a plain request gets."""
        if self.num_inference_steps is not None or self.quality in (None, "auto"):
            return None
        return OLD_QUALITIES.get(self.quality, self.quality)


def request_model(config: ServiceConfig, cards: Mapping[str, ModelCard]) -> type[ImageRequest]:
    """Return the body as a service takes it.

    Args:
        config: Limits and edges.
        cards: Models by name.
    """
    sizes = dict.fromkeys(size for card in cards.values() for size in card.sizes)
    most_steps = max(card.max_steps for card in cards.values())
    text = Annotated[str, Field(max_length=config.max_prompt_chars)]
    types: dict[str, Any] = {
        "prompt": Annotated[str, Field(min_length=1, max_length=config.max_prompt_chars, pattern=VISIBLE)],
        "negative_prompt": text | None,
        "model": _one_of((*cards, *config.model_aliases)),
        "n": Annotated[int, Field(ge=1, le=config.max_pictures), _WHOLE] | None,
        "size": _one_of((*sizes, AUTO_SIZE)),
        "num_inference_steps": Annotated[int, Field(ge=1, le=most_steps), _WHOLE] | None,
        "deadline_s": Annotated[float, Field(ge=LEAST_DEADLINE_S, le=config.request_timeout_s, allow_inf_nan=False)]
        | None,
        "edge": _one_of(config.homes),
    }
    fields: dict[str, Any] = {}
    for name, type_ in types.items():
        field = ImageRequest.model_fields[name]
        fields[name] = (type_, Field(field.default, description=field.description))
    return create_model("ImageRequest", __base__=ImageRequest, __doc__=ImageRequest.__doc__, **fields)


def request_schema(
    model: type[ImageRequest], cards: Mapping[str, ModelCard], aliases: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the JSON schema of the body; of several models it says which sizes and steps each allows.

    Args:
        model: The body, as :func:`request_model` made it.
        cards: Models by name.
        aliases: Models by the other names that they have.
    """
    schema = model.model_json_schema()
    streamed = {"properties": {"stream": {"const": True}}, "required": ["stream"]}
    schema["allOf"] = [{"if": streamed, "then": {"properties": {"response_format": {"enum": ["b64_json", None]}}}}]
    schema["allOf"] += model_rules(cards, aliases or {})
    return schema


def model_rules(cards: Mapping[str, ModelCard], aliases: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what JSON schema says of sizes and steps of several models; nothing of one, whose limits are the fields'.

    Args:
        cards: Models by name.
        aliases: Models by the other names that they have.
    """
    if len(cards) < 2:
        return []
    names = {name: [other for other, meant in aliases.items() if meant == name] for name in cards}
    return [_of_model(card, names[card.name], index == 0) for index, card in enumerate(cards.values())]


def _of_model(card: ModelCard, aliases: Iterable[str], first: bool) -> dict[str, Any]:
    names = [card.name, *aliases]
    asked: dict[str, Any] = {"properties": {"model": {"enum": [*names, None] if first else names}}}
    if not first:  # the first one is also what is meant where there is no such field
        asked["required"] = ["model"]
    limits = {"size": {"enum": [*card.sizes, AUTO_SIZE, None]}, "num_inference_steps": {"maximum": card.max_steps}}
    return {"if": asked, "then": {"properties": limits}}


def _one_of(values: Iterable[str]) -> Any:
    return Literal[tuple(values)] | None


def validate_request(data: dict[str, Any], model: type[Sent]) -> Sent:
    """Read a request from plain data.

    Raises:
        RequestError: If a field is unknown, missing, of the wrong type or outside its limits.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] in ("missing", "extra_forbidden"):
            code = "missing_field" if first["type"] == "missing" else "unknown_field"
            message = str(from_validation(error, "Request", model.model_fields))
        else:
            code = _CODES.get(name, "invalid_value") if isinstance(data[name], str) else "invalid_value"
            message = _bad_value(name, data[name], model.model_json_schema()["properties"][name])
        raise RequestError(message, param=name, code=code) from None


def _bad_value(name: str, value: object, schema: Mapping[str, Any]) -> str:
    """Say what is wrong with a value, and what the schema of its field allows."""
    allowed = next(option for option in schema.get("anyOf", [schema]) if option.get("type") != "null")
    length = hint = ""
    if isinstance(value, str):
        length = f" with {len(value)} characters" if len(value) > MOST_SHOWN else ""
        hint = did_you_mean(value, _listed(allowed))
    return f"The field '{name}' is {short(repr(value))}{length}, but it must be {_in_words(allowed)}.{hint}"


def _listed(schema: Mapping[str, Any]) -> list[str]:
    """The values that a JSON schema of a field lists."""
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def _in_words(schema: Mapping[str, Any]) -> str:
    """What a JSON schema of a field allows."""
    listed = _listed(schema)
    if listed:
        return listed[0] if len(listed) == 1 else f"one of {', '.join(listed)}"
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "string":
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        length = "" if most is None else f" of {least} to {most} characters"
        return f"a string{length}{_MEANINGS.get(schema.get('pattern', ''), '')}"
    kind = "an integer" if schema["type"] == "integer" else "a number"
    least, most = schema["minimum"], schema.get("maximum")
    if least == most:
        return str(least)
    return f"{kind} from {least} on" if most is None else f"{kind} from {least} to {most}"
