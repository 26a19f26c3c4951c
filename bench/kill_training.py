"""Kill a training run at many random moments, and compare its final result with that of an uninterrupted run.

    python -m bench.kill_training [--kills 10] [--seed 0]

An uninterrupted training comes first, and shows how long imports, the dataset and the steps take on this machine now. By that
each start of the other one gets a random time to live: some are killed during imports, some while the dataset is gathered, most
in the middle of a step. Weights and model card must be equal byte for byte. If the training ends before all kills have
happened, the benchmark fails: increase --epochs.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.train_graph import make_photo

PHOTOS = 60
FIT: dict[str, Any] = {
    "model": "autoencoder",
    "losses": {"rgb_mse": 1.0, "flicker": 0.01},
    "optimiser": "adamw",
    "schedule": "cosine",
    "warmup": 5,
    "weight_decay": 0.01,
    "clip": 1.0,
    "average": 0.9,
    "accumulate": 2,
    "batch": 4,
    "augment": {"flip": True, "scale": [0.5, 1.0], "saturation": [1.0, 1.2]},
    "damage": {},
    "threads": 1,  # two wait for each other where other programs take the cores
}


def start(photos: Path, folder: Path, epochs: int) -> "subprocess.Popen[bytes]":
    """Start or resume the training in a folder; its state is saved every second."""
    stages = [
        {"use": "read", "path": str(photos)},
        {"use": "pairs", "size": 150},
        {"use": "dataset", "cache": str(folder / "cache")},
        {"use": "fit", **FIT, "epochs": epochs, "keep": 1, "runs": str(folder / "runs")},
        {"use": "score"},
        {"use": "save", "path": str(folder / "output.safetensors")},
    ]
    folder.mkdir(exist_ok=True)
    (folder / "train.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "bwpipe", "train", str(folder / "train.yaml"), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def uninterrupted(photos: Path, folder: Path, epochs: int) -> tuple[float, float]:
    """Train to the end; seconds until the first state was saved, and in all."""
    begin, first = time.perf_counter(), 0.0
    process = start(photos, folder, epochs)
    while process.poll() is None:
        if not first and any((folder / "runs").glob("state-*.pt")):
            first = time.perf_counter() - begin
        time.sleep(0.05)
    if process.returncode or not first:
        sys.exit(f"the training in {folder} failed, or was over before it saved a state; set --epochs to more than {epochs}")
    return first, time.perf_counter() - begin


def main() -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=None, help="epochs to train; 2 per kill by default")
    options = parser.parse_args()
    epochs = options.epochs or 2 * options.kills
    rng, kills, steps = random.Random(options.seed), 0, []
    with tempfile.TemporaryDirectory() as name:
        photos, killed, whole = (Path(name, part) for part in ("photos", "killed", "uninterrupted"))
        for part in range(4):
            (photos / f"{part}").mkdir(parents=True)
        for number in range(PHOTOS):
            make_photo((photos, number))
        first, seconds = uninterrupted(photos, whole, epochs)
        longest = first + 2 * (seconds - first) / options.kills  # so that, on average, the steps last for all kills
        while kills < options.kills:
            process = start(photos, killed, epochs)
            time.sleep(rng.uniform(0, longest))
            if process.poll() is not None:
                sys.exit(f"the training ended after {kills} of {options.kills} kills; set --epochs to more than {epochs}")
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            steps.append(max((int(state.stem[6:]) for state in (killed / "runs").glob("state-*.pt")), default=0))
        if start(photos, killed, epochs).wait() != 0:
            sys.exit(f"the training in {killed} failed")
        files = ("output.safetensors", "output.md")
        equal = all((killed / file).read_bytes() == (whole / file).read_bytes() for file in files)
    print(f"uninterrupted: first state after {first:.1f} s, {seconds:.1f} s in all")
    print(f"{kills} kills, after which the saved states were at step {', '.join(map(str, steps))}")
    if not any(steps):
        sys.exit("no kill came after a saved step, so nothing was resumed and nothing is proven; run on an idle machine")
    print("weights and card are equal, byte for byte" if equal else "they differ")
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
