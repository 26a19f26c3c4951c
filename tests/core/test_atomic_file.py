from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from bwpipe.core.atomic_file import WORK_FOLDER, AtomicFile, remove_leftovers
from bwpipe.errors import MediaError


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


def test_nothing_is_published_through_a_link_that_took_the_place_of_a_folder(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    (out / "deep").mkdir(parents=True)
    outside.mkdir()
    file, work = AtomicFile(out / "deep" / "a.png", out), AtomicFile(out / "b.png", out)
    (out / "deep").rmdir()
    (out / "deep").symlink_to(outside)

    with pytest.raises(MediaError, match="deep is a link that leads outside"):
        file.publish()
    (out / WORK_FOLDER).rename(tmp_path / "moved")
    (out / WORK_FOLDER).symlink_to(outside)
    for step in (work.flush, work.publish, lambda: AtomicFile(out / "c.png", out)):
        with pytest.raises(MediaError, match="is reached through a link"):
            step()

    assert list(outside.iterdir()) == []


def test_a_link_within_the_output_folder_and_one_to_it_are_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "out" / "real").mkdir(parents=True)
    (tmp_path / "out" / "alias").symlink_to("real")
    (tmp_path / "way").symlink_to("out")

    AtomicFile(tmp_path / "way" / "alias" / "a.png", tmp_path / "way").publish()

    assert (tmp_path / "out" / "real" / "a.png").is_file()


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    (tmp_path / WORK_FOLDER).mkdir()
    monkeypatch.setattr("secrets.token_hex", lambda count: "guessed")
    (tmp_path / WORK_FOLDER / "guessed.part.png").symlink_to(victim)

    with pytest.raises(FileExistsError):
        AtomicFile(tmp_path / "a.png", tmp_path)

    assert not victim.exists()
