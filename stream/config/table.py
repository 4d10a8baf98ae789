"""Holds what every table of a recipe shares: kinds of values, strictness, and help from the strings under the fields."""

from math import isfinite
from typing import Annotated, Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator

Positive = Annotated[int, Gt(0)]
NonNegative = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Table(BaseModel):
    """A table of the file: keys that it does not know are errors; the strings under the fields are their help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would turn into a number: true, "1", infinity."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = {kind for part in (annotation, *get_args(annotation)) for kind in (part, *get_args(part))}
        is_number = bool(kinds & {int, float}) or any(type(choice) is int for choice in kinds)
        if is_number and get_origin(annotation) not in (tuple, dict):
            infinite = isinstance(value, float) and not isfinite(value)
            if isinstance(value, bool | str) or infinite:
                raise ValueError("input should be a finite number")
        return value
