"""Detect shot boundaries in a film with `shots` and with PySceneDetect's adaptive detector.

    python -m bench.cuts FILM [--known 70 240 497] [--peer PYTHON]

`--known` are cuts found by eye; with them, recall and precision are printed, with a tolerance of one frame. `--peer` is the
interpreter of a separate environment with the package `scenedetect`, which depends on another build of OpenCV.
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
TIMEOUT = 3600


def ours(film: str) -> list[int]:
    """Cuts found by `shots`, without the film's first frame."""
    frames = run_stage("shots", run_stage("grayscale", run_stage("read", path=film), colour="recolour"))
    return [frame.index for frame in frames if frame.motion.cut][1:]


def theirs(film: str, python: str) -> list[int]:
    """Cuts found by the peer."""
    command = [python, "-c", PEER, str(Path(film).absolute())]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout
    return [int(index) for index in json.loads(output.splitlines()[-1])]


def line(name: str, found: list[int], known: list[int]) -> str:
    """The cuts found, with recall and precision if the true ones are known."""
    if not known:
        return f"{name:15} {found}"
    recalled = sum(any(abs(index - other) <= 1 for other in found) for index in known)
    correct = sum(any(abs(index - other) <= 1 for other in known) for index in found)
    return f"{name:15} recall {recalled}/{len(known)}, precision {correct}/{len(found)}: {found}"


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
