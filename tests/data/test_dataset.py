"""The `dataset` stage: pairs are cached, found again, split and weighted."""

import ctypes
import json
import mmap
import os
import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from threading import enumerate as threads
from time import sleep
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from numpy.testing import assert_allclose, assert_array_equal

from bwpipe import Gather, MediaError, RunAborted, RunContext, UnitMap, UsageError, stage
from bwpipe.core import plugins
from bwpipe.core.frame import Unit
from bwpipe.data.dataset import Dataset, Pair
from bwpipe.engine.run import RunResult, run
from bwpipe.errors import TooManyErrors
from bwpipe.metrics.image_metrics import colourfulness
from bwpipe.testing import make_frames, run_stage
from bwpipe.training.fabric import Fabric
from bwpipe.training.options import TrainingOptions
from bwpipe.training.step import TrainStep
from tests.support.file_sizes import files_up_to

plugins.load([Path(__file__).parents[1] / "support" / "networks"])

SIZE = 8


@stage("test-show")
class Show(Gather):
    """Collects the datasets of the stage above for the tests."""

    def gather(self, datasets: Iterator[Dataset]) -> int:
        datasets_seen.extend(datasets)
        return len(datasets_seen)


datasets_seen: list[Dataset] = []


@stage("test-fail-late")
class FailLate(UnitMap):
    """Passes on all pairs, and fails after that of one image."""

    name: str

    def apply(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        for each in pairs:
            yield each
            if str(each.unit.name) == self.name:
                raise MediaError("it is cut short")


class Place:
    """A folder of colour photographs, and runs that build a dataset from them."""

    def __init__(self, root: Path) -> None:
        self.bad = ""
        self.photos, self.cache = root / "photos", root / "cache"
        self._rng = np.random.default_rng(0)
        for folder, count in (("people", 6), ("people/old", 4), ("places", 10)):
            (self.photos / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                self.write(f"{folder}/{i}.png")

    def write(self, name: str, *, grey: bool = False) -> None:
        """Write a new photograph, with many colours or none."""
        colours = self._rng.integers(0, 256, (3, 3, 1 if grey else 3), dtype=np.uint8)
        cv2.imwrite(str(self.photos / name), cv2.resize(np.repeat(colours, 3 if grey else 1, -1), (24, 24)))

    def run(self, *, top: dict[str, Any] | None = None, quiet: bool = True, **options: Any) -> RunResult:
        stages = [
            {"use": "read", "path": str(self.photos)},
            {"use": "pairs", "size": SIZE},
            {"use": "test-fail-late", "name": self.bad},
            {"use": "dataset", "cache": str(self.cache)},
            {"use": "test-show"},
        ]
        changes = {key.replace("__", "."): value for key, value in options.items()}
        return run({"stages": stages, **(top or {})}, set=changes, quiet=quiet)

    def dataset(self, **options: Any) -> Dataset:
        self.run(**options)
        return datasets_seen[-1]

    def cached(self) -> list[Path]:
        return [path for path in sorted(self.cache.iterdir()) if path.name != ".bwpipe"]

    def reads(self, **options: Any) -> int:
        """Number of images that a run reads."""
        return self.run(**options).meters["read"].items


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def in_memory(count: int, weights: list[float] | None = None) -> Dataset:
    rng = np.random.default_rng(1)
    grey, colour = (rng.integers(0, 256, (count, SIZE, SIZE, *more), dtype=np.uint8) for more in ((), (3,)))
    return Dataset.of(grey, colour, validation=range(3), weights=weights)


def test_a_folder_becomes_arrays_that_numpy_reads(place: Place) -> None:
    data = place.dataset()

    (folder,) = place.cached()
    grey, colour = np.load(folder / "grey.npy"), np.load(folder / "colour.npy")
    info = json.loads((folder / "dataset.json").read_text())
    assert data.folder == folder
    assert (grey.shape, colour.shape, grey.dtype, colour.dtype) == ((20, SIZE, SIZE), (20, SIZE, SIZE, 3), np.uint8, np.uint8)
    assert data.names == info["names"] == sorted(data.names)
    assert_array_equal(data.grey, grey)
    assert_array_equal(data.colour, colour)
    for name, pair in zip(data.names, colour, strict=True):
        photo = cv2.imread(str(place.photos / name))
        assert photo is not None
        assert_allclose(pair.mean((0, 1)), photo.mean((0, 1))[::-1], atol=4)
    with pytest.raises(ValueError, match="read-only"):
        data.grey[0] = 0


def test_a_second_run_reads_nothing_and_gives_the_same_dataset(place: Place) -> None:
    first = place.dataset()
    before = {path: path.stat().st_mtime_ns for path in place.cache.rglob("*")}

    outcome = place.run()

    assert [meter.items for meter in outcome.meters.values()] == [0, 0, 0, 1, 1]
    assert (outcome.done, outcome.already, outcome.exit_code) == (0, 20, 0)
    assert datasets_seen[-1].digest == first.digest
    assert_array_equal(datasets_seen[-1].colour, first.colour)
    assert {path: path.stat().st_mtime_ns for path in place.cache.rglob("*")} == before


def test_only_what_pairs_depend_on_rebuilds_them(place: Place) -> None:
    place.run()

    assert place.reads(dataset__split=0.5, dataset__seed=1, dataset__weights={"people": 2}, read__workers=1) == 0
    assert place.reads(pairs__size=6) == 20
    place.write("people/1.png")
    assert place.reads() == 20
    (place.photos / "people" / "2.png").unlink()
    assert place.reads() == 19
    place.write("new.png")
    assert place.reads() == 20
    assert place.reads() == 0


def damage_text(folder: Path) -> None:
    (folder / "dataset.json").write_text((folder / "dataset.json").read_text()[:-20])


def damage_names(folder: Path) -> None:
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**info, "names": info["names"][1:]}))


def damage_array(folder: Path) -> None:
    os.truncate(folder / "colour.npy", 1000)


def flip_bit(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def rot_grey(folder: Path) -> None:
    flip_bit(folder / "grey.npy", -1)


def rot_colour(folder: Path) -> None:
    flip_bit(folder / "colour.npy", 200)


def rot_name(folder: Path) -> None:
    flip_bit(folder / "dataset.json", (folder / "dataset.json").read_bytes().index(b"people/0.png") + 7)


def rot_reason(folder: Path) -> None:
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**info, "failed": {info["names"][0]: "it is cut short"}}))


def damage_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [damage_text, damage_names, damage_array, rot_grey, rot_colour, rot_name, rot_reason, damage_all]
)
def test_a_damaged_cache_is_rebuilt_with_a_warning(place: Place, damage: Any, capfd: pytest.CaptureFixture[str]) -> None:
    before = place.dataset()
    colour = before.colour.copy()
    (folder,) = place.cached()
    damage(folder)

    assert place.reads() == 20

    assert capfd.readouterr().err == f"warning: {folder} is damaged; the dataset is rebuilt\n"
    assert datasets_seen[-1].digest == before.digest
    assert_array_equal(datasets_seen[-1].colour, colour)
    assert place.cached() == [folder]
    assert place.reads() == 0


def test_a_dataset_that_0_1_0_cached_is_still_used(place: Place) -> None:
    place.run()
    (folder,) = place.cached()
    info = json.loads((folder / "dataset.json").read_text())
    del info["checksum"]
    (folder / "dataset.json").write_text(json.dumps(info))

    assert place.reads() == 0


def test_leftovers_of_a_killed_run_are_removed(place: Place) -> None:
    left = place.cache / ".bwpipe" / "0123.part"
    left.mkdir(parents=True)
    (left / "grey.npy").write_bytes(b"half")

    place.run()

    assert [path.name for path in (place.cache / ".bwpipe").iterdir()] == ["lock"]


def test_a_stopped_run_leaves_no_incomplete_dataset(place: Place) -> None:
    (place.photos / "places" / "5.png").write_bytes((place.photos / "places" / "5.png").read_bytes()[:60])

    with pytest.raises(TooManyErrors, match=r"stopped: 1 file failed \(limit 0\)"):
        place.run(top={"on_error": "stop"})

    assert [path.name for path in place.cache.rglob("*")] in ([], [".bwpipe", "lock"])


def test_a_full_disk_ends_the_run_and_leaves_no_incomplete_dataset(place: Place) -> None:
    with files_up_to(100_000), pytest.raises(RunAborted) as refusal:
        place.run(pairs__size=100)

    assert f"{place.cache}: the dataset cannot be written (File too large); free some space" in str(refusal.value)
    assert [path.name for path in place.cache.rglob("*")] == [".bwpipe", "lock"]
    assert place.reads(pairs__size=100) == 20


def test_a_cache_that_cannot_be_a_folder_is_refused(place: Place) -> None:
    place.cache.write_text("precious")

    with pytest.raises(UsageError, match=r"cannot be written to .* choose another `dataset.cache`"):
        place.run()

    assert place.cache.read_text() == "precious"


def test_of_two_concurrent_runs_the_second_uses_the_result_of_the_first(place: Place, tmp_path: Path) -> None:
    place.run()
    (folder,) = place.cached()
    place.cache = tmp_path / "other"
    lock = FileLock(place.cache / ".bwpipe" / "lock")
    (place.cache / ".bwpipe").mkdir(parents=True)
    with lock:  # the first run writes
        second = Thread(target=place.run)
        second.start()
        while not any(thread.name == "dataset" for thread in threads()):
            sleep(0.01)
        before = (folder / "grey.npy").stat().st_ino
        folder.rename(place.cache / folder.name)
    second.join()

    assert datasets_seen[-1].folder == place.cache / folder.name
    assert (place.cache / folder.name / "grey.npy").stat().st_ino == before


def test_a_failed_file_is_reported_again_when_nothing_is_read(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    bad = place.photos / "people" / "3.png"
    bad.write_bytes(bad.read_bytes()[:80])
    first = place.run()
    said = capfd.readouterr().err

    again = place.run()

    assert first.exit_code == again.exit_code == 1
    assert first.failed == again.failed
    assert list(again.failed) == [bad]
    assert capfd.readouterr().err == said == f"error: {bad}: {again.failed[bad]}\n"
    assert (again.already, again.meters["read"].items) == (19, 0)
    assert "people/3.png" not in datasets_seen[-1].names


def test_a_file_that_failed_before_stops_a_run_with_on_error_stop(place: Place) -> None:
    place.bad = "people/3.png"
    place.run()

    with pytest.raises(TooManyErrors, match=r"stopped: 1 file failed \(limit 0\)"):
        place.run(top={"on_error": "stop"})


def test_pairs_of_a_file_that_failed_later_are_not_used(place: Place) -> None:
    place.bad = "people/3.png"

    for _ in range(2):
        outcome = place.run()
        data = datasets_seen[-1]
        assert {data.names[i] for i in (*data.training, *data.validation)} == set(data.names) - {place.bad}
        assert outcome.failed == {place.photos / place.bad: "it is cut short"}


def test_exclusions_are_reported_again_when_nothing_is_read(place: Place) -> None:
    place.write("people/0.png", grey=True)
    place.write("places/0.png", grey=True)
    first = place.run()

    again = place.run()

    assert first.left_out == again.left_out == datasets_seen[-1].left_out
    assert sum(again.left_out.values()) == 2
    (why,) = again.left_out
    assert f"left out: 2 {why}" in str(again)
    (folder,) = place.cached()
    assert json.loads((folder / "dataset.json").read_text())["left_out"] == {"people/0.png": why, "places/0.png": why}


def test_the_summary_describes_the_dataset(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.write("people/0.png", grey=True)

    for _ in range(2):
        data = place.dataset(quiet=False, dataset__weights={"people": 3, "people/old": 0.5})

        lines = [line.removeprefix("dataset: ") for line in capfd.readouterr().err.splitlines() if line.startswith("dataset: ")]
        (why,) = data.left_out
        mean = np.mean([colourfulness(pair) for pair in data.colour])
        counts = f"{len(data.training)} for training, {len(data.validation)} for validation"
        assert lines == [
            f"19 images of 8 x 8 ({counts}), mean colourfulness {mean:.1f}",
            "places 10, people 9 x 0.5 to 3",
            f"left out: 1 {why}; listed in {data.folder}/dataset.json",
            f"cached in {data.folder} (0.0 MB)",
        ]


def test_a_quiet_run_shows_no_summary(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.run()

    assert capfd.readouterr().err == ""


def test_every_file_is_used_for_training_or_validation(place: Place) -> None:
    data = place.dataset(dataset__split=0.3)

    assert_array_equal(np.sort([*data.training, *data.validation]), np.arange(20))
    assert 1 <= len(data.validation) <= 12


def test_the_split_is_determined_by_the_seed(place: Place) -> None:
    data, other = place.dataset(dataset__split=0.5), place.dataset(dataset__split=0.5, dataset__seed=1)

    assert list(other.validation) != list(data.validation)
    assert other.digest != data.digest


def test_adding_files_moves_none_between_training_and_validation(place: Place) -> None:
    before = place.dataset(dataset__split=0.5)
    for i in range(10):
        place.write(f"places/more-{i}.png")
    after = place.dataset(dataset__split=0.5)

    aside = {after.names[i] for i in after.validation}
    assert {before.names[i] for i in before.validation} == aside & set(before.names)
    assert aside - set(before.names)


def test_about_the_requested_share_is_set_aside() -> None:
    frames = make_frames(2000, height=4, width=4)
    pairs = (Pair(frame.unit, np.zeros((1, 1), np.uint8), np.zeros((1, 1, 3), np.uint8)) for frame in frames)

    (data,) = run_stage("dataset", pairs, split=0.2)

    assert len(data.validation) == pytest.approx(400, abs=60)


def test_all_frames_of_a_film_are_on_one_side() -> None:
    films = [make_frames(20, film=True, name=f"{i}.mkv", height=4, width=4) for i in range(6)]
    pairs = [Pair(frame.unit, np.zeros((1, 1), np.uint8), np.zeros((1, 1, 3), np.uint8)) for film in films for frame in film]

    (data,) = run_stage("dataset", pairs, split=0.5)

    assert not {data.names[i] for i in data.training} & {data.names[i] for i in data.validation}


def test_two_files_are_split_however_small_the_share(place: Place) -> None:
    for path in sorted(place.photos.rglob("*.png"))[2:]:
        path.unlink()

    for split in (0.001, 0.999):
        data = place.dataset(dataset__split=split)
        assert (len(data.training), len(data.validation)) == (1, 1)


def test_too_few_images_are_refused(place: Place) -> None:
    for path in sorted(place.photos.rglob("*.png"))[1:]:
        path.unlink()
    with pytest.raises(UsageError, match="from a single file are not enough for training and validation; add more"):
        place.run()
    assert not place.cache.exists()  # refused before anything is read

    (only,) = place.photos.rglob("*.png")
    for name in (str(only.relative_to(place.photos)), "people/b.png"):
        place.write(name, grey=True)
    with pytest.raises(UsageError, match="there are no images to train on; read a folder of colour photographs"):
        place.run()


def test_each_image_is_used_as_often_as_the_weight_of_its_folder_says(place: Place) -> None:
    data = place.dataset(dataset__weights={"people": 3, "people/old/": 0})

    shown = Counter(data.names[i] for i in data.order(seed=1, epoch=1))

    expected = {data.names[i]: 3 if data.names[i].startswith("people/") else 1 for i in data.training}
    assert shown == {name: times for name, times in expected.items() if not name.startswith("people/old/")}
    assert {data.names[i].rpartition("/")[0] for i in place.dataset(dataset__split=0.9).validation} >= {"people/old"}


def test_a_weight_may_apply_to_all_names_that_match_a_pattern(place: Place) -> None:
    data = place.dataset(dataset__weights={"people": 3, "people/[12].*": 2, "places/*1*": 0})

    weights = dict(zip(data.names, data.weights.tolist(), strict=True))
    assert {name: weights[name] for name in ("people/0.png", "people/1.png", "people/2.png", "places/0.png")} == {
        "people/0.png": 3,
        "people/1.png": 2,
        "people/2.png": 2,
        "places/0.png": 1,
    }
    assert {weight for name, weight in weights.items() if "places" in name and "1" in name} == {0}


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"people/x*": 3}, "no image matches the folder or pattern 'people/x*';"),
        ({"peple": 3}, "no image matches the folder or pattern 'peple'; did you mean 'people'?"),
        ({"old": 3}, "no image matches the folder or pattern 'old'; known: people, people/old, places"),
        ({"people": -1}, "expected a number of at least 0, not -1"),
        ({"people": 0, "places": 0}, "all training images have weight 0"),
    ],
)
def test_invalid_weights_are_refused(place: Place, weights: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=r"weights") as refusal:
        place.run(dataset__weights=weights)

    assert complaint in str(refusal.value)


def test_the_fraction_of_a_weight_is_a_probability() -> None:
    data = in_memory(1003, weights=[2.25] * 1003)

    epochs = [Counter(data.order(7, epoch).tolist()) for epoch in range(4)]

    assert {times for epoch in epochs for times in epoch.values()} == {2, 3}
    assert [sum(epoch.values()) for epoch in epochs] == pytest.approx([2250] * 4, abs=60)
    assert {0, 1, 2}.isdisjoint(epochs[0])
    assert epochs[0] != epochs[1]


def test_the_order_is_determined_by_seed_and_epoch() -> None:
    data = in_memory(100)

    assert_array_equal(data.order(1, 2), data.order(1, 2))
    assert_array_equal(np.sort(data.order(1, 2)), data.training)
    for seed, epoch in ((1, 3), (2, 2)):
        assert data.order(seed, epoch).tolist() != data.order(1, 2).tolist()


def test_only_equal_datasets_have_the_same_digest(place: Place, tmp_path: Path) -> None:
    first = place.dataset()
    place.cache = tmp_path / "another"
    again = place.dataset(dataset__weights={"people": 2})
    place.write("places/3.png")

    assert first.digest == again.digest
    assert place.dataset().digest != first.digest
    assert in_memory(9).digest == in_memory(9).digest != in_memory(10).digest


def test_a_cached_dataset_is_pickled_without_its_images(place: Place) -> None:
    data = place.dataset(pairs__size=64, dataset__weights={"people": 2})
    packed = pickle.dumps(data)

    again = pickle.loads(packed)

    assert len(packed) < 5000 < data.colour.nbytes
    assert_array_equal(again.colour, data.colour)
    assert_array_equal(again.grey, data.grey)
    assert_array_equal(again.order(1, 1), data.order(1, 1))
    assert (again.digest, again.names, again.folder) == (data.digest, data.names, data.folder)


def in_cache(file: Path, part: slice) -> bool:
    """Whether all pages of a part of a file are in the page cache; asking does not load any."""
    mapped = np.memmap(file, np.uint8, "r")
    pages = np.zeros(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
    assert ctypes.CDLL(None).mincore(*map(ctypes.c_void_p, (mapped.ctypes.data, len(mapped), pages.ctypes.data))) == 0
    return bool((pages[part.start // mmap.PAGESIZE : -(-part.stop // mmap.PAGESIZE)] & 1).all())


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder that is not in memory, as `tmp_path` may be."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports what is in the page cache")
def test_a_step_prefetches_the_images_of_the_next_one(on_disk: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (20_000, 16, 16, 3), dtype=np.uint8)
    whole = Dataset.of(colour[..., 1].copy(), colour, validation=[0])
    for name, array in (("grey.npy", whole.grey), ("colour.npy", whole.colour)):
        with (on_disk / name).open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    data = pickle.loads(pickle.dumps(replace(whole, folder=on_disk)))  # memory-mapped, as in another process
    options = TrainingOptions.model_validate({"model": "test-chroma", "losses": {"chroma_l1": 1}, "batch": 4})
    stepper = TrainStep(options, data, Fabric(accelerator="cpu", devices=1))
    next_ones = [
        (on_disk / name, slice(128 + place * row, 128 + (place + 1) * row))
        for place in stepper.schedule.indices(1).tolist()
        for name, row in (("grey.npy", 16 * 16), ("colour.npy", 16 * 16 * 3))
    ]
    if any(in_cache(*each) for each in next_ones):
        pytest.skip("these files are never evicted")

    stepper.step(0)

    while not all(in_cache(*each) for each in next_ones):
        sleep(0.02)


def test_a_mapped_dataset_stays_usable_after_its_files_are_deleted(place: Place) -> None:
    data = place.dataset()
    before = data.batch(np.arange(4), torch.device("cpu"))
    shutil.rmtree(place.cache)

    data.prefetch(np.arange(4))

    for one, other in zip(before, data.batch(np.arange(4), torch.device("cpu")), strict=True):
        assert torch.equal(one, other)


def test_a_dataset_in_memory_is_pickled_whole() -> None:
    data = in_memory(5)

    again = pickle.loads(pickle.dumps(data))

    assert_array_equal(again.colour, data.colour)
    assert_array_equal(again.validation, data.validation)


def test_batches_are_channels_last() -> None:
    data = in_memory(4)

    luma, rgb = data.batch(np.array([2, 0]), torch.device("cpu"))

    assert luma.shape == (2, 1, SIZE, SIZE)
    assert rgb.is_contiguous(memory_format=torch.channels_last)
    assert_allclose(255 * rgb[0].permute(1, 2, 0), data.colour[2], atol=1e-4)
    assert_allclose(255 * luma[1, 0], data.grey[0], atol=1e-4)


def test_pairs_of_different_sizes_are_refused() -> None:
    units = [frame.unit for frame in make_frames(2)]
    pairs = [pair(unit, side) for unit, side in zip(units, (4, 5), strict=True)]

    with pytest.raises(UsageError, match=r"made-1.png: its pair has an array of \(5, 5\) uint8, not \(4, 4\) uint8"):
        run_stage("dataset", pairs)


def pair(unit: Unit, side: int) -> Pair:
    return Pair(unit, np.zeros((side, side), np.uint8), np.zeros((side, side, 3), np.uint8))


def test_a_name_that_is_not_utf8_is_cached_and_found_again(place: Place) -> None:
    (place.photos / "people" / "0.png").rename(place.photos / os.fsdecode(b"\xff.png"))
    place.run()

    assert place.reads() == 0
    assert os.fsdecode(b"\xff.png") in datasets_seen[-1].names


def test_a_stage_run_alone_caches_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.photos.parent)
    context = RunContext()

    (data,) = run_stage("dataset", run_stage("pairs", run_stage("read", path="photos"), size=SIZE), run=context)

    assert (data.folder, len(data.names)) == (None, 20)
    assert sorted(path.name for path in place.photos.parent.iterdir()) == ["photos"]


@pytest.mark.parametrize(("rgb", "value"), [((90, 90, 90), 0.0), ((200, 100, 50), 0.3 * np.hypot(100, 100))])
def test_colourfulness_of_a_flat_colour_has_only_the_mean_term(rgb: tuple[int, int, int], value: float) -> None:
    assert colourfulness(np.full((5, 7, 3), rgb, np.uint8)) == pytest.approx(value)


def test_colourfulness_follows_the_formula_of_the_paper() -> None:
    picture = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    red, green, blue = picture.reshape(-1, 3).T.astype(float)
    differences = np.array([red - green, (red + green) / 2 - blue])

    expected = np.sqrt(differences.var(1).sum()) + 0.3 * np.sqrt((differences.mean(1) ** 2).sum())

    assert colourfulness(picture) == pytest.approx(expected)
