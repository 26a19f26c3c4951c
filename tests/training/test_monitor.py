import re
import sys
import threading
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from bwpipe import UsageError
from bwpipe.training.monitor.monitor import LiveView
from tests.support.file_sizes import files_up_to

GRAPH = "stages:\n  - use: read\n\n  - use: fit\n"


def begin(folder: Path, step: int = 0, history: list[dict[str, float]] | None = None, graph: str = GRAPH) -> LiveView:
    return LiveView(folder, title="train", graph=graph, step=step, history=history or [], steps=100, epochs=4)


def figures(step: int) -> dict[str, float]:
    return {"step": step, "epoch": step / 25, "loss": 1 / step, "kept_mse": 0.5 / step}


def advance(view: LiveView, first: int, last: int, history: list[dict[str, float]], every: int = 10) -> None:
    """Report steps from one to another, with occasional validations whose sheet has the step's shade of grey."""
    for step in range(first + 1, last + 1):
        view.step(step, {"loss": 2 / step, "rate": 1e-3, "photos_per_s": 70.0})
        if step % every == 0:
            history.append(figures(step))
            view.validated(history, shade(step))


def shade(step: int) -> NDArray[np.uint8]:
    return np.full((24, 40, 3), step, np.uint8)


def events(folder: Path) -> Any:
    """What TensorBoard reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    accumulator = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def steps(folder: Path, tag: str) -> list[int]:
    return [event.step for event in events(folder).Scalars(tag)]


def text(folder: Path) -> str:
    return (folder / "progress.html").read_text(encoding="utf-8")


def shown(folder: Path) -> Image.Image:
    """The sheet in the page."""
    found = re.search(r"data:image/jpeg;base64,([^\"]+)", text(folder))
    assert found
    return Image.open(BytesIO(b64decode(found[1])))


def last_step_drawn(folder: Path) -> int:
    return max(int(step) for step in re.findall(r"^(?:<.*<title>)?loss: .* at step (\d+)", text(folder), re.MULTILINE))


def test_trainings_in_folders_beside_each_other_are_compared(tmp_path: Path) -> None:
    history: list[dict[str, float]] = []
    for name, rate in (("first", "0.1"), ("second", "0.2")):
        view = LiveView(tmp_path / name, title=name, graph=GRAPH, step=0, history=[], steps=100, settings={"rate": rate})
        advance(view, 0, 10, history)
        view.close()
        history.clear()
    (tmp_path / "third" / ".bwpipe").mkdir(parents=True)
    (tmp_path / "third" / ".bwpipe" / "summary.json").write_text("{")

    assert "Beside other trainings" not in text(tmp_path / "first")
    assert "<td>first</td><td>10</td>" in text(tmp_path / "second")
    assert "rate: 0.1" in text(tmp_path / "second")
    assert "third" not in text(tmp_path / "second")


def test_tensorboard_finds_figures_sheets_and_the_graph(tmp_path: Path) -> None:
    view = begin(tmp_path)
    advance(view, 0, 20, [])
    view.close()

    accumulator = events(tmp_path)
    assert set(accumulator.Tags()["scalars"]) == {
        *("training/loss", "training/rate", "training/photos_per_s"),
        *("validation/loss", "validation/kept_mse"),
    }
    assert [(e.step, e.value) for e in accumulator.Scalars("training/loss")] == [
        (i, pytest.approx(2 / i)) for i in range(1, 21)
    ]
    assert [(e.step, e.value) for e in accumulator.Scalars("validation/kept_mse")] == [
        (10, pytest.approx(0.05)),
        (20, pytest.approx(0.025)),
    ]
    sheets = accumulator.Images("sheet")
    assert [(sheet.step, sheet.width, sheet.height) for sheet in sheets] == [(10, 40, 24), (20, 40, 24)]
    with Image.open(BytesIO(sheets[1].encoded_image_string)) as image:
        assert image.getpixel((5, 5)) == (20, 20, 20)
    (graph,) = accumulator.Tensors("graph/text_summary")
    assert graph.tensor_proto.string_val[0].decode() == "    stages:\n      - use: read\n\n      - use: fit\n"


def test_each_number_can_be_read_while_the_training_runs(tmp_path: Path) -> None:
    view = begin(tmp_path)
    for step in (1, 2, 3):
        view.step(step, {"loss": 1.0})
        assert steps(tmp_path, "training/loss")[-1] == step
    view.close()


def test_a_resumed_training_shows_no_step_twice(tmp_path: Path) -> None:
    killed = begin(tmp_path)
    advance(killed, 0, 37, [])
    killed.close()
    history = [figures(10), figures(20)]

    view = begin(tmp_path, 23, list(history))
    advance(view, 23, 40, history)
    view.close()

    assert steps(tmp_path, "training/loss") == [*range(1, 23), *range(24, 41)]
    assert steps(tmp_path, "validation/loss") == [10, 20, 30, 40]
    assert [sheet.step for sheet in events(tmp_path).Images("sheet")] == [10, 20, 30, 40]


@pytest.mark.parametrize("kept", [True, False])
def test_a_training_that_was_killed_at_a_validation_shows_it_once(tmp_path: Path, kept: bool) -> None:
    history: list[dict[str, float]] = []
    killed = begin(tmp_path)
    advance(killed, 0, 20, history)
    killed.close()
    history = history if kept else history[:1]

    view = begin(tmp_path, 20, list(history))
    if not kept:
        history.append(figures(20))
        view.validated(history, shade(20))
    advance(view, 20, 30, history)
    view.close()

    assert steps(tmp_path, "validation/loss") == [10, 20, 30]
    assert [sheet.step for sheet in events(tmp_path).Images("sheet")] == [10, 20, 30]
    assert steps(tmp_path, "training/loss")[-11:] == [20 if kept else 19, *range(21, 31)]


def test_a_training_that_starts_over_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    before = begin(tmp_path)
    advance(before, 0, 30, [])
    before.close()

    view = begin(tmp_path)
    view.step(1, {"loss": 1.0})
    view.close()

    assert steps(tmp_path, "training/loss") == [1]
    assert events(tmp_path).Tags()["scalars"] == ["training/loss"]
    assert len(events(tmp_path).Tensors("graph/text_summary")) == 1
    assert "<img" not in text(tmp_path)
    assert last_step_drawn(tmp_path) == 1


def test_the_page_resumes_where_the_training_does(tmp_path: Path) -> None:
    killed = begin(tmp_path)
    advance(killed, 0, 37, [])
    assert last_step_drawn(tmp_path) == 30  # as written at the last validation

    begin(tmp_path, 33, [figures(10), figures(20), figures(30)]).close()

    assert last_step_drawn(tmp_path) == 33
    assert shown(tmp_path).getpixel((5, 5)) == (30, 30, 30)

    begin(tmp_path, 23, [figures(10), figures(20)]).close()

    assert last_step_drawn(tmp_path) == 23
    assert "<img" not in text(tmp_path)  # the sheet of step 30 belongs to no validation so far
    killed.close()


def test_the_final_page_does_not_reload(tmp_path: Path) -> None:
    view = begin(tmp_path)
    assert 'http-equiv="refresh"' in text(tmp_path)
    advance(view, 0, 10, [])
    assert 'http-equiv="refresh"' in text(tmp_path)
    view.close()
    assert 'http-equiv="refresh"' not in text(tmp_path)
    assert shown(tmp_path).getpixel((5, 5)) == (10, 10, 10)


def test_a_long_training_has_a_small_page(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1600, 2000, 3), np.uint8)
    view = begin(tmp_path)
    for step in range(1, 3001):
        view.step(step, {"loss": 1 / step, "rate": 1e-3})
    view.validated([figures(3000)], noise)
    view.close()

    width, height = shown(tmp_path).size
    assert 400 < width < 2000
    assert abs(width / height - 1.25) < 0.01
    assert len(text(tmp_path)) < 1_700_000
    assert max(path.count("L") for path in re.findall(r' d="([^"]+)"', text(tmp_path))) < 1000
    assert len(events(tmp_path).Scalars("training/loss")) == 3000


@pytest.mark.parametrize(("goal", "best"), [("loss", 3), ("chroma_ratio", 2), ("chroma_correlation", 1), ("epoch", 3)])
def test_the_best_validation_is_best_by_the_goal_of_the_training(tmp_path: Path, goal: str, best: int) -> None:
    rows = zip((0.3, 0.2, 0.1), (0.5, 1.1, 1.4), (0.9, 0.8, 0.7), strict=True)
    history = [
        {"step": i, "epoch": i, "loss": loss, "chroma_ratio": chroma, "chroma_correlation": correlation}
        for i, (loss, chroma, correlation) in enumerate(rows, 1)
    ]

    LiveView(tmp_path, title="train", graph=GRAPH, step=3, history=history, goal=goal).close()

    assert f'<tr class="best"><td>{best}</td>' in text(tmp_path)
    assert f"<small>at step {best}</small>" in text(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the list of open files")
def test_it_leaves_no_thread_and_no_open_file(tmp_path: Path) -> None:
    begin(tmp_path / "first").close()  # loads what stays loaded
    descriptors = Path("/proc/self/fd")
    threads, files = threading.active_count(), len(list(descriptors.glob("*")))

    view = begin(tmp_path / "second")
    advance(view, 0, 10, [])
    assert threading.active_count() == threads
    view.close()

    assert len(list(descriptors.glob("*"))) == files
    assert [path for path in tmp_path.rglob("*") if ".part" in path.name] == []


def test_it_draws_no_random_numbers(tmp_path: Path) -> None:
    states = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"]

    view = begin(tmp_path)
    advance(view, 0, 10, [])
    view.close()

    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], states[1])


def test_a_full_disk_is_reported_at_once_and_damages_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    view = begin(tmp_path)
    advance(view, 0, 10, [])
    before = text(tmp_path)

    with files_up_to(100):
        with pytest.raises(OSError, match="too large"):
            view.step(11, {"loss": 1.0})
        with pytest.raises(OSError, match="too large"):
            view.validated([figures(10)], shade(10))
    assert text(tmp_path) == before
    assert capfd.readouterr().err == ""

    view.step(12, {"loss": 1.0})
    view.close()
    assert steps(tmp_path, "training/loss")[-1] == 12


def test_a_name_that_is_not_valid_utf8_is_shown_escaped(tmp_path: Path) -> None:
    begin(tmp_path, graph=b"path: caf\xe9".decode("utf-8", "surrogateescape")).close()

    assert "path: caf\\udce9" in text(tmp_path)


def test_without_tensorboard_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard" or name == "torch.utils.tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(UsageError, match=r"run: \S+ -m pip install .*tensorboard"):
        begin(tmp_path / "runs")

    assert not (tmp_path / "runs").exists()
