"""Importing and running bwpipe leaves the host process unchanged."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, logging, os, signal, sys, threading, warnings
sys.modules["torchmetrics"] = None  # which Lightning would import, for seconds
import av, cv2, lightning_fabric, scipy.ndimage, tifffile, torch, tqdm, torch.multiprocessing  # these change settings too
del sys.modules["torchmetrics"]
from PIL import Image

def state():
    return {
        "pillow": Image.MAX_IMAGE_PIXELS,
        "opencv": [cv2.utils.logging.getLogLevel(), cv2.getNumThreads(), cv2.ocl.useOpenCL()],
        "loggers": {name: logging.getLogger(name).level for name in ("", "tifffile", "PIL", "libav", "lightning_fabric",
                    "lightning.fabric", "torch.multiprocessing")},
        "handlers": len(logging.getLogger().handlers),
        "tqdm": tqdm.tqdm.monitor_interval,
        "torch": [torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled(),
                  str(torch.get_default_dtype()), torch.are_deterministic_algorithms_enabled()],
        "warnings": [repr(each) for each in warnings.filters],
        "signals": [str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        "threads": threading.active_count(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "finders": [repr(each) for each in sys.meta_path],
    }

before = state()
import importlib
import bwpipe
for module in sys.argv[3].split():
    importlib.import_module(module)
imported = state()
result = bwpipe.run({"stages": [
    {"use": "read", "path": sys.argv[1]},
    {"use": "grayscale"},
    {"use": "colorize", "model": "autoencoder", "device": "cpu", "precision": "float32"},
    {"use": "write", "path": sys.argv[2]},
]})
assert result.exit_code == 0, str(result)
used = state()
print(json.dumps([before, imported, used]))
"""


def test_importing_and_running_leave_the_host_process_unchanged(samples: Path, tmp_path: Path) -> None:
    files = [path.relative_to(ROOT) for path in sorted((ROOT / "bwpipe").rglob("*.py")) if path.name != "__main__.py"]
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    command = [sys.executable, "-c", PROGRAM, str(samples / "astronaut.jpg"), str(tmp_path / "out"), " ".join(modules)]

    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout

    before, imported, used = json.loads(printed.splitlines()[-1])
    assert {key: imported[key] for key in before if imported[key] != before[key]} == {}
    assert {key: used[key] for key in before if used[key] != before[key]} == {}
