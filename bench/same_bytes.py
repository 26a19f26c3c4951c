"""Whether another revision writes the same bytes: samples, made images and videos, a longer video, and a short training.

    python -m bench.same_bytes REVISION [--frames 200]

Runs the default graph of REVISION and of this checkout over the same inputs, each in a process of its own, and compares the
SHA-256 of every output. For refactorings, which must not change any. Ends with 1 and a line for each file that differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from bench.run_graph import make_film
from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.tools.samples import photographs, write_samples
from tests.support import made_films, made_pictures

ROOT = Path(__file__).parents[1]
UNSTABLE = {WORK_FOLDER, "tensorboard", "cache", "curves.jsonl", "progress.html"}
"""What holds times or is made anew each time."""
RUN = """
import json, sys
import bwpipe
stages = json.loads(sys.argv[1])
outcome = bwpipe.run({"segment": 60, "stages": stages})
print(outcome)
sys.exit(outcome.exit_code)
"""
TRAIN = """
import sys
import bwpipe
stages = [
    {"use": "read", "path": sys.argv[1]},
    {"use": "pairs", "size": 96},
    {"use": "dataset", "split": 0.2, "cache": sys.argv[2] + "/cache"},
    {"use": "fit", "model": "unet", "start": "unet", "epochs": 2, "batch": 4, "rate": 0.001, "seed": 1, "device": "cpu",
     "losses": {"chroma_bins": 1, "colourfulness": 2}, "augment": {"flip": True, "crop": 64}, "damage": {"chance": 0.5},
     "runs": sys.argv[2] + "/runs", "precision": "float32"},
    {"use": "save", "path": sys.argv[2] + "/unet.safetensors"},
]
print(bwpipe.run({"stages": stages}))
"""


def make_inputs(folder: Path, frames: int) -> None:
    """Write the samples, an image of every kind, a video of every kind, and a longer video."""
    write_samples(folder / "samples")
    (folder / "images").mkdir()
    made_pictures.make_pictures(folder / "images")
    (folder / "videos").mkdir()
    made_films.make_corpus(folder / "videos")
    (folder / "long").mkdir()
    make_film(folder / "long" / "long.mp4", frames)


def make_photographs(folder: Path) -> None:
    """Write colour photographs to train with: crops of scikit-image's."""
    from PIL import Image

    folder.mkdir()
    for name, rgb in photographs():
        image = Image.fromarray(rgb)
        for n in range(5):
            side = min(image.size) // 2
            image.crop((13 * n, 11 * n, 13 * n + side, 11 * n + side)).resize((128, 128)).save(folder / f"{name}-{n}.png")


def outputs(root: Path, inputs: Path, photos: Path, out: Path) -> dict[str, str]:
    """The digests of what the checkout at `root` makes of the inputs, by their places below `out`."""
    import json

    environment = {**os.environ, "PYTHONPATH": str(root)}
    stages = [
        {"use": "read", "path": str(inputs)},
        {"use": "grayscale"},
        {"use": "shots"},
        {"use": "colorize", "model": "unet", "precision": "float32", "device": "cpu"},
        {"use": "steady"},
        {"use": "write", "path": str(out / "run")},
    ]
    for program, *arguments in ((RUN, json.dumps(stages)), (TRAIN, str(photos), str(out))):
        ended = subprocess.run([sys.executable, "-c", program, *arguments], cwd=out, env=environment, check=False)
        if ended.returncode > 1:
            raise SystemExit(f"{root}: ended with {ended.returncode}")
    found = [path for path in out.rglob("*") if path.is_file() and not UNSTABLE & {*path.parts, path.name}]
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in found}


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--frames", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "old")], check=True)
        subprocess.run(["git", "-C", str(folder / "old"), "checkout", "-q", options.revision], check=True)
        make_inputs(folder / "in", options.frames)
        make_photographs(folder / "photos")
        made = []
        for which, root in (("before", folder / "old"), ("after", ROOT)):
            (folder / which).mkdir()
            made.append(outputs(root, folder / "in", folder / "photos", folder / which))
    before, after = made
    different = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    for path in different:
        print(f"differs: {path}")
    print(f"{len(before)} files before, {len(after)} after, {len(different)} differ")
    return 1 if different or not before else 0


if __name__ == "__main__":
    sys.exit(main())
