"""What changed, the user's graph or bwpipe: the first is done again, the second is announced, and done on demand."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bwpipe import Frame, Map, RunResult, Unit, read_graph, run, stage
from bwpipe.cli.main import app
from bwpipe.core import plugins
from bwpipe.core.stage import AddedLater, stages
from bwpipe.graph.templates import template
from bwpipe.tools.describe import describe_graph
from tests.image.test_odd_files import PROFILES
from tests.support.made_films import MKV, make_film
from tests.support.made_pictures import profile

ANNOUNCED = "would be written differently by this version of bwpipe; run with --update to do them again"
THREE = rf"3 finished files, about \d+ (second|minute)s?, {ANNOUNCED}"
"""How long three files took depends on what else the machine does."""


class _Tint(Map):
    """Gives every frame one chroma."""

    cb: float = 0.1

    def apply(self, frame: Frame) -> Frame:
        return replace(frame, chroma=np.full((2, 4, 4), self.cb, np.float16))


def install(of_films: int = 1, of_pictures: int = 1, default: float = 0.1, table: str = "1") -> None:
    """Register a version of the stage `tint`."""

    @stage("tint")
    class Tint(_Tint):
        revision: ClassVar[int] = max(of_films, of_pictures)

        cb: float = default

        def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
            return {**super().recipe(unit), "table": table}

        def shipped(self) -> Mapping[str, str]:
            return {"table": "warm"}

        def revision_for(self, unit: Unit | None) -> int:
            return self.revision if unit is None else of_films if unit.media.kind == "film" else of_pictures


def install_with_option(*, default: bool) -> None:
    """Register a version of the stage `tint` with an option that did not exist before."""

    @stage("tint")
    class Tint(_Tint):
        __qualname__ = "install.<locals>.Tint"

        warm: Annotated[bool, AddedLater(without=False)] = default

        def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
            return {**super().recipe(unit), "table": "1"}

        def shipped(self) -> Mapping[str, str]:
            return {"table": "warm"}


class Folder:
    """Two pictures and a film, and runs over them."""

    def __init__(self, root: Path) -> None:
        self.inputs, self.out = root / "in", root / "out"
        self.inputs.mkdir()
        grey = (np.arange(48 * 64, dtype=np.uint32) % 251).astype(np.uint8).reshape(48, 64)
        for name in ("a.png", "b.jpg"):
            assert cv2.imwrite(str(self.inputs / name), grey)
        make_film(self.inputs / "c.mkv", MKV)

    def graph(self, **options: Any) -> dict[str, Any]:
        nodes = [
            {"use": "read", "path": str(self.inputs), **options.pop("read", {})},
            {"use": "tint", **options.pop("tint", {})},
            {"use": "write", "path": str(self.out), "preset": "ultrafast", **options.pop("write", {})},
        ]
        return {"stages": nodes, **options}

    def run(self, *, update: bool = False, **options: Any) -> RunResult:
        return run(self.graph(**options), update=update)

    def check(self, **options: Any) -> str:
        return "\n".join(describe_graph(read_graph(self.graph(**options))))

    def events(self, name: str = "report.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / ".bwpipe" / name).read_text().splitlines()]

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir() if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    install()
    return Folder(tmp_path)


def test_an_option_of_films_redoes_films_only_and_one_of_pictures_those_it_can_affect(folder: Folder) -> None:
    assert folder.run().done == 3

    assert folder.run(write={"crf": 40}).done == 1
    assert folder.run(write={"crf": 40, "quality": 50}).done == 1  # the JPEG
    assert folder.run(write={"crf": 40, "quality": 50, "format": "jpeg"}).done == 1  # what was a PNG
    assert folder.run(read={"deinterlace": "bwdif"}, write={"crf": 40, "quality": 50, "format": "jpeg"}).done == 1


def test_a_revision_is_announced_and_done_on_demand(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.run()
    before = folder.contents()
    install(of_films=2, of_pictures=2)

    result = folder.run()

    assert (result.done, result.already) == (0, 3)
    assert sorted(path.name for path in result.outdated) == ["a.png", "b.jpg", "c.mkv"]
    assert folder.contents() == before
    assert re.search(rf"{THREE}\n", capfd.readouterr().err)
    outdated = [event for event in folder.events() if event["event"] == "outdated"]
    assert [event["text"] for event in outdated] == ["tint.revision was 1, and is 2"] * 3

    updated = folder.run(update=True)
    assert (updated.done, updated.already, updated.outdated) == (3, 0, [])
    again = folder.run()
    assert (again.done, again.outdated) == (0, [])


def test_check_says_what_would_be_written_differently_and_why(folder: Folder) -> None:
    folder.run()
    install(of_films=2, of_pictures=2)

    text = folder.check()

    assert "would read: nothing\ndone already: 3" in text
    assert re.search(rf"{THREE}\n  3: tint.revision was 1, and is 2", text)


def test_a_revision_can_concern_some_units_only(folder: Folder) -> None:
    folder.run()
    install(of_films=2)

    assert [path.name for path in folder.run().outdated] == ["c.mkv"]
    assert folder.run(update=True).done == 1


def test_pictures_whose_grey_profile_was_left_out_by_earlier_versions_are_announced(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(folder.inputs)
    folder.inputs.mkdir()
    image = Image.fromarray(np.arange(48 * 64, dtype=np.uint16).astype(np.uint8).reshape(48, 64))
    image.save(folder.inputs / "grey.png", icc_profile=PROFILES["gamma 1.8"])
    image.save(folder.inputs / "grey.webp", lossless=True, icc_profile=PROFILES["gamma 1.8"])  # RGB: its profile never counted
    image.save(folder.inputs / "none.png")
    image.convert("RGB").save(folder.inputs / "colour.png", icc_profile=profile())
    plugins.load()
    with monkeypatch.context() as earlier:
        earlier.setattr(stages["write"], "revision_for", lambda self, unit: 3)
        assert folder.run().done == 4

    assert [path.name for path in folder.run().outdated] == ["grey.png"]
    assert folder.run(write={"format": "bmp"}).outdated == []


def test_what_the_user_changed_is_done_at_once_together_with_what_bwpipe_changed(folder: Folder) -> None:
    folder.run()
    install(of_films=2, of_pictures=2)

    assert folder.run(tint={"cb": 0.2}).done == 3
    assert folder.run(tint={"cb": 0.2}).outdated == []


def test_another_file_that_comes_with_a_stage_is_announced(folder: Folder) -> None:
    folder.run()
    install(table="2")

    assert len(folder.run().outdated) == 3
    assert folder.run(update=True).done == 3


def test_another_default_is_announced_but_not_to_those_who_chose_a_value(folder: Folder) -> None:
    folder.run()
    install(default=0.2)

    assert len(folder.run().outdated) == 3
    assert folder.run(tint={"cb": 0.1}).outdated == []
    assert folder.run(tint={"cb": 0.1}).already == 3


def test_a_value_that_is_set_or_no_longer_set_is_the_users_change(folder: Folder) -> None:
    folder.run()

    assert folder.run(tint={"cb": 0.2}).done == 3
    assert folder.run().done == 3
    assert folder.run(tint={"cb": 0.1}).done == 0


def test_a_new_option_that_changes_nothing_redoes_nothing(folder: Folder) -> None:
    folder.run()
    install_with_option(default=False)

    unset = folder.run()
    assert (unset.done, unset.outdated) == (0, [])
    assert folder.run(tint={"warm": False}).done == 0
    assert folder.run(tint={"warm": True}).done == 3
    assert folder.run().done == 3


def test_a_new_option_whose_default_changes_results_is_announced(folder: Folder) -> None:
    folder.run()
    install_with_option(default=True)

    assert len(folder.run().outdated) == 3
    assert folder.run(tint={"warm": False}).outdated == []


def test_another_length_of_segments_redoes_films_only(folder: Folder) -> None:
    folder.run(segment=7)

    assert folder.run(segment=5).done == 1
    assert folder.run(segment=5).already == 3


def test_pictures_do_not_name_the_options_of_films_and_so_stay_equal(folder: Folder, tmp_path: Path) -> None:
    (folder.inputs / "c.mkv").unlink()
    folder.run(write={"preset": "slow"})
    first = folder.contents()
    shutil.rmtree(folder.out)

    folder.run(write={"preset": "ultrafast", "crf": 3})

    assert folder.contents() == first
    assert b"preset" not in first["a.png"]


def test_stages_of_films_stay_out_of_the_recipes_of_pictures(folder: Folder) -> None:
    folder.run()
    nodes = folder.graph()["stages"]
    longer = {"stages": [nodes[0], {"use": "shots"}, *nodes[1:]]}

    assert run(longer).done == 1


def test_a_plugin_for_0_1_whose_recipe_knows_no_unit_works(folder: Folder) -> None:
    @stage("old_tint")
    class OldTint(_Tint):
        dose: str = "a"

        def recipe(self) -> dict[str, Any]:  # type: ignore[override]
            return {**super().recipe(), "drug": 1}

        def provenance(self) -> dict[str, Any]:  # type: ignore[override]
            return {**super().provenance(), "note": "old"}

    nodes = folder.graph()["stages"]
    nodes[1] = {"use": "old_tint"}
    assert run({"stages": nodes}).done == 3
    assert run({"stages": nodes}).already == 3
    nodes[1] = {"use": "old_tint", "dose": "b"}
    assert run({"stages": nodes}).done == 3


def test_the_stages_of_the_graph_that_comes_with_bwpipe_are_not_the_users(tmp_path: Path) -> None:
    own = read_graph(template("pipeline.yaml"), ["colorize.vividness=0.5"])

    assert own.shipped
    assert {node.id: set(node.given) for node in own.nodes if node.given} == {"colorize": {"vividness"}}
    copy = shutil.copy(template("pipeline.yaml"), tmp_path)
    mine = read_graph(copy)
    assert not mine.shipped
    assert {node.id: set(node.given) for node in mine.nodes if node.given} == {
        "read": {"path"},
        "colorize": {"model"},
        "write": {"path"},
    }


def test_the_commands_take_update(folder: Folder, tmp_path: Path) -> None:
    folder.run()
    install(of_films=2)
    path = tmp_path / "graph.yaml"
    path.write_text(json.dumps(folder.graph()))

    result = CliRunner().invoke(app, ["run", str(path)])
    assert (result.exit_code, "3 done already" in result.output) == (0, True)
    done = CliRunner().invoke(app, ["run", str(path), "--update"])
    assert (done.exit_code, "1 film done, 2 done already" in done.output) == (0, True)
    assert "--update" in CliRunner().invoke(app, ["colorize", "--help"]).output
