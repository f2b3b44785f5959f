"""What pydantic found is told in one line that names the field."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from protoclip.contract.first_fault import first_fault


class Inner(BaseModel, extra="forbid"):
    steps: int = 1

    @field_validator("steps")
    @classmethod
    def _check(cls, value: int) -> int:
        if value < 0:
            raise ValueError("two lines\n  of reasons")
        return value


class Outer(BaseModel, extra="forbid"):
    parts: list[Inner]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"parts": [{}, {"steps": "x"}, {"more": 1}]}', "field 'parts.1.steps': Input should be a valid integer"),
        ('{"parts": [{"steps": -1}]}', "field 'parts.0.steps': two lines of reasons"),
        ("{}", "field 'parts': Field required"),
        ('{"parts": [], "more": 1}', "field 'more': Extra inputs are not permitted"),
        ("{", "the whole of it: Invalid JSON: "),
        ("[]", "the whole of it: Input should be an object"),
    ],
)
def test_the_first_fault_is_one_line(text: str, line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(text)
    assert first_fault(caught.value).startswith(line)
    assert "\n" not in first_fault(caught.value)
