"""Directive `recipe-reference`: every field of a recipe, with its default and description, from the configs themselves."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx


class RecipeReference(Directive):
    """A section for each section of a recipe, a table of fields in each."""

    def run(self) -> list[nodes.Node]:
        """The sections as nodes of the page."""
        from mathquarry.flows.recipe import Recipe

        lines = [line for name, model in sections(Recipe) for line in section_lines(name, model)]
        holder = nodes.section()
        self.state.nested_parse(StringList(lines, source="recipe-reference"), 0, holder, match_titles=True)
        return holder.children


def sections(model: type[BaseModel], name: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The model and every config below it, each with its dotted name; alternatives one after the other."""
    yield name, model
    for field_name, field in model.model_fields.items():
        for inner in configs_of(field.annotation):
            yield from sections(inner, f"{name}.{field_name}".strip("."))


def configs_of(annotation: Any) -> list[type[BaseModel]]:
    """The configs that a field may hold: one, several in a union, or none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) in (typing.Union, typing.Annotated):
        return [config for part in typing.get_args(annotation) for config in configs_of(part)]
    return []


def section_lines(name: str, model: type[BaseModel]) -> list[str]:
    """Markdown of one config: heading, what it is, a row for each field that is no config itself."""
    fields = {key: field for key, field in model.model_fields.items() if not configs_of(field.annotation)}
    kind = fields.get("kind")
    title = f"`[{name}]`" if name else "The recipe"
    if kind is not None:
        title += f", `kind = {json.dumps(kind.default)}`"
    lines = [f"## {title}", "", *(model.__doc__ or "").strip().splitlines(), ""]
    if fields:
        lines += ["| field | type | default | |", "|---|---|---|---|"]
        lines += [
            f"| `{key}` | {type_of(field)} | {default_of(field)} | {cell(field.description or '')} |" for key, field in fields.items()
        ]
        lines.append("")
    return lines


def type_of(field: FieldInfo) -> str:
    """The type as one reads it in a recipe, with its limits."""
    schema = _schema(field)
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    return cell(" or ".join(dict.fromkeys(_type(option) for option in options)))


def _schema(field: FieldInfo) -> dict[str, Any]:
    from pydantic import create_model

    properties = create_model("One", value=(field.annotation, field)).model_json_schema()["properties"]
    return properties["value"]


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    name = {"integer": "whole number", "number": "number", "string": "text", "boolean": "yes or no", "array": "list", "object": "table"}
    limits = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    said = [f"{sign} {schema[key]}" for key, sign in limits.items() if key in schema]
    return " ".join([name.get(schema.get("type", ""), "any"), *said])


def default_of(field: FieldInfo) -> str:
    """The default as it is written in TOML; empty where there is none."""
    if field.default is PydanticUndefined:
        return "must be set" if field.is_required() else ""
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        value = [item.model_dump(exclude_none=True) for item in value]
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def cell(text: str) -> str:
    """Text inside a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("recipe-reference", RecipeReference)
    return {"parallel_read_safe": True}
