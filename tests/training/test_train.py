"""Train graphs: from a folder of colour photographs to a checkpoint."""

import errno
import fcntl
import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from bwpipe import RunAborted, RunContext, UsageError
from bwpipe.core import plugins
from bwpipe.data.dataset import Dataset
from bwpipe.engine.run import RunResult, run
from bwpipe.errors import RunStopped
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.network import Network, networks
from bwpipe.testing import make_frames, run_stage
from bwpipe.training.job import FittedNetwork
from bwpipe.training.training_state import lock_folder
from tests.core.test_console import Terminal
from tests.support.apart import start_apart
from tests.support.file_sizes import files_up_to
from tests.support.made_photos import write_photos

NETWORKS = Path(__file__).parents[1] / "support" / "networks"
plugins.load([NETWORKS])

EVERYTHING: dict[str, Any] = {
    "model": "test-chroma",
    "losses": {"chroma_l1": 1.0, "flicker": 0.1},
    "optimiser": "adamw",
    "schedule": "cosine",
    "warmup": 3,
    "weight_decay": 0.01,
    "clip": 1.0,
    "average": 0.9,
    "accumulate": 2,
    "frozen": 1.5,
    "backbone_rate": 0.1,
    "augment": {"flip": True, "crop": 16, "scale": [0.5, 1.0]},
    "damage": {},
    "shift": 2,
}
"""Options that use every feature of a training, to show anything missing from its state."""


def train(
    folder: Path,
    photos: Path,
    *,
    size: int = 16,
    path: str = "made.safetensors",
    restart: bool = False,
    quiet: bool = True,
    weights: Mapping[str, float] = MappingProxyType({}),
    below: Sequence[Mapping[str, Any]] = (),
    save: Mapping[str, Any] = MappingProxyType({}),
    **fit: Any,
) -> RunResult:
    """Run a small deterministic train graph, with optional stages below `fit` and options of `save`."""
    options = {"model": "test-rgb", "epochs": 3, "batch": 4, "device": "cpu", "threads": 1, "runs": str(folder / "runs")}
    stages = [
        {"use": "read", "path": str(photos)},
        {"use": "pairs", "size": size, "toned": True},
        {"use": "dataset", "cache": str(folder / "cache"), "weights": dict(weights)},
        {"use": "fit", **options, **fit},
        *below,
        {"use": "save", "path": str(folder / path), "licence": "CC0", "data": "Gradients.", **save},
    ]
    return run({"plugins": [str(NETWORKS)], "stages": stages}, restart=restart, quiet=quiet)


def history(folder: Path) -> list[dict[str, float]]:
    """The figures of each epoch from the checkpoint."""
    _, checkpoint = load(folder / "made.safetensors")
    figures: list[dict[str, float]] = checkpoint.training["history"]
    return figures


def test_a_folder_of_photographs_becomes_a_checkpoint_that_colorize_uses(tmp_path: Path) -> None:
    outcome = train(tmp_path, write_photos(tmp_path / "photos", 20), epochs=2)

    net, checkpoint = load(tmp_path / "made.safetensors")
    made = run_stage("colorize", make_frames(2), model=str(tmp_path / "made.safetensors"))
    assert outcome.exit_code == 0
    assert net.registered == "test-rgb"
    assert checkpoint.licence == "CC0"
    assert (checkpoint.training["pictures"], checkpoint.training["options"]["epochs"]) == (20, 2)
    assert [frame.chroma.shape for frame in made] == [(2, 16, 16), (2, 16, 16)]


def test_the_model_card_is_written_from_the_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, write_photos(tmp_path / "photos", 20))

    card = (tmp_path / "made.md").read_text()
    assert "# made\n" in card
    assert "Gradients." in card
    assert "Predicts RGB in 16 x 16 pixels." in card
    for figures in history(tmp_path):
        assert f"{figures['own_rgb_mse']:.4g}" in card


def test_the_loss_falls(tmp_path: Path) -> None:
    train(tmp_path, write_photos(tmp_path / "photos", 20), epochs=30, rate=0.02)

    first, *_, last = history(tmp_path)
    assert last["training_loss"] < 0.1 * first["training_loss"]
    assert last["own_rgb_mse"] < 0.1 * first["own_rgb_mse"]


def test_the_best_weights_are_saved(tmp_path: Path) -> None:
    train(tmp_path, write_photos(tmp_path / "photos", 20), epochs=6, rate=0.5)

    net, checkpoint = load(tmp_path / "made.safetensors")
    best, _ = load(tmp_path / "runs" / "best.safetensors")
    losses = [figures["loss"] for figures in checkpoint.training["history"]]
    assert checkpoint.training["best_epoch"] == 1 + losses.index(min(losses)) < 6
    for name, weights in best.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], weights.half().float())
    assert f"of epoch {checkpoint.training['best_epoch']}, the best by `loss`" in (tmp_path / "made.md").read_text()


def test_goal_epoch_saves_the_last_weights_even_if_others_were_better(tmp_path: Path) -> None:
    train(tmp_path, write_photos(tmp_path / "photos", 20), epochs=6, rate=0.5, goal="epoch")

    losses = [figures["loss"] for figures in history(tmp_path)]
    assert load(tmp_path / "made.safetensors")[1].training["best_epoch"] == 6 > 1 + losses.index(min(losses))
    assert "of epoch 6, the last." in (tmp_path / "made.md").read_text()


def test_it_starts_from_weights_of_the_same_shapes_with_other_options(tmp_path: Path) -> None:
    fit: dict[str, Any] = {"model": "unet", "losses": {"chroma_bins": 1}, "rate": 1e-9, "epochs": 1, "batch": 8}

    train(tmp_path, write_photos(tmp_path / "photos", 10), size=32, start="unet", model_options={"vividness": 0.9}, **fit)

    made, shipped = load(tmp_path / "made.safetensors")[0], load(locate("unet"))[0]
    assert made.options.model_dump()["vividness"] == 0.9
    assert shipped.options.model_dump()["vividness"] != 0.9
    torch.testing.assert_close(made.get_parameter("head.weight"), shipped.get_parameter("head.weight"), atol=1e-3, rtol=0)


def train_everything(folder: Path, photos: Path) -> None:
    """The training with all features, of 40 steps, which saves its state after each."""
    train(folder, photos, epochs=10, keep=0, **EVERYTHING)


@pytest.mark.timeout(300)
def test_a_training_killed_at_any_moment_resumes_to_the_same_weights(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    killed, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    rng = random.Random(5)
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start_apart(train_everything, killed, photos)
        states = set((killed / "runs").glob("state-*.pt"))
        while not set((killed / "runs").glob("state-*.pt")) - states:
            assert process.is_alive()
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        assert process.pid
        os.kill(process.pid, number)
        process.join()
    assert not (killed / "made.safetensors").exists()

    for folder in (killed, uninterrupted):
        train(folder, photos, epochs=10, **EVERYTHING)

    assert (killed / "made.safetensors").read_bytes() == (uninterrupted / "made.safetensors").read_bytes()
    assert sorted(path.name for path in killed.rglob("*.part*")) == []
    assert len(list((killed / "runs").glob("state-*.pt"))) == 2


def test_a_stopped_training_saves_its_current_step(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    stopped = RunContext()
    data = dataset(photos, tmp_path)
    stopped.stop()
    with pytest.raises(RunStopped):
        run_stage("fit", [data], run=stopped, model="test-rgb", batch=4, runs=tmp_path / "runs")

    assert [path.name for path in (tmp_path / "runs").glob("state-*.pt")] == ["state-00000000.pt"]


def test_a_finished_training_does_nothing_when_it_is_started_again(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)
    files = [*sorted((tmp_path / "runs").rglob("*.*")), tmp_path / "made.safetensors", tmp_path / "made.md"]
    times = [file.stat().st_mtime_ns for file in files]

    assert train(tmp_path, photos).exit_code == 0

    assert [file.stat().st_mtime_ns for file in files] == times


def test_a_training_with_other_options_or_images_is_refused_unless_restarted(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)

    with pytest.raises(UsageError, match=r"is from a training that differs in rate; `bwpipe train --restart` starts over"):
        train(tmp_path, photos, rate=0.5)
    (photos / "000.png").unlink()
    with pytest.raises(UsageError, match="is from a training that differs in pictures; "):
        train(tmp_path, photos)
    assert train(tmp_path, photos, path="other.safetensors", restart=True).exit_code == 0


def test_a_damaged_state_is_reported_and_the_previous_one_is_used(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, keep=0, **EVERYTHING)
    before = (tmp_path / "made.safetensors").read_bytes()
    earlier, last = sorted((tmp_path / "runs").glob("state-*.pt"))
    last.write_bytes(last.read_bytes()[:1000])

    outcome = train(tmp_path, photos, keep=0, **EVERYTHING)
    assert (tmp_path / "made.safetensors").read_bytes() == before
    assert [text for text in outcome.remarks if "damaged; the training resumes from an earlier state" in text]
    for state in (earlier, last):
        state.write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"cannot resume from this state; `bwpipe train --restart` starts over"):
        train(tmp_path, photos, keep=0, **EVERYTHING)


def test_a_loss_that_is_not_finite_stops_with_the_step_named_and_is_never_kept(tmp_path: Path) -> None:
    with pytest.raises(RunAborted, match=r"rgb_mse is (inf|nan) at step 2, in epoch 1"):
        train(tmp_path, write_photos(tmp_path / "photos", 20), model="test-unbounded", rate=1e30, keep=0)

    assert list((tmp_path / "runs").glob("*.pt")) == []
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_a_full_disk_keeps_the_last_good_state_and_ends_with_3(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)
    whole = (tmp_path / "made.safetensors").read_bytes()
    earlier, last = sorted((tmp_path / "runs").glob("state-*.pt"))
    last.unlink()
    with (
        files_up_to(earlier.stat().st_size // 2),
        pytest.raises(RunAborted, match=r"runs: File too large; fix that and start again to resume the training") as raised,
    ):
        train(tmp_path, photos)
    assert raised.value.exit_code == 3
    assert list((tmp_path / "runs").glob("state-*.pt")) == [earlier]

    train(tmp_path, photos)
    assert (tmp_path / "made.safetensors").read_bytes() == whole


def test_a_validation_that_is_not_finite_is_never_kept(tmp_path: Path) -> None:
    with pytest.raises(RunAborted, match=r"(inf|nan) in the validation after step 1, in epoch 1"):
        train(tmp_path, write_photos(tmp_path / "photos", 20), model="test-unbounded", rate=1e30, keep=0, batch=15)

    assert list((tmp_path / "runs").glob("*.pt")) == []


def test_patience_stops_a_training_that_does_not_improve(tmp_path: Path) -> None:
    train(tmp_path, write_photos(tmp_path / "photos", 20), epochs=50, rate=0.5, patience=2)

    losses = [figures["loss"] for figures in history(tmp_path)]
    assert len(losses) == losses.index(min(losses)) + 1 + 2 < 50


def test_the_backbone_is_primed_and_frozen_as_long_as_requested(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, model="test-chroma", losses={"chroma_l1": 1}, frozen=3, epochs=3)
    still, _ = load(tmp_path / "made.safetensors")
    train(
        tmp_path, photos, model="test-chroma", losses={"chroma_l1": 1}, frozen=1, epochs=3, path="b.safetensors", restart=True
    )
    moved, _ = load(tmp_path / "b.safetensors")

    backbones = [net.backbone() for net in (still, moved)]
    biases = [backbone.state_dict()["0.bias"] for backbone in backbones if backbone]
    means = [backbone.state_dict()["1.running_mean"] for backbone in backbones if backbone]
    assert (biases[0] == 0.125).all()
    assert not means[0].any()
    assert not torch.equal(biases[0], biases[1])
    assert means[1].any()


def test_a_training_can_start_from_a_checkpoint(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, epochs=30, rate=0.02)
    train(tmp_path / "more", photos, epochs=1, rate=1e-6, start=str(tmp_path / "made.safetensors"))

    assert history(tmp_path / "more")[0]["loss"] == pytest.approx(min(f["loss"] for f in history(tmp_path)), rel=0.01)


def test_two_fits_in_one_graph_need_two_folders_and_do_not_affect_each_other(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    fit = {
        "use": "fit",
        "model": "test-chroma",
        "losses": {"chroma_l1": 1},
        "epochs": 2,
        "batch": 4,
        "threads": 1,
        "device": "cpu",
    }
    stages = [
        {"use": "read", "path": str(photos)},
        {"use": "pairs", "size": 16, "toned": True},
        {"use": "dataset", "cache": str(tmp_path / "cache")},
    ]
    both = [{**fit, "id": name, "from": "dataset", "runs": str(tmp_path / name)} for name in ("one", "two")]
    one = [{**each, "runs": str(tmp_path / "same")} for each in both]

    with pytest.raises(UsageError, match="same would be used by two stages; give each `fit` a `runs` folder of its own"):
        run({"plugins": [str(NETWORKS)], "stages": [*stages, *one]})
    run({"plugins": [str(NETWORKS)], "stages": [*stages, *both]})

    assert (tmp_path / "one" / "best.safetensors").read_bytes() == (tmp_path / "two" / "best.safetensors").read_bytes()


def test_a_training_runs_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    photos = write_photos(tmp_path / "photos", 20)

    assert train(tmp_path, photos, epochs=1).exit_code == 0

    with (
        lock_folder(tmp_path / "runs"),
        pytest.raises(UsageError, match=r"another training .*\(if that one is gone, remove .*lock\.soft\)"),
    ):
        train(tmp_path, photos, epochs=2)


def test_two_trainings_never_share_a_folder(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "runs"), pytest.raises(UsageError, match="another training is using this folder"):
        train(tmp_path, write_photos(tmp_path / "photos", 20))


def dataset(photos: Path, folder: Path) -> Dataset:
    pairs = run_stage("pairs", run_stage("read", path=str(photos)), size=16, toned=True)
    (data,) = run_stage("dataset", pairs, cache=folder / "cache")
    assert isinstance(data, Dataset)
    return data


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"model": "autoencodr"}, "fit.model: unknown network 'autoencodr'; did you mean 'autoencoder'?"),
        ({"model": "test-chroma"}, "rgb_mse needs a network that produces"),
        ({"model": "autoencoder"}, "autoencoder takes images of 150 x 150 pixels, not 16 x 16; set `pairs.size` to match"),
        ({"model_options": {"depth": 3}}, "fit.model_options.depth: "),
        ({"batch": 40}, "less than one batch of 40"),
        ({"batch": 4, "accumulate": 3}, "fit.batch: 4 images cannot be split among 1 devices in 3 parts each"),
        ({"augment": {"crop": 20}}, "test-rgb takes images of 16 x 16 pixels, not 20 x 20; set `fit.augment.crop` to match"),
        ({"goal": "epoch", "patience": 2}, "fit.patience: with `goal: epoch` every epoch is the best so far; omit one of"),
        ({"goal": "beauty"}, "fit.goal: 'beauty' is not a validation figure of test-rgb; choose one of"),
        (
            {"start": "autoencoder"},
            "fit.start: autoencoder is a checkpoint of autoencoder, not of test-rgb",
        ),
        (
            {"model": "unet", "start": "unet", "model_options": {"widths": [12, 8, 8]}, "losses": {"chroma_bins": 1}},
            "checkpoint of unet {'widths': [192, 128, 64]}, not of unet {'widths': [12, 8, 8]}",
        ),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
        (
            {"path": "runs/best.safetensors"},
            "best.safetensors would be used by two stages; give each `save` a `path` of its own",
        ),
        ({"rate": math.inf}, "rate"),
        ({"weight_decay": math.inf}, "weight_decay"),
        ({"losses": {"rgb_mse": math.inf}}, "fit.losses.rgb_mse: "),
        ({"path": "made.pt"}, "made.pt does not end in .safetensors"),
        ({"path": "photos/000.png/made.safetensors"}, "000.png is not a folder; choose another one"),
    ],
)
def test_invalid_options_are_refused_before_the_first_step(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        train(tmp_path, write_photos(tmp_path / "photos", 20), **options)

    assert complaint in str(refusal.value)
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert not (tmp_path / "cache").exists()  # nothing was read for it


def test_more_images_in_a_batch_than_weights_and_split_can_give_are_refused_before_any_is_read(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 10)

    with pytest.raises(UsageError, match=r"an epoch has only \d+ training images, less than one batch of 10; add images"):
        train(tmp_path, photos, batch=10)

    assert not (tmp_path / "cache").exists()
    assert train(tmp_path, photos, batch=10, weights={"*": 2.0}, epochs=1).exit_code == 0


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("", r"path: expected a path, not ''"), (".", r"save\.path: \. does not end in \.safetensors; rename it")],
)
def test_an_empty_path_of_a_checkpoint_is_refused_in_a_sentence(
    tmp_path: Path, path: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=complaint):
        train(tmp_path, write_photos(tmp_path / "photos", 4), save={"path": path})


def test_an_unrelated_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "made.safetensors").write_text("precious")

    with pytest.raises(UsageError):
        train(tmp_path, write_photos(tmp_path / "photos", 20))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.safetensors", "photos"]
    assert (tmp_path / "made.safetensors").read_text() == "precious"


def test_another_trainings_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos)
    before = (tmp_path / "made.safetensors").read_bytes()

    with pytest.raises(UsageError, match=r"made\.safetensors is the checkpoint of another training; move it away"):
        train(tmp_path, photos, seed=7, runs=str(tmp_path / "other"))
    assert list((tmp_path / "other").glob("state-*.pt")) == []
    record = {"recipe": "another", "history": [{"step": 1.0}], "options": {}, "best_epoch": 1}
    fitted = FittedNetwork(load(tmp_path / "made.safetensors")[0], dataset(photos, tmp_path), record)
    with pytest.raises(RunAborted, match=r"is the checkpoint of another training; .* \(the fitted weights are kept\)"):
        run_stage("save", [fitted], path=tmp_path / "made.safetensors")
    with pytest.raises(UsageError, match="is the checkpoint of another training; move it away, or set"):
        train(tmp_path, photos, restart=True)

    assert (tmp_path / "made.safetensors").read_bytes() == before


def test_a_page_written_by_hand_is_not_overwritten(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    (tmp_path / "made.md").write_text("precious")
    with pytest.raises(UsageError, match=r"made\.md exists and is not a model card of bwpipe"):
        train(tmp_path, photos)
    (tmp_path / "made.md").unlink()
    train(tmp_path, photos)
    (tmp_path / "made.md").write_text("precious")

    with pytest.raises(UsageError, match=r"made\.md was edited by hand"):
        train(tmp_path, photos)

    assert (tmp_path / "made.md").read_text() == "precious"


def test_a_save_interrupted_between_checkpoint_and_card_is_completed_later(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, epochs=1)
    weights, page = tmp_path / "made.safetensors", tmp_path / "made.md"
    assert weights.stat().st_mtime_ns <= page.stat().st_mtime_ns
    whole = page.read_bytes()
    page.unlink()
    train(tmp_path, photos, epochs=1)
    assert page.read_bytes() == whole

    (head, seal) = whole.rsplit(b"\n<!-- ", 1)
    older = head.replace(b"made by bwpipe", b"fitted by bwpipe")  # as worded by another version
    page.write_bytes(older + b"\n<!-- " + seal)
    with pytest.raises(UsageError, match=r"made\.md was edited by hand"):
        train(tmp_path, photos, epochs=1)
    page.write_bytes(older + seal_of(older))
    train(tmp_path, photos, epochs=1)
    assert page.read_bytes() == whole

    weights.unlink()
    with pytest.raises(UsageError, match=r"made\.md exists and is the model card of a missing checkpoint; move it away"):
        train(tmp_path, photos, epochs=1)


def test_what_killed_runs_left_is_removed_and_files_that_go_meanwhile_stop_no_save(tmp_path: Path) -> None:
    work = tmp_path / ".bwpipe"
    work.mkdir()
    abandoned = [work / "1.part.safetensors", work / "1.part.md"]
    others = [work / "2.part.safetensors", work / "notes.txt"]
    for path in (*abandoned, *others):
        path.write_bytes(b"unfinished")
    for path in abandoned:
        os.utime(path, (0, 0))
    gone = work / "3.part.safetensors"  # found in the folder, and not there when asked about: another `save` finished
    gone.symlink_to(work / "nothing")

    train(tmp_path, write_photos(tmp_path / "photos", 20), epochs=1)

    assert set(work.iterdir()) == {*others, gone}
    assert load(tmp_path / "made.safetensors")


def seal_of(text: bytes) -> bytes:
    """The seal that ends a card with this text."""
    return b"\n<!-- a card of bwpipe, " + blake2b(text, digest_size=16).hexdigest().encode() + b" -->\n"


def test_an_infinite_option_survives_a_restart(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    for _ in range(2):
        assert train(tmp_path, photos, epochs=1, clip=math.inf).exit_code == 0

    assert "| clip | Infinity |" in (tmp_path / "made.md").read_text()


def test_a_copy_of_the_best_weights_does_not_count_as_a_saved_checkpoint(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, epochs=1)
    (tmp_path / "made.safetensors").write_bytes((tmp_path / "runs" / "best.safetensors").read_bytes())

    with pytest.raises(UsageError, match="is the checkpoint of another training"):
        train(tmp_path, photos, epochs=1)


def test_best_weights_of_another_training_are_refused(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path / "other", photos, epochs=1, seed=7)
    train(tmp_path, photos, epochs=1)
    (tmp_path / "runs" / "best.safetensors").write_bytes((tmp_path / "other" / "runs" / "best.safetensors").read_bytes())

    with pytest.raises(
        UsageError, match=r"best\.safetensors does not hold the best weights of this training; restore the original file"
    ):
        train(tmp_path, photos, epochs=1)


def test_a_training_cannot_start_from_a_file_it_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    monkeypatch.chdir(tmp_path)
    train(tmp_path, photos, epochs=1, runs=None)

    with pytest.raises(UsageError, match=r"best\.safetensors would be overwritten by this training; copy it"):
        train(tmp_path, photos, epochs=1, runs=None, start="runs/graph/best.safetensors")


@pytest.mark.parametrize("mistake", [{"batch": 40}, {"augment": {"crop": 20}}])
def test_a_restart_that_is_refused_removes_nothing(tmp_path: Path, mistake: dict[str, Any]) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, epochs=1)
    states = sorted((tmp_path / "runs").glob("state-*.pt"))

    with pytest.raises(UsageError, match=r"less than one batch|not 20 x 20"):
        train(tmp_path, photos, path="b.safetensors", restart=True, **mistake)

    assert sorted((tmp_path / "runs").glob("state-*.pt")) == states != []


def test_weights_beyond_float16_are_not_saved_as_infinity(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, epochs=1)
    net, _ = load(tmp_path / "made.safetensors")
    net.get_parameter("layers.0.bias").data[0] = 1e5
    record = {"recipe": "r", "history": [{"step": 1.0}], "options": {}, "best_epoch": 1}
    fitted = FittedNetwork(net, dataset(photos, tmp_path), record)

    with pytest.raises(
        RunAborted, match=r"the weight 1e\+05 in layers\.0\.bias exceeds the range of float16; set `half: false`"
    ):
        run_stage("save", [fitted], path=tmp_path / "b.safetensors")
    run_stage("save", [fitted], path=tmp_path / "b.safetensors", half=False)

    assert load(tmp_path / "b.safetensors")[0].get_parameter("layers.0.bias")[0] == 1e5


def test_photographs_of_the_training_itself_are_not_read_by_the_next_start(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    for _ in range(2):
        assert train(tmp_path, photos, epochs=1, runs=str(photos / "runs")).exit_code == 0


def test_what_score_would_refuse_later_is_refused_before_the_first_step(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    stages = [
        {"use": "read", "path": str(photos)},
        {"use": "pairs", "size": 16, "toned": True},
        {"use": "dataset", "cache": str(tmp_path / "cache")},
        {"use": "fit", "model": "test-rgb", "batch": 4, "device": "cpu", "runs": str(tmp_path / "runs")},
        {"use": "score", "quality": "best"},
    ]
    with pytest.raises(UsageError, match="score: test-rgb uses one input size for all pictures; leave out `quality: best`"):
        run({"plugins": [str(NETWORKS)], "stages": stages})

    assert list((tmp_path / "runs").glob("state-*.pt")) == []


def test_scoring_training_images_causes_one_warning(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    write_photos(tmp_path / "others", 20)
    (tmp_path / "link").symlink_to(photos)
    stages = [
        {"use": "read", "path": str(photos)},
        {"use": "pairs", "size": 16, "toned": True},
        {"use": "dataset", "cache": str(tmp_path / "cache"), "weights": {"00*": 0}},
        {"use": "fit", "model": "test-rgb", "epochs": 1, "batch": 4, "device": "cpu", "runs": str(tmp_path / "runs")},
        *({"use": "score", "id": name, "on": str(tmp_path / name), "size": 16} for name in ("others", "link")),
    ]

    for _ in range(2):  # the second start fits nothing
        remarks = run({"plugins": [str(NETWORKS)], "stages": stages}).remarks

        (warning,) = (text for text in remarks if "trained on" in text)
        assert warning.startswith(
            f"score.on: 10 of 20 images in {tmp_path / 'link'} are trained on, so their figures say little"
        )
        assert remarks[warning] == 1


def test_a_film_among_the_photographs_is_skipped_and_the_progress_bar_ends_with_the_reading(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    shutil.copy(samples / "pan.mp4", photos)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    outcome = train(tmp_path, photos, epochs=5, quiet=False)

    assert outcome.left_out == {"films": 1}
    assert outcome.meters["read"].items == 20
    before, after = terminal.getvalue().split("save: ")
    assert " frames/s" in before
    assert " frames/s" not in after


@pytest.mark.skipif(os.name != "posix", reason="names are bytes there only")
def test_names_that_are_not_utf8_are_escaped_in_the_card(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, epochs=1)
    net, _ = load(tmp_path / "made.safetensors")
    place = os.fsdecode(b"caf\xe9|bar")
    score = {"pictures": 3, "protocol": {"set": place, "pictures": 3}, "figures": {"psnr": 20.0}, "grey": {"psnr": 19.0}}
    record = {"recipe": "r", "history": [{"step": 1.0}], "options": {"start": place}, "best_epoch": 1}
    scores = [{**score, "by_folder": {place: {**score, "pictures": 2}, "b": {**score, "pictures": 1}}}]
    fitted = FittedNetwork(net, dataset(photos, tmp_path), {**record, "scores": scores})

    run_stage("save", [fitted], path=tmp_path / "b.safetensors")

    assert load(tmp_path / "b.safetensors")[1].training["options"] == {"start": r"caf\udce9|bar"}
    assert r"| start | caf\udce9\|bar |" in (tmp_path / "b.md").read_text()


@pytest.mark.slow  # more threads than cores spin where the machine is busy
@pytest.mark.parametrize(("asked", "expected"), [(None, 3), (2, 2)])
def test_a_training_after_a_run_in_the_same_process_has_the_threads_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None, expected: int
) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    train(tmp_path, photos, epochs=1)
    counts: set[int] = set()
    network = networks["test-rgb"]
    forward = network.forward

    def counted(net: Network, luma: torch.Tensor) -> Any:
        counts.add(torch.get_num_threads())
        return forward(net, luma)

    monkeypatch.setattr(network, "forward", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        colorize = {"use": "colorize", "model": str(tmp_path / "made.safetensors"), "device": "cpu", "precision": "float32"}
        write = {"use": "write", "path": str(tmp_path / "out")}
        run({"stages": [{"use": "read", "path": str(photos)}, {"use": "grayscale", "colour": "recolour"}, colorize, write]})
        assert counts == {1}
        counts.clear()

        train(tmp_path / "again", photos, epochs=1, threads=asked)
    finally:
        torch.set_num_threads(before)

    assert counts == {expected}
