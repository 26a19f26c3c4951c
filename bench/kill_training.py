"""Kills a training many times, at random, and compares what it ends with to the same training left alone.

    python -m bench.kill_training [--kills 20] [--seed 0]

Each start gets a random time to live, from its first moment on: some die while they import, some while they gather the
dataset, most in the middle of a step. Weights and model card must be equal byte for byte. A training that ends before all kills
happened fails the benchmark: give it more --epochs.
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

PHOTOS, LONGEST = 60, 12.0
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
    "threads": 2,
}


def start(photos: Path, folder: Path, epochs: int) -> "subprocess.Popen[bytes]":
    """Start, or go on with, the training of a folder; its state is kept every second."""
    stages = [
        {"use": "read", "path": str(photos)},
        {"use": "pairs", "size": 150},
        {"use": "dataset", "cache": str(folder / "cache")},
        {"use": "fit", **FIT, "epochs": epochs, "keep": 1, "runs": str(folder / "runs")},
        {"use": "score"},
        {"use": "save", "path": str(folder / "made.safetensors")},
    ]
    folder.mkdir(exist_ok=True)
    (folder / "train.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "bwpipe", "train", str(folder / "train.yaml"), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def main() -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=None, help="how long the training is; 2 for each kill by default")
    options = parser.parse_args()
    epochs = options.epochs or 2 * options.kills
    chances, kills, steps = random.Random(options.seed), 0, []
    with tempfile.TemporaryDirectory() as name:
        photos, killed, calm = (Path(name, part) for part in ("photos", "killed", "calm"))
        for part in range(4):
            (photos / f"{part}").mkdir(parents=True)
        for number in range(PHOTOS):
            make_photo((photos, number))
        while kills < options.kills:
            process = start(photos, killed, epochs)
            time.sleep(chances.uniform(0, LONGEST))
            if process.poll() is not None:
                sys.exit(
                    f"the training was at its end after {kills} of {options.kills} kills; give it more than {epochs} --epochs"
                )
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            steps.append(max((int(state.stem[6:]) for state in (killed / "runs").glob("state-*.pt")), default=0))
        for folder in (killed, calm):
            if start(photos, folder, epochs).wait() != 0:
                sys.exit(f"the training in {folder} failed")
        equal = all((killed / file).read_bytes() == (calm / file).read_bytes() for file in ("made.safetensors", "made.md"))
    print(f"{kills} kills, after which the kept states were those of step {', '.join(map(str, steps))}")
    if not any(steps):
        sys.exit("no kill came after a step was kept, so nothing was resumed and nothing is shown; run on an idle machine")
    print("weights and card are the same, byte for byte" if equal else "they differ")
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
