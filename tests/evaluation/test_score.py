"""The command `bwpipe score`, on image files."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from time import time_ns
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import color, metrics
from torch.nn.functional import mse_loss
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.cli.signals import InterruptedRun
from bwpipe.core import plugins
from bwpipe.engine.run import run
from bwpipe.nn.checkpoint import Checkpoint, load, locate, save

plugins.load()

RGB = NDArray[np.uint8]


def score(*arguments: str | Path, code: int = 0) -> str:
    """The command's standard output, or its standard error if it should fail."""
    result = CliRunner().invoke(app, ["score", *map(str, arguments), "--device", "cpu"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def scores(*arguments: str | Path) -> dict[str, Any]:
    """The JSON that it prints."""
    scores: dict[str, Any] = json.loads(score(*arguments, "--json", "-"))
    return scores


def picture(seed: int, height: int = 40, width: int = 48) -> RGB:
    """A smooth image with all hues."""
    small = np.random.default_rng(seed).random((4, 5, 3))
    return np.rint(255 * cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)


def write(path: Path, rgb: RGB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1])
    return path


def grey(rgb: RGB) -> RGB:
    return np.repeat(np.rint(rgb @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of predictions and references: two people and a scene."""
    for i, name in enumerate(("people/anna.png", "people/ben.png", "scenes/lake.png")):
        write(tmp_path / "truth" / name, picture(i))
        write(tmp_path / "guess" / name, (picture(i) // 2 + picture(i + 10) // 2).astype(np.uint8))
    return tmp_path / "guess", tmp_path / "truth"


def read(path: Path) -> RGB:
    with Image.open(path) as image:
        return np.asarray(image)


def test_it_agrees_with_scikit_image_and_torchmetrics_called_on_the_same_files(folders: tuple[Path, Path]) -> None:
    guesses, truths = ([read(path) for path in sorted(folder.rglob("*.png"))] for folder in folders)
    found = scores("--guess", folders[0], "--truth", folders[1])["all"]

    for key, sides in (("figures", guesses), ("grey", list(map(grey, truths)))):
        expected = np.mean([direct(guess, truth) for guess, truth in zip(sides, truths, strict=True)], axis=0)
        for name, value in zip(("rgb_mse", "psnr", "psnr", "ssim", "ssim", "ciede2000"), expected, strict=True):
            assert found[key][name] == pytest.approx(value, rel=1e-4), (key, name)


def direct(guess: RGB, truth: RGB) -> list[float]:
    """MSE; PSNR by torchmetrics and scikit-image; SSIM by both; CIEDE2000."""
    from torchmetrics.functional import image as torchmetrics  # it takes two seconds

    x, y = tensor(guess), tensor(truth)
    wang: Any = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2, "data_range": 255}
    _, similar = torchmetrics.structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    return [
        mse_loss(x, y).item(),
        torchmetrics.peak_signal_noise_ratio(x, y, data_range=1.0).item(),
        metrics.peak_signal_noise_ratio(truth, guess, data_range=255),  # type: ignore[no-untyped-call]
        similar[..., 5:-5, 5:-5].mean().item(),  # its own mean includes the mirrored borders
        metrics.structural_similarity(guess, truth, **wang),  # type: ignore[no-untyped-call]
        color.deltaE_ciede2000(color.rgb2lab(guess), color.rgb2lab(truth)).mean(),  # type: ignore[no-untyped-call]
    ]


def tensor(rgb: RGB) -> torch.Tensor:
    return torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def test_a_prediction_equal_to_the_reference_is_perfect_with_a_psnr_of_100(folders: tuple[Path, Path]) -> None:
    figures = scores("--guess", folders[1], "--truth", folders[1])["all"]["figures"]

    assert figures.pop("colourfulness") == figures.pop("colourfulness_truth") > 0
    assert 0 <= figures.pop("unevenness") < 0.2  # a reference is not quite even itself
    assert figures == pytest.approx(
        {
            "rgb_mse": 0,
            "psnr": 100,
            "ssim": 1,
            "ciede2000": 0,
            "colourfulness_difference": 0,
            "chroma_error": 0,
            "chroma_ratio": 1,
            "chroma_correlation": 1,
            "neutral_painted": 0,
        }
    )


def test_grey_predictions_get_the_grey_figures(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for path in folders[1].rglob("*.png"):
        write(tmp_path / "grey" / path.relative_to(folders[1]), grey(read(path)))

    found = scores("--guess", tmp_path / "grey", "--truth", folders[1])["all"]

    assert found["figures"] == pytest.approx(found["grey"])
    assert found["grey"]["colourfulness"] == 0
    assert found["grey"]["chroma_correlation"] == 0


def test_each_folder_has_figures_and_the_protocol_is_included(folders: tuple[Path, Path]) -> None:
    found = scores("--guess", folders[0], "--truth", folders[1])
    printed = score("--guess", folders[0], "--truth", folders[1])

    people, scenes = found["by_folder"]["people"], found["by_folder"]["scenes"]
    assert (people["pictures"], scenes["pictures"], found["all"]["pictures"]) == (2, 1, 3)
    for name in ("rgb_mse", "psnr", "ciede2000", "colourfulness"):
        mean = (2 * people["figures"][name] + scenes["figures"][name]) / 3
        assert found["all"]["figures"][name] == pytest.approx(mean)
    assert found["protocol"]["size"] == "each image's own"
    for part in (*map(str, found["protocol"].values()), "people", "scenes", f"{scenes['figures']['ciede2000']:.2f}"):
        assert part in printed


def test_the_json_has_a_stable_shape(folders: tuple[Path, Path]) -> None:
    found = scores("--guess", folders[0], "--truth", folders[1])

    assert set(found) == {"protocol", "all", "by_folder", "pictures", "films", "meaning"}
    assert set(found["pictures"]) == {"people/anna.png", "people/ben.png", "scenes/lake.png"}
    for standing in (found["all"], *found["by_folder"].values()):
        assert set(standing) == {"pictures", "figures", "grey", "hues"}
        assert set(standing["figures"]) == set(standing["grey"]) <= set(found["meaning"])
        assert all(isinstance(value, float) for value in (*standing["figures"].values(), *standing["grey"].values()))
        assert sum(share["guess"] for share in standing["hues"].values()) == pytest.approx(1)
    assert set(found["protocol"]) == {
        *("set", "rgb", "size", "crop", "pictures", "left_out_grey", "failed", "guess", "without_partner", "frechet", "version")
    }


def test_names_match_without_their_extension_and_files_without_a_partner_are_listed(
    folders: tuple[Path, Path],
) -> None:
    guess, truth = folders
    (guess / "people" / "ben.png").rename(guess / "people" / "ben.tif.png")
    write(guess / "scenes" / "lake.bmp", read(guess / "scenes" / "lake.png"))
    (guess / "scenes" / "lake.png").unlink()

    result = CliRunner().invoke(app, ["score", "--guess", str(guess), "--truth", str(truth), "--json", "-"])

    found = json.loads(result.stdout)
    assert set(found["pictures"]) == {"people/anna.png", "scenes/lake.png"}
    assert found["protocol"]["without_partner"] == 2
    assert result.stderr.splitlines() == [
        f"warning: people/ben.png: not scored, since there is no prediction in {guess} of the same name",
        f"warning: people/ben.tif.png: not scored, since there is no reference in {truth} of the same name",
    ]


def test_a_broken_file_fails_by_name_and_the_others_are_scored(folders: tuple[Path, Path], tmp_path: Path) -> None:
    guess, truth = folders
    data = bytearray((guess / "people" / "anna.png").read_bytes())
    data[len(data) // 2] ^= 255
    (guess / "people" / "anna.png").write_bytes(data)
    (truth / "people" / "ben.png").write_bytes((truth / "people" / "ben.png").read_bytes()[:-500])

    said = score("--guess", guess, "--truth", truth, "--json", tmp_path / "made.json", code=1)

    found = json.loads((tmp_path / "made.json").read_text())
    assert list(found["pictures"]) == ["scenes/lake.png"]
    assert found["protocol"]["failed"] == 2
    assert said.splitlines() == [
        f"error: {truth}/people/ben.png: can't be read: it is cut short",
        f"error: {truth}/people/anna.png: its prediction {guess}/people/anna.png can't be read: its chunk 'IDAT' is damaged",
    ]


def test_images_of_different_sizes_are_compared_only_with_a_size_option(folders: tuple[Path, Path]) -> None:
    guess, truth = folders
    write(guess / "people" / "anna.png", picture(0, 80, 96))

    said = score("--guess", guess, "--truth", truth, code=1)
    found = scores("--guess", guess, "--truth", truth, "--size", "20")

    assert "anna.png has a different size (96 x 80 and 48 x 40 pixels); use --size" in said
    assert len(found["pictures"]) == 3


def test_black_and_white_references_are_left_out_and_counted(folders: tuple[Path, Path]) -> None:
    guess, truth = folders
    write(truth / "people" / "anna.png", grey(picture(0)))

    found = scores("--guess", guess, "--truth", truth)

    assert (found["protocol"]["pictures"], found["protocol"]["left_out_grey"]) == (2, 1)


def test_nothing_to_score_is_refused_with_a_reason(folders: tuple[Path, Path], tmp_path: Path) -> None:
    empty, gone, dull, cut, other = (tmp_path / name for name in ("empty", "gone", "dull", "cut", "other"))
    empty.mkdir()
    write(dull / "a.png", grey(picture(0)))
    write(dull / "b.png", grey(picture(1)))
    write(cut / "a.png", picture(0)).write_bytes(b"\x89PNG")
    write(other / "c.png", picture(0))

    for folder, complaint in (
        (gone, f"there is no file or folder {gone}"),
        (empty, f"there is no image or film in {empty}"),
        (dull, f"every image in {dull} is in black and white (2 in total)"),
        (cut, f"none of the images in {cut} can be read; a.png: "),
    ):
        assert complaint in score("autoencoder", "--on", folder, code=2)
    said = score("--guess", other, "--truth", folders[1], code=2)
    assert f"no image or film in {folders[1]} has a prediction of the same name in {other}" in said
    assert "warning" not in said


def test_if_every_image_fails_each_is_named(folders: tuple[Path, Path]) -> None:
    guess, truth = folders
    for path in guess.rglob("*.png"):
        write(path, picture(0, 80, 96))
    write(truth / "people" / "anna.png", grey(picture(0)))

    *failed, last = score("--guess", guess, "--truth", truth, code=2).splitlines()

    assert len(failed) == 2
    assert last == f"error: {truth}: nothing can be scored: 2 failed, 1 in black and white"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["autoencoder"], "score either `CHECKPOINT --on FOLDER`, or `--guess FOLDER --truth FOLDER`"),
        (["--guess", "."], "score either"),
        (["autoencoder", "--on", ".", "--truth", "."], "score either"),
        (["--guess", ".", "--truth", ".", "--vividness", "1"], "score either"),
        (["autoencodr", "--on", "."], "did you mean 'autoencoder'?"),
        (["gone.safetensors", "--on", "."], "there is no checkpoint gone.safetensors"),
        (["autoencoder", "--on", ".", "--json", "gone/made.json"], "gone/made.json: there is no folder"),
        (["autoencoder", "--on", ".", "--html", "."], ". is not a regular file"),
        (["autoencoder", "--on", ".", "--size", "10"], "--size"),
        (["autoencoder", "--on", ".", "--plugins", "gone"], "there is no plugin folder gone"),
    ],
)
def test_invalid_arguments_are_refused(arguments: list[str], complaint: str) -> None:
    assert complaint in score(*arguments, code=2)


def test_a_networks_figures_match_those_of_a_runs_output(folders: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = run(
        {
            "stages": [
                {"use": "read", "path": str(folders[1])},
                {"use": "grayscale", "colour": "recolour", "levels": "off", "denoise": "off"},
                {"use": "colorize", "model": "autoencoder", "precision": "float32", "device": "cpu"},
                {"use": "write", "path": str(tmp_path / "made")},
            ]
        }
    )
    assert outcome.exit_code == 0

    written = scores("--guess", tmp_path / "made", "--truth", folders[1])["all"]["figures"]
    network = scores("autoencoder", "--on", folders[1])["all"]["figures"]

    assert network.pop("own_rgb_mse") > 0
    assert network == pytest.approx(written, rel=1e-3)


def test_the_networks_own_output_is_compared_at_its_input_size(tmp_path: Path) -> None:
    rgb = picture(3, 150, 150)
    write(tmp_path / "a.png", rgb)
    net, _ = load(locate("autoencoder"))

    own = net(torch.from_numpy(grey(rgb)[None, None, ..., 0].astype(np.float32) / 255))

    found = scores("autoencoder", "--on", tmp_path / "a.png")["all"]
    assert found["figures"]["own_rgb_mse"] == pytest.approx(mse_loss(own, tensor(rgb)).item(), rel=1e-3)
    assert "own_rgb_mse" not in found["grey"]


def test_the_protocol_of_a_network_names_its_weights_and_how_they_were_used(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(3))

    plain, lively = (
        scores("autoencoder", "--on", tmp_path, "--size", "24", "--crop", *more) for more in ([], ["--vividness", "1"])
    )

    protocol = lively["protocol"]
    assert (protocol["network"], protocol["checkpoint"], protocol["precision"]) == (
        *("autoencoder", "autoencoder.safetensors", "float32"),
    )
    assert re.fullmatch("[0-9a-f]{32}", protocol["digest"])
    assert (protocol["size"], protocol["crop"], protocol["vividness"]) == (
        *("squashed to 24 x 24 pixels", "the central square", 1.0),
    )
    assert lively["all"]["figures"]["chroma_ratio"] > 1.5 * plain["all"]["figures"]["chroma_ratio"]


def test_a_plugin_network_is_scored_if_its_folder_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    name = f"mine{time_ns()}"  # networks stay registered in this process
    plugin = tmp_path / "plugins" / "mine.py"
    plugin.parent.mkdir()
    plugin.write_text(
        f"from bwpipe.models.autoencoder import Autoencoder\nfrom bwpipe.nn.network import network\n\n"
        f"@network({name!r})\nclass Mine(Autoencoder):\n    'Mine.'\n"
    )
    net, _ = load(locate("autoencoder"))
    save(tmp_path / "mine.safetensors", net, Checkpoint(network=name, version="0"))
    arguments = (tmp_path / "mine.safetensors", "--on", folders[1])

    assert "name the plug-in's folder with --plugins" in score(*arguments, code=2)
    found = scores(*arguments, "--plugins", plugin.parent)

    assert found["protocol"]["network"] == name
    assert found["all"] == scores("autoencoder", "--on", folders[1])["all"]


def test_a_wrong_command_is_refused_before_slow_imports() -> None:
    code = "import sys; from typer.testing import CliRunner; from bwpipe.cli.main import app\n"
    code += "result = CliRunner().invoke(app, ['score', 'autoencoder'])\n"
    code += "sys.exit(result.exit_code if not {'torch', 'skimage'} & set(sys.modules) else 9)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 2


def test_an_interrupted_score_says_that_it_starts_over(folders: tuple[Path, Path]) -> None:
    (folders[0] / "interrupt.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")  # as if during the import

    with pytest.raises(InterruptedRun, match="interrupted by SIGINT; the same command starts over"):
        score("--guess", folders[0], "--truth", folders[1], "--plugins", folders[0])


def test_quality_is_reported_and_refused_if_the_network_has_only_one(folders: tuple[Path, Path]) -> None:
    assert scores("autoencoder", "--on", folders[1])["protocol"]["quality"] == "normal"
    assert "autoencoder uses one input size for all pictures" in score(
        "autoencoder", "--on", folders[1], "--quality", "best", code=2
    )
    assert "without --vividness and --quality" in score(
        "--guess", folders[0], "--truth", folders[1], "--quality", "fast", code=2
    )


def test_size_and_crop_are_applied_first(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for folder in folders:
        for path in folder.rglob("*.png"):
            small = cv2.resize(read(path)[:, 4:44], (20, 20), interpolation=cv2.INTER_AREA)
            write(tmp_path / f"small-{folder.name}" / path.relative_to(folder), np.asarray(small, np.uint8))

    sized = scores("--guess", folders[0], "--truth", folders[1], "--size", "20", "--crop")["all"]
    small = scores("--guess", tmp_path / "small-guess", "--truth", tmp_path / "small-truth")["all"]

    for key in ("figures", "grey"):
        assert sized[key] == pytest.approx(small[key], rel=2e-3)


def test_a_pattern_selects_images(folders: tuple[Path, Path]) -> None:
    found = scores("autoencoder", "--on", folders[1] / "people" / "a*")

    assert list(found["pictures"]) == ["anna.png"]
    assert found["by_folder"] == {}


class _Page(HTMLParser):
    """Collects the tags, links and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_shows_best_median_and_worst_and_is_self_contained(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = tmp_path / "made.html"
    write(folders[1] / "scenes" / "<b>&.png", picture(20))
    write(folders[0] / "scenes" / "<b>&.png", picture(21))
    found = scores("--guess", folders[0], "--truth", folders[1], "--html", made)

    page = _Page()
    page.feed(made.read_text(encoding="utf-8"))

    order = sorted(found["pictures"], key=lambda name: found["pictures"][name]["guess"]["ciede2000"])
    best, _, worst = re.split(r"\n(?:median|worst)\n", page.words.partition("\nbest\n")[2])
    assert best.strip().startswith(order[0])
    assert worst.strip().startswith(order[-1])
    assert order[-1] == "scenes/<b>&.png"
    assert page.tags.count("figure") == 3
    assert page.tags.count("img") == 9
    assert "b" not in page.tags
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert all(str(value) in page.words for value in found["protocol"].values())


def test_quiet_prints_no_table(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert score("--guess", folders[0], "--truth", folders[1], "--quiet", "--json", tmp_path / "made.json") == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["guess", "made.json", "truth"]
