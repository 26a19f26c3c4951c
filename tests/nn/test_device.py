"""Choice of precision by device."""

import math
import platform
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bwpipe.core import plugins
from bwpipe.nn.device import fitting_precision, slowness
from bwpipe.nn.network import Network, networks
from bwpipe.nn.processor import computes_bfloat16
from tests.support.made_photos import write_photos
from tests.training.test_train import NETWORKS, train

plugins.load([NETWORKS])


def emulated() -> Any:
    """A network that is slow in anything but float32 and counts its trials."""
    cls: type[Network] = networks["test-emulated"]
    return cls(cls.Options()).eval()


def test_if_a_precision_is_emulated_one_trial_is_enough() -> None:
    net = emulated()
    before, threads = net.trials, torch.get_num_threads()

    assert slowness(net, torch.bfloat16) > 2
    assert net.trials - before == 2  # the first one creates the kernels
    assert torch.get_num_threads() == threads
    assert {weights.dtype for weights in net.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["unet", "test-chroma"])
def test_every_network_can_be_timed(name: str) -> None:
    cls = networks[name]

    ratio = slowness(cls(cls.Options()).eval(), torch.bfloat16)

    assert math.isfinite(ratio)
    assert ratio > 0


def test_a_cpu_predicts_in_bfloat16_if_it_has_the_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {"fpu avx2": False, "fpu avx512f avx512_bf16": True, "amx_bf16 amx_tile": True, "avx512f avx_vnni_bf16": False}
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("bwpipe.core.processor._DESCRIPTION", tmp_path / "cpuinfo")
    for flags, expected in cases.items():
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
        computes_bfloat16.cache_clear()
        assert (fitting_precision("cpu") == "bfloat16") is expected, flags
    computes_bfloat16.cache_clear()


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="only Linux on x86 tells torch and us")
def test_torch_sees_the_same_instructions() -> None:
    assert computes_bfloat16() == (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def test_training_in_an_emulated_precision_warns_at_the_start(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)

    slow = train(tmp_path / "slow", photos, model="test-emulated", precision="bfloat16", epochs=1).remarks
    again = train(tmp_path / "slow", photos, model="test-emulated", precision="bfloat16", epochs=1).remarks
    exact = train(tmp_path / "exact", photos, model="test-emulated", epochs=1).remarks

    (remark,) = (text for text in slow if "precision" in text)
    assert remark.startswith("fit.precision: bfloat16 takes about ")
    assert remark.endswith(" times as long as float32 on this CPU; set `precision: float32`, which gives equally good weights")
    assert not any("precision" in text for text in [*exact, *again])
