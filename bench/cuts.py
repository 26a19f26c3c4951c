"""Where shots begin in a film, by `shots` and by PySceneDetect's adaptive detector.

    python -m bench.cuts FILM [--known 70 240 497] [--peer PYTHON]

`--known` are positions noted by eye; with them, recall and precision are told, a frame's difference allowed. `--peer` is the
interpreter of an environment of its own with the package `scenedetect`, which brings another OpenCV along.
"""

import argparse
import json
import subprocess
from pathlib import Path

from bwpipe.testing import run_stage

PEER = """
import json, sys
from scenedetect import AdaptiveDetector, detect
print(json.dumps([scene[0].frame_num for scene in detect(sys.argv[1], AdaptiveDetector())][1:]))
"""
PATIENCE = 3600


def ours(film: str) -> list[int]:
    """What `shots` finds, besides the film's first frame."""
    frames = run_stage("shots", run_stage("grayscale", run_stage("read", path=film)))
    return [frame.index for frame in frames if frame.motion.cut][1:]


def theirs(film: str, python: str) -> list[int]:
    """What the peer finds."""
    command = [python, "-c", PEER, str(Path(film).absolute())]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    return [int(place) for place in json.loads(printed.splitlines()[-1])]


def line(name: str, found: list[int], known: list[int]) -> str:
    """What was found, and how well."""
    if not known:
        return f"{name:15} {found}"
    hits = sum(any(abs(place - other) <= 1 for other in found) for place in known)
    right = sum(any(abs(place - other) <= 1 for other in known) for place in found)
    return f"{name:15} recall {hits}/{len(known)}, precision {right}/{len(found)}: {found}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film")
    parser.add_argument("--known", type=int, nargs="*", default=[])
    parser.add_argument("--peer", metavar="PYTHON")
    options = parser.parse_args()
    print(line("shots", ours(options.film), options.known), flush=True)
    if options.peer:
        print(line("PySceneDetect", theirs(options.film, options.peer), options.known))


if __name__ == "__main__":
    main()
