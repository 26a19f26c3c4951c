"""Train graphs: from a folder of colour photographs to a checkpoint."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import pytest
from torch import Tensor, nn

from bwpipe import Run, RunAborted, UsageError, plugins
from bwpipe.channel import ChannelAborted
from bwpipe.metrics import measure
from bwpipe.network import Guess, Network, load, network
from bwpipe.session import Outcome, run
from bwpipe.state import hold
from bwpipe.testing import make_frames, run_stage
from bwpipe.training import Dataset

plugins.load()


@network("test-rgb")
class Painter(Network):
    """Paints in 16 x 16 pixels."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "rgb"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, luma: Tensor) -> Tensor:
        rgb: Tensor = self.layers(luma)
        return rgb

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return 16, 16

    def guess(self, luma: Tensor, vividness: float | None = None) -> Guess:
        return Guess(self(luma)[:, :2] - 0.5, rgb=self(luma))


@network("test-no-rgb")
class Chromatic(Painter):
    """Says that it makes no RGB."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"


@network("test-unbounded")
class Unbounded(Painter):
    """Can paint brighter than white."""

    def forward(self, luma: Tensor) -> Tensor:
        return super().forward(luma).logit()


def write_photos(folder: Path, count: int, side: int = 40) -> Path:
    """Colour pictures that can be learnt: smooth, brown where they are dark and blue where they are light."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    brown, blue = np.array([20, 60, 110]), np.array([250, 200, 160])  # BGR
    for i in range(count):
        light = cv2.resize(rng.random((3, 3)), (side, side), interpolation=cv2.INTER_LINEAR)[..., None]
        cv2.imwrite(str(folder / f"{i:03}.png"), np.round(brown + light * (blue - brown)).astype(np.uint8))
    return folder


def train(folder: Path, photos: Path, *, size: int = 16, path: str = "made.safetensors", **fit: Any) -> Outcome:
    """Run the train graph, small and the same each time."""
    options = {"model": "test-rgb", "epochs": 3, "batch": 4, "device": "cpu", "threads": 1, "runs": str(folder / "runs")}
    return run(
        {
            "stages": [
                {"use": "read", "path": str(photos)},
                {"use": "pairs", "size": size},
                {"use": "dataset"},
                {"use": "fit", **options, **fit},
                {"use": "save", "path": str(folder / path), "licence": "CC0", "data": "Gradients."},
            ]
        }
    )


def test_a_folder_of_photographs_becomes_a_checkpoint_that_colorize_uses(tmp_path: Path) -> None:
    outcome = train(tmp_path, write_photos(tmp_path / "photos", 20), epochs=2)

    net, told = load(tmp_path / "made.safetensors")
    made = run_stage("colorize", make_frames(2), model=str(tmp_path / "made.safetensors"))
    assert outcome.exit_code == 0
    assert isinstance(net, Painter)
    assert told.licence == "CC0"
    assert (told.training["pictures"], told.training["trained_on"], told.training["epochs"]) == (20, 16, 2)
    assert [frame.chroma.shape for frame in made] == [(2, 16, 16), (2, 16, 16)]


def test_the_model_card_is_written_from_the_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, write_photos(tmp_path / "photos", 20))

    card = (tmp_path / "made.md").read_text()
    _, told = load(tmp_path / "made.safetensors")
    assert "# made\n" in card
    assert "Gradients." in card
    assert "Paints in 16 x 16 pixels." in card
    for figure in told.training["figures"].values():
        assert f"{figure:.4g}" in card


def test_the_loss_falls(tmp_path: Path) -> None:
    train(tmp_path, write_photos(tmp_path / "photos", 20), epochs=30, rate=0.02)

    _, told = load(tmp_path / "made.safetensors")
    first, *_, last = told.training["history"]
    assert last["loss"] < 0.1 * first["loss"]
    assert told.training["figures"]["rgb_mse"] < 0.1 * first["rgb_mse"]


def test_the_figures_are_those_of_the_weights_as_they_are_kept(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)
    net, told = load(tmp_path / "made.safetensors")

    data = dataset(photos)
    assert told.training["figures"] == pytest.approx(measure(net, data, data.validation), rel=1e-5)


def dataset(photos: Path) -> Dataset:
    (data,) = run_stage("dataset", run_stage("pairs", run_stage("read", path=str(photos)), size=16))
    assert isinstance(data, Dataset)
    return data


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 10)
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    process = subprocess.Popen([sys.executable, __file__, killed, photos])
    while not (killed / "runs" / "state.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "made.safetensors").exists()

    for folder in (killed, calm):
        train(folder, photos, epochs=100)

    assert (killed / "made.safetensors").read_bytes() == (calm / "made.safetensors").read_bytes()
    assert sorted(path.name for path in (killed / "runs").rglob("*.part*")) == []


def test_a_finished_training_does_nothing_when_it_is_started_again(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)
    files = [tmp_path / name for name in ("runs/state.pt", "made.safetensors", "made.md")]
    times = [file.stat().st_mtime_ns for file in files]

    assert train(tmp_path, photos).exit_code == 0

    assert [file.stat().st_mtime_ns for file in files] == times
    assert list((tmp_path / ".bwpipe").iterdir()) == []


def test_a_training_with_other_options_or_pictures_is_refused(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)

    with pytest.raises(UsageError, match=r"state.pt is of a training that differs in rate; remove it .* another `runs` folder"):
        train(tmp_path, photos, rate=0.5)
    (photos / "000.png").unlink()
    with pytest.raises(UsageError, match="differs in data"):
        train(tmp_path, photos)


def test_a_state_that_is_damaged_is_refused(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)
    (tmp_path / "runs" / "state.pt").write_bytes(b"PK")

    with pytest.raises(UsageError, match=r"state.pt: can't go on from this; remove it to start over"):
        train(tmp_path, photos)


def test_a_loss_that_is_not_finite_stops_with_the_step_named_and_is_never_kept(tmp_path: Path) -> None:
    with pytest.raises(RunAborted, match=r"the loss is (inf|nan) at step 2 of epoch 1"):
        train(tmp_path, write_photos(tmp_path / "photos", 20), model="test-unbounded", rate=1e30)

    assert not (tmp_path / "runs" / "state.pt").exists()
    assert not (tmp_path / "made.safetensors").exists()


def test_two_trainings_never_share_a_folder(tmp_path: Path) -> None:
    with hold(tmp_path / "runs"), pytest.raises(UsageError, match="another training"):
        train(tmp_path, write_photos(tmp_path / "photos", 20))


def test_a_training_ends_when_the_run_does(tmp_path: Path) -> None:
    data = dataset(write_photos(tmp_path / "photos", 20))
    stopped = Run()
    stopped.stop()
    with pytest.raises(ChannelAborted):
        run_stage("fit", [data], run=stopped, model="test-rgb", batch=4, runs=tmp_path / "runs")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"model": "autoencodr"}, "fit.model: unknown network 'autoencodr'; did you mean 'autoencoder'?"),
        ({"model": "test-no-rgb"}, "fit.loss: rgb_mse needs a network that gives RGB, but test-no-rgb gives chroma"),
        ({"model": "autoencoder"}, "autoencoder sees pictures of 150 x 150 pixels; set `pairs.size: 150`"),
        ({"batch": 17}, "there are 16 pictures to train on, less than one batch of 17"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ({"path": "made.pt"}, "made.pt does not end in .safetensors"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        train(tmp_path, write_photos(tmp_path / "photos", 20), **options)

    assert complaint in str(refusal.value)
    assert not (tmp_path / "made.safetensors").exists()


def test_another_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "made.safetensors").write_text("precious")

    with pytest.raises(UsageError):
        train(tmp_path, write_photos(tmp_path / "photos", 20))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.safetensors", "photos"]
    assert (tmp_path / "made.safetensors").read_text() == "precious"


def test_another_trainings_checkpoint_is_not_written_over(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)
    before = (tmp_path / "made.safetensors").read_bytes()

    with pytest.raises(UsageError, match="another training"):
        train(tmp_path, photos, seed=7, runs=str(tmp_path / "other"))

    assert (tmp_path / "made.safetensors").read_bytes() == before


if __name__ == "__main__":  # the training that is killed
    train(Path(sys.argv[1]), Path(sys.argv[2]), epochs=100)
