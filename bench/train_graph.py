"""Measure how much training speed is lost to reading real data, and how long training takes to start.

    python -m bench.train_graph [--photos 10000] [--steps 100]

Photographs are synthetic: JPEG, short side 192 px. Steps with images from the dataset's memory-mapped files, evicted from the
page cache first, and steps with one constant batch in memory alternate within one process, with the same augmentation and
degradation, and with freed memory kept by the C library as in `fit`; the figure is the ratio of their medians. Start-up is that
of `bwpipe train` in a separate process, from launch to the first step, without and with a cached dataset.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bwpipe import Stage, stage
from bwpipe.core import plugins
from bwpipe.core.memory import keep_freed_memory
from bwpipe.data.dataset import COLOUR, GREY, Dataset
from bwpipe.engine.run import run
from bwpipe.training.fabric import Fabric
from bwpipe.training.options import TrainingOptions
from bwpipe.training.step import TrainStep

SIZE = 160
TIMEOUT = 600
WARM_UP = 10
FIT: dict[str, Any] = {
    "model": "unet",
    "losses": {"chroma_bins": 1.0},
    "optimiser": "adamw",
    "frozen": 1000,
    "epochs": 1000,
    "batch": 32,
    "precision": "bfloat16",
    "augment": {"flip": True, "crop": 128, "scale": [0.5, 1.0], "aspect": [0.75, 1.33]},
    "damage": {},
}
"""The fastest training, of a decoder on a frozen encoder: slower ones hide more of the loading time."""


def make_photo(task: tuple[Path, int]) -> None:
    """Write a colour image with smooth shapes and fine texture."""
    folder, number = task
    rng = np.random.default_rng(number)
    height, width = (192, 256) if number % 3 else (256, 192)
    soft = cv2.resize(rng.random((5, 6, 3), dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.random((48, 64, 1), dtype=np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    image = np.clip(40 + 150 * soft + 40 * fine[..., None] + rng.normal(0, 4, (height, width, 1)), 0, 255)
    cv2.imwrite(str(folder / f"{number % 4}" / f"{number:06}.jpg"), image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88])


def make_photos(folder: Path, count: int) -> None:
    """Write that many synthetic photographs."""
    for part in range(4):
        (folder / f"{part}").mkdir(parents=True)
    with Pool() as pool:
        pool.map(make_photo, [(folder, number) for number in range(count)], chunksize=100)


def graph(photos: Path, folder: Path, last: dict[str, Any]) -> dict[str, Any]:
    """The training graph up to the dataset, and a last stage."""
    return {
        "stages": [
            {"use": "read", "path": str(photos)},
            {"use": "pairs", "size": SIZE},
            {"use": "dataset", "cache": str(folder / "cache"), "split": 0.05},
            last,
        ]
    }


def seconds_to_first_step(photos: Path, folder: Path) -> float:
    """Time until `bwpipe train` makes its first step; it is then stopped."""
    fit = {"use": "fit", **FIT, "runs": str(folder / "runs")}
    (folder / "train.yaml").write_text(json.dumps(graph(photos, folder, fit)), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "bwpipe", "train", str(folder / "train.yaml"), "--restart", "--set", "fit.keep=0"]
    states = folder / "runs"
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while time.perf_counter() - start < TIMEOUT and not any(states.glob("state-*.pt")):
        if process.poll() is not None:
            raise RuntimeError(f"the training ended early: {process.stderr.read().decode() if process.stderr else ''}")
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    process.send_signal(signal.SIGTERM)
    process.communicate()
    for state in states.glob("state-*.pt"):
        state.unlink()
    return seconds


@stage("bench-steps")
class Steps(Stage):
    """Takes the place of `fit` and measures steps on the dataset it would get."""

    count: int

    def stream(self, items: Iterator[Dataset]) -> Iterator[Dataset]:
        """Measure, and store the result in `measured`."""
        for data in items:
            measured.update(step_seconds(data, self.count))
            yield data


measured: dict[str, float] = {}
"""The result of `Steps`."""


def constant(data: Dataset, batch: int) -> Dataset:
    """A dataset in memory with the same images in every batch."""
    some = slice(0, batch + 1)
    return Dataset.of(np.array(data.grey[some]), np.array(data.colour[some]), validation=[batch])


def evict(folder: Path) -> None:
    """Advise the system to evict a dataset's files from the page cache."""
    for name in (GREY, COLOUR) if hasattr(os, "posix_fadvise") else ():
        with (folder / name).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def step_seconds(data: Dataset, count: int) -> dict[str, float]:
    """Median seconds per step with images from files and from memory, alternating."""
    assert data.folder
    evict(data.folder)
    keep_freed_memory(
        of_any_size=True
    )  # as `fit` does; otherwise it is chance which of the two gets new memory from the kernel at each step
    fabric = Fabric(accelerator="cpu", devices=1)
    options = TrainingOptions.model_validate(FIT)
    steppers = {"files": TrainStep(options, data, fabric), "memory": TrainStep(options, constant(data, options.batch), fabric)}
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for step in range(WARM_UP + count):
        for name in sorted(steppers, reverse=step % 2 == 1):  # each goes first as often as the other
            start = time.perf_counter()
            steppers[name].step(step)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each[WARM_UP:]) for name, each in times.items()}


def lines(photos: int, steps: int) -> Iterator[str]:
    """The report, line by line."""
    plugins.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "photos", photos)
        yield f"{photos} photographs of 192 x 256 px; {FIT['model']}, encoder frozen, batch {FIT['batch']}, {FIT['precision']}"
        cold = seconds_to_first_step(folder / "photos", folder)
        yield f"start to first step, cold             {cold:7.1f} s   (at most 60 for 10000)"
        again = [seconds_to_first_step(folder / "photos", folder) for _ in range(3)]
        yield f"start to first step, dataset cached   {statistics.median(again):7.1f} s   (at most 10)"
        run(graph(folder / "photos", folder, {"use": "bench-steps", "count": steps}))
        for kind, seconds in measured.items():
            yield f"step with images from {kind:10}      {1000 * seconds:7.1f} ms  {FIT['batch'] / seconds:7.1f} photos/s"
        yield f"speed with real / constant input      {measured['memory'] / measured['files']:7.3f}     (at least 0.95)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    for line in lines(options.photos, options.steps):
        print(line, flush=True)


if __name__ == "__main__":
    main()
