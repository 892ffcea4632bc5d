"""``make fuzz`` in small: a few mutated files for every reader."""

import random
from pathlib import Path

from benchmarks.fuzz_readers import mutated, read_one, readers

FILES = 12  # of each kind


def test_whatever_a_file_holds_reading_it_is_a_value_or_one_sentence(tmp_path: Path) -> None:
    chance = random.Random(0)
    for kind, reader in readers(tmp_path).items():
        assert read_one(kind, reader, tmp_path, reader.right) == "read"
        ends = {read_one(kind, reader, tmp_path, mutated(reader, chance)) for _ in range(FILES)}
        assert ends <= {"read", "refused"} and "refused" in ends
