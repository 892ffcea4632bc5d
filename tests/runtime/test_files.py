import errno
import os
import threading
from pathlib import Path

import pytest

from runtime.errors import RequestError, WorkError
from runtime.formats.files import new_file, new_files, new_folder, require_space, scratch_folder


def test_a_file_appears_whole_or_not_at_all(tmp_path) -> None:
    target = tmp_path / "deep" / "file"
    with pytest.raises(KeyboardInterrupt), new_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not target.exists() and not list(target.parent.iterdir())
    with new_file(target) as temporary:
        temporary.write_text("whole")
    assert target.read_text() == "whole" and list(target.parent.iterdir()) == [target]


def test_a_failed_rewrite_keeps_the_old_file(tmp_path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(ValueError), new_file(target) as temporary:
        temporary.write_text("new")
        raise ValueError
    assert target.read_text() == "old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt), new_folder(target) as temporary:
        (temporary / "a").write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with new_folder(target) as temporary:
        (temporary / "a").write_text("whole")
    assert (target / "a").read_text() == "whole"
    with pytest.raises(RequestError, match="exists already"), new_folder(target):
        pass


def test_files_that_belong_together_appear_together_or_not_at_all(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), new_files(tmp_path) as temporary:
        (temporary / "a").write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    (tmp_path / "a_data").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError), new_files(tmp_path) as temporary:
        for name in ("a", "a_data"):
            (temporary / name).write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a_data"]  # a is the last to move
    (tmp_path / "a_data").rmdir()
    with new_files(tmp_path) as temporary:
        for name in ("a", "a_data"):
            (temporary / name).write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a_data"]


def test_a_full_disk_is_one_sentence(tmp_path) -> None:
    with pytest.raises(WorkError, match="disk is full"), new_file(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(WorkError, match="Not enough disk space"):
        require_space(tmp_path / "not" / "yet" / "there", 10**18)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_really_full_device_is_recognised(tmp_path) -> None:
    with pytest.raises(WorkError, match="disk is full"), new_file(tmp_path / "x"), open("/dev/full", "w") as full:
        full.write("x" * 100_000)
        full.flush()


def test_what_is_being_made_is_never_taken_for_a_leftover(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def make() -> None:
        try:
            for _ in range(200):
                with scratch_folder(tmp_path / "x") as folder:
                    (folder / "y").mkdir()
                with new_file(tmp_path / "z") as path:
                    path.write_text("z")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and [each.name for each in tmp_path.iterdir()] == ["z"]
