from pathlib import Path

from benchmarks import work_folder


def test_the_folder_to_work_in_is_made_and_left_empty(tmp_path: Path) -> None:
    with work_folder(tmp_path / "not" / "there") as work:
        assert work.parent == tmp_path / "not" / "there"
        (work / "file").touch()
    assert not any((tmp_path / "not" / "there").iterdir())
