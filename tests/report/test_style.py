"""What every figure shares."""

import pytest

from matpac.report.style import panel_grid


@pytest.mark.parametrize(
    ("count", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (6, (2, 3)), (7, (3, 3))]
)
def test_panels_are_spread_evenly(count: int, grid: tuple[int, int]) -> None:
    assert panel_grid(count) == grid
