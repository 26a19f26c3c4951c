import shutil
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

import bwpipe
from bwpipe.engine.last_run import LastRun
from bwpipe.review.corrections import Corrections
from bwpipe.review.desk import Desk
from bwpipe.review.entries import read_album
from bwpipe.review.live_preview import LivePreview
from bwpipe.review.server import ReviewServer
from tests.support.made_films import Kind, make_film

SMALL = {"colorize.precision": "float32", "colorize.device": "cpu", "colorize.runtime": "torch"}
HOSTILE = "\"'><svg onload=alert(1)>.png"
"""Ends an attribute and begins an element, if it is not escaped."""


def write_grey(path: Path, seed: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a grey picture of a width and height: a bright half and a dark one, with some texture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texture = np.random.default_rng(seed).normal(0, 4, size[::-1])
    luma = np.where(np.arange(size[0]) < size[0] // 2, 180, 70) + texture
    ok, data = cv2.imencode(path.suffix, luma.clip(0, 255).astype(np.uint8))
    assert ok
    path.write_bytes(data.tobytes())
    return path


def colour(folder: Path, **options: object) -> bwpipe.RunResult:
    """Colour `in` into `out` in a folder with a small network."""
    return bwpipe.colorize(str(folder / "in"), str(folder / "out"), model="autoencoder", set=SMALL, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three grey pictures in `in`, coloured into `out`. Tests must not change it."""
    folder = tmp_path_factory.mktemp("pictures")
    write_grey(folder / "in" / "a.png", 1)
    write_grey(folder / "in" / "<" / "script>b.png", 2)
    write_grey(folder / "in" / HOSTILE, 3)
    assert colour(folder).done == 3
    return folder


@pytest.fixture
def pictures(coloured: Path, tmp_path: Path) -> Path:
    """A copy of it, as if it had been made there."""
    shutil.copytree(coloured, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    record = tmp_path / "out" / ".bwpipe" / "last-run.json"
    record.write_text(record.read_text().replace(str(coloured), str(tmp_path)))
    return tmp_path


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film in `in`, coloured into `out`. Tests must not change it."""
    folder = tmp_path_factory.mktemp("film")
    (folder / "in").mkdir()
    make_film(folder / "in" / "reel.mkv", Kind(suffix=".mkv", size=(96, 64)))
    assert colour(folder).done == 1
    return folder


class Client:
    """Asks a server, as the page does."""

    def __init__(self, server: ReviewServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.host = f"127.0.0.1:{server.server_port}"

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer; `path` is below the token unless it begins with a slash."""
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=300)
        sent = {"Host": self.host, **({} if body is None else {"Content-Type": "application/json"})}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        full = path if path.startswith("/") else f"/{self.server.token}/{path}"
        with closing(connection):
            connection.request("GET" if body is None else "POST", full, body, sent)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()


@pytest.fixture
def client(pictures: Path) -> Iterator[Client]:
    """A server of the three pictures, and what asks it."""
    out = pictures / "out"
    last = LastRun.read(out)
    assert last
    with LivePreview(last.read_graph()) as preview:
        desk = Desk(lambda: read_album(out), Corrections(out / "corrections", out), preview, None)
        with ReviewServer(desk) as server:
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            yield Client(server, pictures)
            server.shutdown()
            thread.join()
