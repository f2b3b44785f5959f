"""What a request has to keep to before anything is done for it: each rule says why it may not go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import Refused, Render, answer_refused

Rule: TypeAlias = Callable[[Scope], Refused | None]
"""By a request's head; None where it may go on."""


class RuleCheck:
    """Lets through what keeps to all rules; the first that it breaks is its answer."""

    def __init__(self, app: ASGIApp, *, rules: Sequence[Rule], renderer: Callable[[Scope], Render]) -> None:
        """`renderer`: by request, what makes the dialect's own body of a refusal."""
        self.app = app
        self._rules = tuple(rules)
        self._renderer = renderer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = first_refusal(self._rules, scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await answer_refused(scope, refusal, self._renderer(scope))(scope, receive, send)


def first_refusal(rules: Sequence[Rule], scope: Scope) -> Refused | None:
    """Of the first rule that a request breaks; those behind it are not asked."""
    for rule in rules:
        refusal = rule(scope)
        if refusal is not None:
            return refusal
    return None
