"""The `colorize` stage."""

import gc
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch import Tensor, nn

from bwpipe import Frame, RunAborted, RunContext, UsageError, read_graph, run
from bwpipe.core import plugins
from bwpipe.core.fingerprint import cached_digest
from bwpipe.core.stage import stages
from bwpipe.nn.checkpoint import Checkpoint, load, locate, save
from bwpipe.nn.network import Guess, Network, Quality, network, networks
from bwpipe.nn.runtime.openvino import OpenVinoRuntime, openvino_version
from bwpipe.pixels.orientation import stored, upright
from bwpipe.pixels.resize import squash
from bwpipe.testing import coloured, make_frames, run_stage
from tests.support.made_scenes import film_of, scene

plugins.load()


@network("test-sure")
class Sure(Network):
    """Takes inputs at half size, outputs a confidence, and runs out of memory on batches above 2."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.gain = nn.Parameter(torch.tensor([0.5, -0.25]).view(1, 2, 1, 1))

    def forward(self, luma: Tensor) -> Tensor:
        if len(luma) > 2:
            torch.empty(1 << 62, dtype=torch.uint8)
        return torch.cat([self.gain * luma, luma], dim=1)

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        return height // 2, width // 2

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output[:, :2], confidence=output[:, 2:])


def written(folder: Path, name: str = "autoencoder", seed: int = 0) -> str:
    """Write a checkpoint of an untrained network."""
    torch.manual_seed(seed)
    cls = networks[name]
    path = folder / f"{name}-{seed}.safetensors"
    save(path, cls(cls.Options()), Checkpoint(network=name, version="0"))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("weights"))


def predicted(frames: list[Frame], model: str, **options: Any) -> list[Frame]:
    exact: dict[str, Any] = {"precision": "float32", "device": "cpu", "batch": 4, "workers": 1}
    return run_stage("colorize", frames, model=model, **(exact | options))


def chroma(frame: Frame) -> Any:
    assert frame.chroma is not None
    return frame.chroma


def test_a_frame_gets_chroma_and_nothing_else_changes(model: str) -> None:
    frames = make_frames(5, height=200, width=160)

    made = predicted(frames, model)

    for before, after in zip(frames, made, strict=True):
        assert chroma(after).shape == (2, 150, 150)
        assert chroma(after).dtype == np.float16
        assert not chroma(after).flags.writeable
        assert abs(chroma(after)).max() <= 0.5
        assert after.luma is before.luma
        assert (after.unit, after.index, after.confidence) == (before.unit, before.index, None)


def test_the_chroma_is_the_networks_prediction(model: str) -> None:
    frame = make_frames(1, height=150, width=150)[0]
    torch.manual_seed(0)
    net = networks["autoencoder"](networks["autoencoder"].Options())

    made = predicted([frame], model)[0]

    luma = torch.from_numpy(frame.luma.astype(np.float32) / 255)[None, None]
    assert_allclose(chroma(made), net.guess(luma).chroma[0].detach(), atol=1e-3)


def test_quality_determines_the_networks_input_size() -> None:
    frame = make_frames(1, height=600, width=800)[0]

    for quality, size in (("fast", (48, 64)), ("normal", (64, 88))):
        assert chroma(predicted([frame], "unet", quality=quality, runtime="torch")[0]).shape == (2, *size)


def test_the_best_quality_is_the_mean_of_views_at_three_sizes_of_which_two_are_mirrored() -> None:
    frame = film_of(scene(1, seed=3))[0]
    net, _ = load(locate("unet"))

    made = chroma(predicted([frame], "unet", quality="best", runtime="torch")[0]).astype(np.float32)

    total = np.zeros_like(made)
    for size, mirrored in (((256, 352), False), ((192, 256), True), ((320, 416), True)):
        luma = squash(frame.luma, *size).astype(np.float32) / 255
        seen = torch.from_numpy(np.ascontiguousarray(luma[:, ::-1] if mirrored else luma))
        planes = net.guess(seen[None, None]).chroma[0].numpy()
        total += squash((planes[..., ::-1] if mirrored else planes).transpose(1, 2, 0), 64, 88).transpose(2, 0, 1) / 3
    assert_allclose(made, total, atol=2e-3)


def test_saturation_multiplies_the_chroma(model: str) -> None:
    frame = make_frames(1, height=150, width=150)[0]

    plain, strong, grey = (chroma(predicted([frame], model, saturation=factor)[0]) for factor in (1, 1.5, 0))

    assert_allclose(strong, (1.5 * plain).clip(-0.5, 0.5), atol=1e-3)
    assert not grey.any()


def test_a_quality_that_makes_no_difference_is_refused(model: str) -> None:
    with pytest.raises(UsageError, match="autoencoder uses one input size for all pictures; leave out `quality: best`"):
        predicted(make_frames(1), model, quality="best")


def test_a_frame_with_chroma_is_unchanged(model: str) -> None:
    frames = make_frames(3)
    frames[1] = coloured(frames[1])

    made = predicted(frames, model)

    assert made[1].chroma is frames[1].chroma
    assert chroma(made[0]).shape == (2, 48, 64)


def test_a_frames_bytes_do_not_depend_on_its_neighbours(model: str) -> None:
    frames = make_frames(7)

    together = predicted(frames, model)
    alone = [predicted([frame], model)[0] for frame in frames]
    by_two = predicted(frames, model, workers=2)

    for one, two, three in zip(together, alone, by_two, strict=True):
        assert_array_equal(chroma(one), chroma(two), strict=True)
        assert_array_equal(chroma(one), chroma(three), strict=True)


def test_the_guide_is_the_networks_input_if_there_is_one(model: str) -> None:
    frame, other = make_frames(2)
    guide: Any = np.ascontiguousarray(other.luma[::2, ::2])

    made = predicted([replace(frame, guide=guide), replace(other, guide=guide)], model)

    assert_array_equal(chroma(made[0]), chroma(made[1]))
    assert abs(chroma(made[0]) - chroma(predicted([frame], model)[0])).max() > 0


@pytest.mark.parametrize(("depth", "levels"), [(8, (16, 235)), (10, (64, 940)), (16, (0, 65535))])
def test_levels_and_depth_do_not_change_what_the_network_sees(model: str, depth: int, levels: tuple[int, int]) -> None:
    full = predicted(make_frames(1), model)[0]
    other = predicted(make_frames(1, depth=depth, levels=levels), model)[0]

    assert_allclose(chroma(other), chroma(full), atol=2e-3)


@pytest.fixture(scope="module")
def upright_picture(model: str) -> Frame:
    return predicted(make_frames(1, height=180, width=160), model)[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_network_sees_pictures_upright(model: str, orientation: int, upright_picture: Frame) -> None:
    turned = make_frames(
        1, height=160 if orientation > 4 else 180, width=180 if orientation > 4 else 160, orientation=orientation
    )[0]
    luma: Any = stored(upright_picture.luma, orientation)

    made = predicted([replace(turned, luma=luma)], model)[0]

    assert_allclose(upright(chroma(made), orientation), chroma(upright_picture), atol=1e-3)


def test_chroma_is_never_finer_than_luma(model: str) -> None:
    frame = make_frames(1, height=40, width=300)[0]

    assert chroma(predicted([frame], model)[0]).shape == (2, 40, 150)


def test_pictures_of_all_sizes_come_out_in_order(tmp_path: Path) -> None:
    sizes = [(48, 64), (30, 20), (48, 64), (64, 48), (30, 20)]
    frames = [
        replace(frame, luma=make_frames(1, height=h, width=w)[0].luma)
        for frame, (h, w) in zip(make_frames(5), sizes, strict=True)
    ]

    made = predicted(frames, written(tmp_path, "test-sure"), batch=2)

    assert [after.luma is before.luma for before, after in zip(frames, made, strict=True)] == [True] * 5
    assert [chroma(frame).shape[1:] for frame in made] == [(h // 2, w // 2) for h, w in sizes]


def test_confidence_is_kept_if_the_network_provides_it(tmp_path: Path) -> None:
    frame = make_frames(1)[0]

    made = predicted([frame], written(tmp_path, "test-sure"), batch=1)[0]

    assert made.confidence is not None
    assert made.confidence.shape == (24, 32)
    assert made.confidence.dtype == np.float16
    assert_allclose(chroma(made), np.stack([0.5 * made.confidence, -0.25 * made.confidence]), atol=1e-3)


def test_running_out_of_memory_halves_the_batch(tmp_path: Path) -> None:
    run = RunContext()

    made = predicted(make_frames(9), written(tmp_path, "test-sure"), batch=8, run=run, runtime="torch")

    assert len(made) == 9
    assert sorted(run.remarks) == [
        f"stage 'colorize': out of memory, so its batch is reduced from {2 * n} to {n}" for n in (2, 4)
    ]


def test_every_fourth_frame_of_each_shot_is_predicted(model: str) -> None:
    frames = run_stage("shots", film_of(scene(9, 1) + scene(7, 2)))

    made = predicted(frames, model, every=4)

    assert [frame.index for frame in made] == list(range(16))
    assert [frame.index for frame in made if frame.chroma is not None] == [0, 4, 8, 9, 13]
    everything = predicted(frames, model)
    assert all(frame.chroma is None or (frame.chroma == everything[frame.index].chroma).all() for frame in made)


def test_every_picture_is_predicted_even_if_film_frames_are_skipped(model: str) -> None:
    assert all(frame.chroma is not None for frame in predicted(make_frames(3), model, every=4))


def test_vividness_makes_colours_stronger(model: str) -> None:
    frames = make_frames(1)

    safe, lively = (chroma(predicted(frames, model, vividness=vividness)[0]).astype(np.float32) for vividness in (0, 1))

    assert_allclose(lively, np.clip(2 * safe, -0.5, 0.5), atol=1e-3)


def test_bfloat16_differs_little(tmp_path: Path) -> None:
    frames, model = make_frames(1), written(tmp_path, "test-sure")  # small: not every processor has instructions for it

    (exact,), (short,) = (predicted(frames, model, precision=precision) for precision in ("float32", "bfloat16"))

    assert_allclose(chroma(exact), chroma(short), atol=0.01)
    assert (chroma(exact) != chroma(short)).any()


def test_a_resumed_run_keeps_the_precision(tmp_path: Path) -> None:
    frames, model = make_frames(1), written(tmp_path, "test-sure")
    first = RunContext()
    predicted(frames, model, precision="auto", run=first, runtime="torch")
    ((key, _),) = first.facts.items()

    found: list[Any] = []
    for precision in ("float32", "bfloat16"):
        resumed = predicted(frames, model, precision="auto", run=RunContext(facts={key: precision}), runtime="torch")
        again = predicted(frames, model, precision=precision, runtime="torch")
        assert_array_equal(chroma(resumed[0]), chroma(again[0]))
        found.append(chroma(again[0]))
    assert (found[0] != found[1]).any()


def test_a_folder_goes_on_with_the_run_time_it_began_with(model: str) -> None:
    version = openvino_version()
    first = RunContext()
    predicted([], model, run=first)
    ((key, value),) = first.facts.items()
    assert value == f"openvino {version}"

    by_torch = RunContext(facts={key: "torch"})
    cls: Any = stages["colorize"]
    stage = cls(model=model, device="cpu")
    for facts, runtime in (({}, "openvino"), ({key: "torch"}, "torch"), ({key: "openvino 1999.1"}, "openvino")):
        stage.recall(facts)
        stage.setup(RunContext(facts=dict(facts)))
        assert stage.provenance()["runtime"].split()[0] == runtime
        stage.close()
    predicted([], model, run=by_torch)
    assert by_torch.facts[key] == "torch"


def test_the_recipe_has_openvinos_version_as_something_shipped(model: str) -> None:
    cls: Any = stages["colorize"]
    stage = cls(model=model, device="cpu")
    facts = {f"runtime of {cached_digest(Path(model))}": "torch"}

    assert stage.recipe()["runtime"] == f"openvino {openvino_version()}"
    assert stage.shipped() == {"runtime": "openvino"}
    stage.recall(facts)
    assert "runtime" not in stage.recipe()
    assert stage.shipped() == {}
    assert cls(model=model, device="cpu", runtime="torch").recipe() == stage.recipe()
    assert cls(model="unet", device="cpu").shipped() == {"weights": "unet", "runtime": "openvino"}


def test_the_revision_follows_from_what_computed_also_by_an_outputs_metadata(model: str) -> None:
    cls: Any = stages["colorize"]

    assert cls(model=model, device="cpu").revision_for(None) == 3
    assert cls(model=model, runtime="torch").revision_for(None) == 1
    assert cls(model=model, runtime="torch", quality="best").revision_for(None) == 2
    stated = {"openvino 1999.1": 3, "torch 2.15.0+cu132": 1}
    assert {runtime: cls.model_construct(runtime=runtime, device="cuda:7").revision_for(None) for runtime in stated} == stated
    assert cls.model_construct(device="cuda:99").revision_for(None) == 3


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"precision": "float16"},
            "OpenVINO does not compute in float16 on a CPU; set `precision: float32`, or `runtime: torch`",
        ),
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
    ],
)
def test_what_openvino_cannot_do_is_refused_if_it_is_asked_for(model: str, options: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        predicted([], model, runtime="openvino", **options)


def test_float16_on_a_cpu_is_computed_by_torch(model: str) -> None:
    cls: Any = stages["colorize"]

    assert "runtime" not in cls(model=model, device="cpu", precision="float16").recipe()


def test_without_openvino_torch_computes(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwpipe.nn.runtime.choose.openvino_version", lambda: None)
    run = RunContext()

    (made,) = predicted(make_frames(1), model, run=run)

    assert made.chroma is not None
    assert list(run.facts.values()) == ["torch"]
    with pytest.raises(UsageError, match="OpenVINO is not installed; install it with `pip install openvino`, or set"):
        predicted([], model, runtime="openvino")


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_batches_and_workers_do_not_change_the_bytes(runtime: str, model: str) -> None:
    frames = make_frames(5, height=64, width=96)

    expected = predicted(frames, model, batch=2, runtime=runtime)
    for batch, workers in ((1, 1), (4, 2), (1, 3)) if runtime == "openvino" else ((2, 3),):
        made = predicted(frames, model, batch=batch, workers=workers, runtime=runtime)
        assert all((chroma(one) == chroma(other)).all() for one, other in zip(expected, made, strict=True))


def test_chroma_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    cls = networks["autoencoder"]
    net = cls(cls.Options())
    for weights in net.parameters():  # finite, else the checkpoint is refused; their sums are not
        weights.data.normal_(std=1e37)
    save(tmp_path / "bad.safetensors", net, Checkpoint(network="autoencoder", version="0"))

    with pytest.raises(RunAborted, match="colours that are not finite numbers"):
        predicted(make_frames(1), str(tmp_path / "bad.safetensors"), runtime="torch")


def test_an_unknown_device_is_refused_with_a_list_of_devices(model: str) -> None:
    with pytest.raises(UsageError, match=r"there is no device 'cuda:99'; this machine has .*cpu"):
        predicted([], model, device=["cpu", "cuda:99"])


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'autoencoder'"):
        predicted([], "autoencodr")


def test_the_recipe_depends_on_the_weights_not_on_their_path(model: str, tmp_path: Path) -> None:
    cls: Any = stages["colorize"]
    (tmp_path / "copy.safetensors").write_bytes(Path(model).read_bytes())
    recipe = cls(model=model).recipe()

    assert cls(model=str(tmp_path / "copy.safetensors"), batch=3, workers=5, device="cpu").recipe() == recipe
    assert cls(model=written(tmp_path, seed=1)).recipe() != recipe
    assert cls(model=model, vividness=0.5).recipe() != recipe
    assert cls(model=model, every=2).recipe() != recipe
    assert cls(model=model, precision="float32").recipe() != recipe


def test_the_weights_are_released_after_a_run(tmp_path: Path) -> None:
    def networks() -> int:
        return sum(issubclass(type(each), Network | OpenVinoRuntime) for each in gc.get_objects())

    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "a.png")
    graph = read_graph(
        {
            "stages": [
                {"use": "read", "path": str(tmp_path / "a.png")},
                {"use": "grayscale"},
                {"use": "colorize", "model": "autoencoder", "device": "cpu", "precision": "float32"},
                {"use": "write", "path": str(tmp_path / "out")},
            ]
        }
    )
    gc.collect()
    before = networks()

    run(graph)

    assert networks() == before
