"""Options that several commands share, as one argument of the command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def with_group(
    command: Callable[..., None],
    name: str,
    make: Callable[..., object],
    options: Mapping[str, inspect.Parameter] | None = None,
) -> Callable[..., None]:
    """`command` with the options of `make` in place of its argument `name`, which gets what `make` makes of them.

    Args:
        options: the options, where they are not those that the signature of `make` says.
    """
    group = dict(inspect.signature(make, eval_str=True).parameters if options is None else options)
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        made = make(**{option: values.pop(option) for option in group})
        command(**values, **{name: made})

    parameters = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.parameters.values()
        for one in (group.values() if parameter.name == name else (parameter,))
    ]
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options
