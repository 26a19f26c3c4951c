"""The server of the page with corrections."""

import errno
import json
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import bwpipe
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.folder_lock import FolderLock
from bwpipe.engine.last_run import LastRun
from bwpipe.errors import UsageError
from bwpipe.review.rerun import arguments_of
from tests.cli.test_commands import bwpipe as command
from tests.review.conftest import HOSTILE, SMALL, Client
from tests.review.test_report import data_of


def body(**fields: object) -> bytes:
    return json.dumps({"version": 1, "entry": 0, **fields}).encode()


def number_of(client: Client, name: str) -> int:
    """The number of the entry of a file."""
    data = data_of(client.ask("")[2].decode())
    return next(number for number, entry in enumerate(data["entries"]) if data["files"][entry["file"]]["name"] == name)


def written(folder: Path) -> dict[str, int]:
    """The outputs, with their times."""
    return {str(path): path.stat().st_mtime_ns for path in (folder / "out").rglob("*.png") if ".bwpipe" not in path.parts}


def test_the_page_is_for_this_computer_and_whoever_knows_the_token(client: Client) -> None:
    port = client.server.server_port

    assert client.server.server_address[0] == "127.0.0.1"
    assert client.ask("")[0] == 200
    assert client.ask("", Host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        assert client.ask("", Host=host)[0] == 421
    for path in ("/", "/wrong/", f"/{client.server.token}", f"/{client.server.token[:-1]}/"):
        assert client.ask(path)[0] == 404


def test_every_answer_forbids_other_sources_referrers_and_frames(client: Client) -> None:
    for path in ("", "run", "image/1/0/after", "nothing"):
        headers = client.ask(path)[1]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def test_nothing_is_written_by_get_nor_from_another_page(client: Client) -> None:
    for path in ("save", "mark", "run/", "reference/1/0", "remove-reference", "preview"):
        assert client.ask(path)[0] == 404
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        assert client.ask("mark", body(good=True), **headers)[0] == 403
    assert client.ask("mark", body(good=True), Content_Type="text/plain")[0] == 415
    assert not (client.folder / "out" / "corrections").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_loses_no_correction(number: int, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    png = BytesIO()
    Image.new("RGB", (64, 48), (90, 60, 40)).save(png, "PNG")
    asked = [
        ("save", body(points=[{"x": 5, "y": 5, "colour": "#806040"}], options={"vividness": 0.5}), {}),
        ("mark", body(good=True), {}),
        ("reference/1/0", png.getvalue(), {"Content_Type": "application/octet-stream"}),
    ]
    for path, data, headers in asked:
        assert client.ask(path, data, **headers)[0] == 200
    corrections = client.folder / "out" / "corrections"
    before = {path: path.read_bytes() for path in corrections.rglob("*") if path.is_file()}

    def full(file: AtomicFile) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(AtomicFile, "flush", full)
        asked[0] = ("save", body(points=[{"x": 9, "y": 9, "colour": "#204060"}], options={}), {})
        asked[1] = ("mark", body(good=False), {})
        for path, data, headers in asked:
            status, _, answer = client.ask(path, data, **headers)
            assert status == 422
            assert f"can't be written ({os.strerror(number)}); it stays as it was" in answer.decode()

    assert {path: path.read_bytes() for path in corrections.rglob("*") if path.is_file()} == before
    assert client.ask("save", asked[0][1])[0] == 200


def test_bodies_are_limited_and_checked(client: Client) -> None:
    assert client.ask("mark", b"{}", Content_Length="99999999")[0] == 413
    assert client.ask("mark", b"{}", Transfer_Encoding="chunked")[0] == 411
    assert client.ask("mark", b"{")[0] == 400
    assert client.ask("mark", body(good=True, more=1))[0] == 400
    assert client.ask("save", body(points=[{"x": 1, "y": 1, "colour": "red"}]))[0] == 400
    assert client.ask("save", body(points=[{"x": float("inf"), "y": 1, "colour": "#000000"}]))[0] == 400
    assert client.ask("mark", body(good=True, version=7))[0] == 410
    assert client.ask("mark", body(good=True, entry=99))[0] == 404


@pytest.mark.parametrize(
    "path", ["image/1/99/after", "image/1/0/..", "image/1/0/%2e%2e", "../../etc/passwd", "image/1/-1/after", "state/1/0/../1"]
)
def test_paths_hold_numbers_only(client: Client, path: str) -> None:
    assert client.ask(path)[0] == 404


def test_pictures_are_served_before_and_after_small_and_large(client: Client) -> None:
    for what in ("after", "before", "large", "large-before"):
        status, headers, data = client.ask(f"image/1/0/{what}")
        assert (status, headers["Content-Type"]) == (200, "image/webp")
        shown = np.asarray(Image.open(BytesIO(data)).convert("RGB"), int)
        assert shown.shape == (48, 64, 3)
        if "before" in what:
            assert np.ptp(shown, axis=2).max() <= 12, "it is grey, but for the rounding of WebP"


def test_a_preview_takes_the_colour_of_a_point(client: Client) -> None:
    def red(points: list[dict[str, object]]) -> float:
        status, _, data = client.ask("preview", body(points=points))
        assert status == 200
        shown = np.asarray(Image.open(BytesIO(data)).convert("RGB"), float)
        return float((shown[20:28, 4:12, 0] - shown[20:28, 4:12, 2]).mean())

    plain = red([])
    assert red([{"x": 8, "y": 24, "colour": "#c02020", "radius": 4}]) > plain + 40
    assert red([{"x": 8, "y": 24, "colour": "#2020c0", "radius": 4}]) < plain - 40
    assert red([]) == plain


def test_a_preview_takes_the_colour_of_strokes_in_a_png(client: Client) -> None:
    plain = np.asarray(Image.open(BytesIO(client.ask("preview", body())[2])).convert("RGB"), float)
    data = data_of(client.ask("")[2].decode())
    strokes = np.zeros((48, 64, 4), np.uint8)
    strokes[20:28, 4:12] = (192, 32, 32, 255)
    path = client.folder / "out" / "corrections" / "hints" / f"{data['files'][data['entries'][0]['file']]['name']}.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(strokes).save(path)

    status, _, answer = client.ask("preview", body())

    assert status == 200
    shown = np.asarray(Image.open(BytesIO(answer)).convert("RGB"), float) - plain
    assert (shown[20:28, 4:12, 0] - shown[20:28, 4:12, 2]).mean() > 40


def test_a_correction_redoes_its_picture_and_no_other(client: Client) -> None:
    entry = number_of(client, HOSTILE)
    points = [{"x": 10.0, "y": 20.0, "colour": "#c02020", "radius": 3.0}]

    status, _, answer = client.ask("save", body(entry=entry, points=points))

    assert status == 200
    path = client.folder / "out" / "corrections" / "hints" / f"{HOSTILE}.yaml"
    assert json.loads(answer) == {"path": str(path), "corrected": True}
    state = json.loads(client.ask(f"state/1/{entry}")[2])
    assert (state["points"], state["width"], state["height"]) == (points, 64, 48)
    before = written(client.folder)
    bwpipe.colorize(
        str(client.folder / "in"),
        str(client.folder / "out"),
        model="autoencoder",
        hints=str(client.folder / "out" / "corrections" / "hints"),
        set=SMALL,
    )
    after = written(client.folder)
    assert [name for name in before if before[name] != after[name]] == [str(client.folder / "out" / HOSTILE)]
    assert client.ask("save", body(entry=entry, points=[]))[0] == 200
    assert not path.exists()


def test_options_and_marks_are_kept(client: Client) -> None:
    assert client.ask("save", body(options={"saturation": 0.5}))[0] == 200
    assert client.ask("mark", body(good=True))[0] == 200

    folder = client.folder / "out" / "corrections"
    name = data_of(client.ask("")[2].decode())["files"][0]["name"]
    assert yaml.safe_load((folder / "overrides.yaml").read_text()) == [{"files": name, "saturation": 0.5}]
    assert yaml.safe_load((folder / "reviewed.yaml").read_text()) == [{"file": name}]
    assert data_of(client.ask("")[2].decode())["entries"][0]["good"] is True
    assert json.loads(client.ask("state/1/0")[2])["options"] == {"saturation": 0.5}


def test_a_reference_is_kept_as_a_picture_and_nothing_else_is(client: Client) -> None:
    kind = {"Content_Type": "application/octet-stream"}
    data = BytesIO()
    Image.new("RGB", (30, 20), (200, 30, 30)).save(data, "JPEG", comment=b"<script>")

    assert client.ask("reference/1/0", b"<script>alert(1)</script>", **kind)[0] == 422
    status, _, answer = client.ask("reference/1/0", data.getvalue(), **kind)

    assert status == 200
    path = Path(json.loads(answer)["path"])
    assert path.parent.is_relative_to(client.folder / "out" / "corrections" / "references")
    with Image.open(path) as kept:
        assert (kept.format, kept.size, kept.info.get("comment")) == ("PNG", (30, 20), None)
    assert client.ask("remove-reference", body())[0] == 200
    assert not path.exists()


def test_writing_is_refused_while_a_run_holds_the_folder(client: Client) -> None:
    lock = FolderLock(client.folder / "out" / ".bwpipe" / "lock")
    assert lock.try_acquire()
    try:
        status, _, answer = client.ask("mark", body(good=True))
    finally:
        lock.release()

    assert status == 409
    assert "a run is writing into this folder; wait for its end" in json.loads(answer)["error"]
    assert not (client.folder / "out" / "corrections").exists()


def test_nothing_is_written_through_a_link_that_leads_out(client: Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (client.folder / "out" / "corrections").symlink_to(outside)

    for path, sent in (("mark", body(good=True)), ("save", body(points=[{"x": 1, "y": 1, "colour": "#000000"}]))):
        assert client.ask(path, sent)[0] == 422
    assert list(outside.iterdir()) == []


def test_a_folder_says_how_it_was_made_but_names_no_code_to_load(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = pictures / "out"
    last = LastRun.read(out)
    assert last

    arguments = arguments_of(last.changes)
    assert arguments[:4] == ["colorize", str(pictures / "in"), "--output", str(out)]
    assert 'colorize.model="autoencoder"' in arguments
    before = written(pictures)
    command(*arguments, "--quiet")
    assert written(pictures) == before, "the same command has nothing to do"

    record = out / ".bwpipe" / "last-run.json"
    found = json.loads(record.read_text())
    for change, message in (
        ({"changes": {**found["changes"], "plugins": ["/elsewhere"]}}, "made with plug-ins"),
        ({"shipped": "", "graph": "/mine.yaml"}, "add `--graph /mine.yaml`"),
        ({"shipped": "../mine.yaml"}, "add `--graph`"),
    ):
        record.write_text(json.dumps({**found, **change}))
        read = LastRun.read(out)
        assert read
        with pytest.raises(UsageError, match=message):
            read.read_graph()
        assert message in command("review", str(out), "--serve", code=2)
    record.unlink()
    assert "nothing in it says how it was made" in command("review", str(out), "--serve", code=2)


def test_a_graph_of_ones_own_is_given_and_must_write_into_the_folder(pictures: Path, tmp_path: Path) -> None:
    graph = tmp_path / "mine.yaml"
    graph.write_text(
        f"stages:\n- {{use: read, path: {tmp_path}}}\n- use: colorize\n- {{use: write, path: {tmp_path / 'other'}}}\n"
    )

    assert "give the one that does" in command("review", str(pictures / "out"), "--serve", "--graph", str(graph), code=2)
    assert "add it, or omit them" in command("review", str(pictures / "out"), "--port", "8000", code=2)


def test_a_correction_may_concern_a_frame_of_a_shot(film: Path, tmp_path: Path) -> None:
    import shutil

    from bwpipe.review.corrections import Corrections
    from bwpipe.review.desk import Desk, HintsAsked
    from bwpipe.review.entries import read_album
    from bwpipe.review.live_preview import LivePreview

    out = tmp_path / "out"
    shutil.copytree(film / "out", out, copy_function=shutil.copy2)
    last = LastRun.read(out)
    assert last
    with LivePreview(last.read_graph()) as preview:
        desk = Desk(lambda: read_album(out), Corrections(out / "corrections", out), preview, None)
        state = desk.state(1, 0, None)
        assert (state["frame"], state["width"], state["height"]) == (15, 96, 64)
        asked = HintsAsked(version=1, entry=0, frame=29, points=[{"x": 4, "y": 5, "colour": "#c02020"}])
        assert desk.preview(asked)[:4] == b"RIFF"
        desk.save(asked)
        assert (out / "corrections" / "hints" / "reel.mkv" / "000029.yaml").is_file()
        assert desk.image(1, 0, "loop")[:4] == b"RIFF"
        with pytest.raises(UsageError, match="frame 30 is not in this shot"):
            desk.save(HintsAsked(version=1, entry=0, frame=30))
