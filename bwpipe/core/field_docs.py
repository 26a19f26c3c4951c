"""The docstrings of a model's fields as their descriptions, read when somebody wants to see them.

Pydantic can read them while a class is made (`use_attribute_docstrings`), which takes 10 ms a class: a fifth of a second
before a command does anything.
"""

import ast
import inspect
from collections.abc import Iterator
from textwrap import dedent
from typing import Any, get_args

from pydantic import BaseModel

_described: set[type[BaseModel]] = set()


def describe(model: type[BaseModel]) -> None:
    """Let the descriptions of the model's fields, and of those of the models in it, be the docstrings below the fields.

    A field that has a description keeps it; a class without source text, as in an interpreter, gives none.
    """
    if model in _described:
        return
    _described.add(model)  # now, since it may contain itself
    missing = {name: field for name, field in model.model_fields.items() if field.description is None}
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            describe(inner)
    for cls in reversed(model.__mro__):
        for name, text in _docstrings(cls) if issubclass(cls, BaseModel) and cls is not BaseModel else ():
            if name in missing:
                missing[name].description = text
    model.model_rebuild(force=True)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type hint."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def _docstrings(cls: type) -> Iterator[tuple[str, str]]:
    """The fields of a class that have a docstring, with it."""
    try:
        body = ast.parse(dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError):
        return
    assert isinstance(body, ast.ClassDef)
    for field, below in zip(body.body, body.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
