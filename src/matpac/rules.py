"""What numbers of a configuration must be, told in one way."""

import math
from collections.abc import Callable

from matpac.errors import MatpacError

RULES: dict[str, Callable[[float], bool]] = {
    "above 0": lambda value: 0 < value < math.inf,
    "above 0 (.inf for no clipping)": lambda value: value > 0,
    "at least 1": lambda value: 1 <= value < math.inf,
    "at least 0": lambda value: 0 <= value < math.inf,
    "at least 0 and below 1": lambda value: 0 <= value < 1,
    "between 0 and 1": lambda value: 0 <= value <= 1,
}
"""What a number of a configuration must be, in words, and whether it is."""


def require(config: object, part: str, rule: str, *names: str) -> None:
    """That these numbers of a part of a configuration keep a rule; NaN keeps none.

    Raises:
        MatpacError: names the first that does not.
    """
    for name in names:
        if not RULES[rule](value := getattr(config, name)):
            raise MatpacError(f"{part}{name} must be {rule}, not {value}")
