"""The ledger's file and lock, in whatever state killed runs, full disks and other programs left them."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bwpipe import RunAborted, RunResult, UsageError, read_graph, run
from bwpipe.engine.ledger import Ledger
from bwpipe.review.entries import read_album
from bwpipe.tools.describe import describe_graph
from tests.support.file_sizes import files_up_to

V1_TABLES = """
CREATE TABLE units (
    target BLOB, part INTEGER, recipe TEXT, size INTEGER, mtime_ns INTEGER, digest TEXT,
    made_size INTEGER, made_mtime_ns INTEGER, PRIMARY KEY (target, part)
);
CREATE TABLE failures (path BLOB PRIMARY KEY, error TEXT);
"""
KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")  # so that changes reach the file before they are committed
connection.execute("BEGIN")
for number in range(3000):
    connection.execute("REPLACE INTO facts VALUES (?, ?)", (f"fact {number}", "x" * 200))
os.kill(os.getpid(), signal.SIGKILL)
"""


class Folder:
    """Three pictures, and runs that copy them."""

    def __init__(self, root: Path) -> None:
        self.inputs, self.out = root / "in", root / "out"
        self.work, self.ledger = self.out / ".bwpipe", self.out / ".bwpipe" / "ledger.sqlite"
        self.inputs.mkdir()
        for name in ("a.png", "b.png", "c.png"):
            assert cv2.imwrite(str(self.inputs / name), np.full((8, 8), 7 * ord(name[0]) % 256, np.uint8))

    def graph(self, **write: Any) -> dict[str, Any]:
        return {"stages": [{"use": "read", "path": str(self.inputs)}, {"use": "write", "path": str(self.out), **write}]}

    def run(self, **write: Any) -> RunResult:
        return run(self.graph(**write))

    def check(self) -> list[str]:
        return list(describe_graph(read_graph(self.graph())))

    def events(self, name: str = "report.jsonl") -> list[str]:
        found = [json.loads(line)["event"] for line in (self.work / name).read_text().splitlines()]
        return [event for event in found if event != "picture"]


def change(ledger: Path, statement: str) -> None:
    """Change a ledger behind bwpipe's back."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute(statement)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def killed(folder: Folder) -> Folder:
    """After a run whose process was killed in the middle of a change of the ledger."""
    assert folder.run().done == 3
    process = subprocess.run([sys.executable, "-c", KILLED, str(folder.ledger)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert folder.ledger.with_name("ledger.sqlite-journal").stat().st_size > 0
    reading = closing(sqlite3.connect(f"file:{folder.ledger}?mode=ro", uri=True))
    with reading as connection, pytest.raises(sqlite3.OperationalError):  # not without undoing what was not finished
        connection.execute("SELECT * FROM facts").fetchone()
    return folder


def test_a_run_goes_on_after_one_that_was_killed_inside_a_commit(killed: Folder) -> None:
    (killed.out / "b.png").unlink()

    result = killed.run()

    assert (result.done, result.already) == (1, 2)
    with closing(sqlite3.connect(killed.ledger)) as connection:
        assert connection.execute("SELECT count(*) FROM facts WHERE key LIKE 'fact %'").fetchone() == (0,)


def test_a_graph_is_checked_after_a_run_that_was_killed_inside_a_commit(killed: Folder) -> None:
    assert "done already: 3" in killed.check()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE units SET seconds = 'nonsense'",
        "UPDATE units SET target = NULL",
        "UPDATE units SET source = x'610062'",  # a path has no NUL
        "INSERT INTO failures VALUES (x'610062', 'it is torn')",
        "UPDATE notes SET text = x'ff00'",
        "INSERT INTO scans VALUES (x'61', 'index', 1, 1, 'nonsense', 1, 1)",
    ],
)
def test_a_ledger_with_what_no_run_writes_is_refused_in_one_sentence(folder: Folder, statement: str) -> None:
    assert folder.run().done == 3
    change(folder.ledger, statement)
    table = statement.split()[2 if statement.startswith("INSERT") else 1]
    text = f"{folder.ledger} is damaged: its table {table} holds what no run writes; remove it to start over"

    for ask in (folder.run, folder.check, lambda: read_album(folder.out)):
        with pytest.raises(UsageError, match=re.escape(text)):
            ask()


@pytest.mark.parametrize("table", ["units SET digest", "recipes SET text", "notes SET text"])
def test_a_ledger_with_text_that_is_none_is_refused_in_one_sentence(folder: Folder, table: str) -> None:
    assert folder.run().done == 3
    change(folder.ledger, f"UPDATE {table} = CAST(x'ff41' AS TEXT)")

    for ask in (lambda: read_album(folder.out), *(() if table.startswith("notes") else (folder.run, folder.check))):
        with pytest.raises(UsageError, match=rf"{re.escape(str(folder.ledger))}: Could not decode .*; remove it to start over"):
            ask()


def test_a_recipe_of_too_many_brackets_is_one_that_is_not_known(folder: Folder) -> None:
    assert folder.run().done == 3
    change(folder.ledger, f"UPDATE recipes SET digest = 'a', text = '{'[' * 90_000}'")
    change(folder.ledger, "UPDATE units SET recipe = 'a'")

    assert [entry.file.options for entry in read_album(folder.out).entries] == [{}, {}, {}]
    assert folder.run().done == 3


@pytest.mark.parametrize("content", [b"", V1_TABLES], ids=["empty", "tables and no version"])
def test_a_ledger_that_was_never_finished_starts_over_and_that_is_said(
    folder: Folder, content: bytes | str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder.work.mkdir(parents=True)
    if isinstance(content, bytes):
        folder.ledger.write_bytes(content)
    else:
        with closing(sqlite3.connect(folder.ledger)) as connection:
            connection.executescript(content)

    assert "would read: 3 pictures" in folder.check()
    assert folder.run().done == 3
    assert "ledger.sqlite was never finished, so it starts over" in capfd.readouterr().err
    assert folder.run().already == 3


def test_a_full_disk_while_the_ledger_is_created_leaves_nothing_in_the_way(folder: Folder) -> None:
    folder.work.mkdir(parents=True)
    for size in (0, 600, 5000, 13000, 25000):  # the ledger has 45,056 bytes
        with closing(Ledger(folder.out)) as ledger, files_up_to(size), pytest.raises(RunAborted):
            ledger.open()

    assert folder.run().done == 3


def test_another_database_without_a_version_is_not_taken_for_a_ledger(folder: Folder) -> None:
    folder.work.mkdir(parents=True)
    with closing(sqlite3.connect(folder.ledger)) as connection, connection:
        connection.execute("CREATE TABLE songs (name TEXT)")

    with pytest.raises(UsageError, match="was written by another version of bwpipe; remove it"):
        folder.run()


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.sqlite-journal", "ledger.sqlite-wal"])
def test_a_fifo_in_the_ledgers_place_is_named_and_not_waited_for(folder: Folder, name: str) -> None:
    assert folder.run().done == 3
    (folder.work / name).unlink(missing_ok=True)
    os.mkfifo(folder.work / name)

    with pytest.raises(UsageError, match=f"{name} is not a regular file; remove it, or choose another folder"):
        folder.run()
    with pytest.raises(UsageError, match=f"{name} is not a regular file"):
        folder.check()


def test_a_fifo_or_a_link_in_the_reports_place_is_replaced(folder: Folder) -> None:
    folder.work.mkdir(parents=True)
    os.mkfifo(folder.work / "report.jsonl")

    assert folder.run().done == 3
    assert folder.events() == ["done", "done", "done", "ended"]


@pytest.mark.parametrize("name", ["fragments/0123-000000", "left.part", "left.part.mkv"])
def test_a_folder_where_bwpipe_keeps_files_is_named(folder: Folder, name: str) -> None:
    (folder.work / name / "inside").mkdir(parents=True)

    with pytest.raises(UsageError, match=f"{name} is a folder where bwpipe keeps files of its own; remove it"):
        folder.run()


def test_a_folder_in_the_reports_place_is_named(folder: Folder) -> None:
    (folder.work / "report.jsonl").mkdir(parents=True)

    with pytest.raises(UsageError, match=r"report\.jsonl: can't be written \(Is a directory\); remove it"):
        folder.run()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_folder_without_locks_is_written_with_a_warning(
    folder: Folder, number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_locks(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)

    assert folder.run().done == 3
    err = capfd.readouterr().err
    assert err.count("its file system has no locks, so a file stands for the lock; don't start a second run into it") == 1
    (folder.work / "lock.soft").write_text(f"{os.getppid()}\n{os.uname().nodename}\n")
    with pytest.raises(UsageError, match=r"another run is writing into it; .*\(if that one is gone, remove .*lock\.soft\)"):
        folder.run()
    (folder.work / "lock.soft").unlink()
    assert folder.run().already == 3
    assert not (folder.work / "lock.soft").exists()


def test_the_soft_lock_of_a_killed_run_is_not_in_the_way(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    program = (
        "import os, signal, sys; from filelock import SoftFileLock;"
        "lock = SoftFileLock(sys.argv[1]); lock.acquire();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder.work.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", program, str(folder.work / "lock.soft")], check=False)
    assert (folder.work / "lock.soft").exists()

    assert folder.run().done == 3


def test_a_run_with_nothing_to_do_adds_to_the_report_and_others_keep_it(folder: Folder) -> None:
    folder.run()
    folder.run()
    folder.run()
    assert folder.events() == ["done", "done", "done", "ended", "ended", "ended"]

    (folder.out / "a.png").unlink()
    folder.run()
    assert folder.events() == ["done", "ended"]
    assert folder.events("report.jsonl.1") == ["done", "done", "done", "ended", "ended", "ended"]

    for _ in range(12):
        (folder.out / "a.png").unlink()
        folder.run()
    assert sorted(path.name for path in folder.work.glob("report*")) == [
        "report.jsonl",
        *(f"report.jsonl.{i}" for i in range(1, 10)),
    ]


def test_an_input_whose_bytes_changed_at_the_same_size_and_time_is_done_again(folder: Folder) -> None:
    folder.run()
    path = folder.inputs / "a.png"
    before = (folder.out / "a.png").read_bytes()
    status, other = path.stat(), folder.inputs.parent / "other.png"
    for value in range(256):
        assert cv2.imwrite(str(other), np.full((8, 8), value, np.uint8))
        if other.stat().st_size == status.st_size and other.read_bytes() != path.read_bytes():
            break
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)

    assert folder.run().done == 1
    assert (folder.out / "a.png").read_bytes() != before


def test_a_touched_or_linked_input_is_hashed_once_and_not_at_every_start(folder: Folder) -> None:
    folder.run()
    path = folder.inputs / "a.png"
    os.utime(path, ns=(1, 1))
    os.link(path, folder.inputs.parent / "backup.png")
    path.chmod(0o444)

    assert folder.run().already == 3

    with closing(sqlite3.connect(folder.ledger)) as connection:
        row = connection.execute("SELECT mtime_ns, ctime_ns, inode FROM units WHERE target = ?", (b"a.png",)).fetchone()
    assert row == (1, path.stat().st_ctime_ns, path.stat().st_ino)


def test_a_folder_of_inputs_that_was_copied_is_done(folder: Folder) -> None:
    folder.run()
    shutil.copytree(folder.inputs, folder.inputs.with_name("copy"))
    shutil.rmtree(folder.inputs)
    folder.inputs.with_name("copy").rename(folder.inputs)

    assert folder.run().already == 3


def test_overwriting_spares_damaged_inputs(folder: Folder) -> None:
    damaged = folder.inputs / "a.jpg"
    damaged.write_bytes(b"\xff\xd8\xff\xe0 not much of it is left")
    nodes = [{"use": "read", "path": str(folder.inputs)}, {"use": "write", "path": str(folder.inputs)}]

    with pytest.raises(UsageError, match=r"a\.jpg would overwrite the input .*a\.jpg; write to another `path`"):
        run({"stages": [nodes[0], {**nodes[1], "format": "jpeg", "overwrite": True}]})
    assert damaged.read_bytes() == b"\xff\xd8\xff\xe0 not much of it is left"


def test_overwriting_spares_links_among_the_inputs(folder: Folder) -> None:
    elsewhere = (folder.inputs / "b.png").rename(folder.inputs.parent / "b.png")
    (folder.inputs / "a.jpg").symlink_to(elsewhere)
    nodes = [{"use": "read", "path": str(folder.inputs)}, {"use": "write", "path": str(folder.inputs)}]

    with pytest.raises(UsageError, match=r"would overwrite the input"):
        run({"stages": [nodes[0], {**nodes[1], "format": "jpeg", "overwrite": True}]})
    assert (folder.inputs / "a.jpg").is_symlink()
