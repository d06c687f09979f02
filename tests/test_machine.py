"""Which files are a process's own, by what launchers say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matpac import MatpacError
from matpac.machine import Share, this_share


@given(items=st.lists(st.integers(), max_size=50), count=st.integers(1, 9))
def test_shares_are_the_whole_and_nearly_even(items: list[int], count: int) -> None:
    parts = [Share(rank, count).of(items) for rank in range(count)]
    assert sorted(item for part in parts for item in part) == sorted(items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, Share(0, 1, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Share(5, 8, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Share(0, 1, 0)),
        ({"WORLD_SIZE": "8"}, Share(0, 1, 0)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "3"}, Share(3, 4, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Share(0, 1, 0)),  # a batch script, not a step of srun's
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Share(1, 2, 0)),
    ],
)
def test_what_launchers_say(environment: dict[str, str], share: Share) -> None:
    assert this_share(environment) == share


@pytest.mark.parametrize(("rank", "count"), [("2", "2"), ("-1", "2"), ("a", "2"), ("0", "0")])
def test_nonsense_is_refused(rank: str, count: str) -> None:
    with pytest.raises(MatpacError, match=f"RANK={rank}, WORLD_SIZE={count}: .*torchrun or srun"):
        this_share({"RANK": rank, "WORLD_SIZE": count})
