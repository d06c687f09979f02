"""The corpus and its shards that several tests look at."""

from pathlib import Path

import pytest

from helpers.packed_corpus import packed
from helpers.sound_files import make_mixed_folder, write_sound


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "mixed"
    make_mixed_folder(root)
    for number in range(8):
        write_sound(root / "more" / f"{number}.wav", 16_000, 0.5 + 0.2 * number, seed=number)
    return root


@pytest.fixture(scope="session")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "shards"
    packed(source, output)
    return output
