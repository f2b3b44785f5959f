"""Bodies of our own routes as pydantic models, with one line for what is wrong in them."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from .errors import Refused, invalid

Model = TypeVar("Model", bound=BaseModel)


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is true or false: give a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth)]
"""A whole number; of a form also as text. Not true and false, which Python counts as 1 and 0."""
Number = Annotated[float, BeforeValidator(_no_truth)]
"""The same of any number."""


def checked(model: type[Model], value: object) -> Model:
    """`value` as a `model`.

    Raises:
        Refused: 400, with the first field that is wrong.
    """
    if not isinstance(value, dict):
        raise invalid("the body must be a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _first(error) from None


def _first(error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "is no field of this request"
    return invalid(f"{where[:200]}: {message}" if where else message)
