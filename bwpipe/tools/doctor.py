"""Facts about the machine for bug reports: versions, devices, codecs."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "bwpipe", "openvino", "torch", "torchvision", "av", "opencv-python", "opencv-python-headless", "pillow", "tifffile",
    "numpy", "pydantic", "safetensors", "typer",
)  # fmt: skip
ENCODERS = ("libx264", "libx265", "ffv1", "libsvtav1", "prores_ks", "h264_nvenc", "hevc_nvenc", "av1_nvenc")


def diagnose() -> dict[str, str]:
    """The facts by name, in display order."""
    facts = {"python": platform.python_version(), "system": platform.platform(), "cores": str(os.cpu_count())}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts | _devices() | _codecs()


def _devices() -> dict[str, str]:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("Apple MPS")
    return {"devices": ", ".join(["CPU", *names]), "CPU kernels": torch.backends.cpu.get_cpu_capability()}


def _codecs() -> dict[str, str]:
    import av

    libraries = ", ".join(f"{name} {'.'.join(map(str, number))}" for name, number in sorted(av.library_versions.items()))
    available = [name for name in ENCODERS if name in av.codecs_available]
    return {"FFmpeg": libraries, "encoders": ", ".join(available)}
