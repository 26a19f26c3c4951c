from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from bwpipe.core.atomic_file import WORK_FOLDER, AtomicFile, remove_leftovers


def test_a_file_gets_its_final_name_only_when_published(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "deep" / "a.png", tmp_path)
    file.path.write_bytes(b"picture")
    assert not file.target.exists()

    status = file.flush()
    file.publish()

    assert file.target.read_bytes() == b"picture"
    assert file.target.stat().st_mtime_ns == status.st_mtime_ns
    assert list((tmp_path / WORK_FOLDER).iterdir()) == []


def test_a_discarded_file_leaves_nothing(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "a.png", tmp_path)
    file.discard()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_only_temporary_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    AtomicFile(tmp_path / "a.png", tmp_path)
    ledger = tmp_path / WORK_FOLDER / "ledger.sqlite"
    ledger.touch()

    remove_leftovers(tmp_path)

    assert list((tmp_path / WORK_FOLDER).iterdir()) == [ledger]


def test_removing_the_work_folder_does_not_disturb_other_writers(tmp_path: Path) -> None:
    def work(_: int) -> None:
        for _ in range(500):
            AtomicFile(tmp_path / "a.png", tmp_path).discard()
            with suppress(OSError):
                (tmp_path / WORK_FOLDER).rmdir()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    (tmp_path / WORK_FOLDER).mkdir()
    monkeypatch.setattr("secrets.token_hex", lambda count: "guessed")
    (tmp_path / WORK_FOLDER / "guessed.part.png").symlink_to(victim)

    with pytest.raises(FileExistsError):
        AtomicFile(tmp_path / "a.png", tmp_path)

    assert not victim.exists()
