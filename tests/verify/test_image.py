from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bwpipe.image.write import TargetFormat
from bwpipe.verify.image import verify_image
from bwpipe.verify.verdict import Limits, Verdict
from tests.image.test_write import opened, rgb_of, saved, written
from tests.support.made_pictures import COMMENT, KINDS, chunk, exif, make_picture, profile, raw_png


def verified(
    before: Path,
    after: Path,
    limits: Limits = Limits(),  # noqa: B008 (it is frozen)
    said: Sequence[str] = (),
) -> Verdict:
    return verify_image(opened(before), opened(after), limits, said=said)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_written_in_its_own_format_has_no_differences(kind: str, tmp_path: Path) -> None:
    source = make_picture(tmp_path, kind, orientation=8)

    path, warnings = written(source.path)
    verdict = verified(source.path, path, said=warnings)

    assert verdict.differences == []
    assert (verdict.facts["luma"]["max"] == 0) or source.format == "JPEG"


@pytest.mark.parametrize("target", ["jpeg", "png", "tiff", "webp", "ppm", "bmp"])
@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("tiff-16-colour-alpha", {"jpeg": 2, "webp": 1, "ppm": 4, "bmp": 3}),
        ("png-16-colour", {"jpeg": 1, "webp": 1, "ppm": 3, "bmp": 3}),
        ("jpeg-colour", {"ppm": 2, "bmp": 2}),
    ],
)
def test_what_the_target_format_can_not_hold_is_a_remark(
    kind: str, lost: dict[str, int], target: TargetFormat, tmp_path: Path
) -> None:
    source = make_picture(tmp_path, kind, orientation=8)

    verdict = verified(source.path, written(source.path, target, quality=100)[0])

    assert verdict.differences == []
    assert len([text for text in verdict.remarks if "only" not in text]) == lost.get(target, 0)


def with_changed_sample(samples: NDArray[Any]) -> NDArray[Any]:
    samples = samples.copy()
    samples[5, 7, 1] ^= 8
    return samples


@pytest.mark.parametrize("kind", ["png-grey", "png-16-grey", "tiff-grey", "webp-colour", "bmp-grey", "pgm"])
def test_a_single_changed_sample_is_found(kind: str, tmp_path: Path) -> None:
    source = make_picture(tmp_path, kind)
    path, _ = written(source.path)
    depth = opened(path).depth
    rewrite(path, with_changed_sample)

    (difference,) = [text for text in verified(source.path, path).differences if "luma" in text]

    assert opened(path).depth == depth
    assert difference.startswith("the luma differs: first at (7, 5), ")


def rewrite(path: Path, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Rewrite a file with changed samples, which drops its metadata."""
    import cv2

    samples = change(rgb_of(path))
    path.write_bytes(cv2.imencode(path.suffix, samples[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes())


def test_a_jpeg_recompressed_at_lower_quality_is_found(tmp_path: Path) -> None:
    source = make_picture(tmp_path, "jpeg-grey")
    path, _ = written(source.path)
    with Image.open(path) as image:
        path.write_bytes(saved(image.copy(), "JPEG", quality=60, exif=image.info["exif"], dpi=(300, 240), comment=COMMENT))

    (difference,) = verified(source.path, path).differences

    assert difference.startswith("the luma differs: first at ")


def test_a_jpeg_from_another_format_has_the_limits_of_lossy_films(tmp_path: Path) -> None:
    source = make_picture(tmp_path, "png-colour", height=64, width=64)

    fine, _ = written(source.path, "jpeg", quality=95)
    assert verified(source.path, fine).differences == []
    assert verified(source.path, fine, Limits(psnr=80)).differences != []


LOSSES: dict[str, tuple[dict[str, Any], str]] = {
    "EXIF": ({"exif": b""}, "its EXIF is lost"),
    "a date in EXIF": ({"exif": exif(8).tobytes().replace(b"1931:05", b"1932:05")}, "its EXIF/34665 tag 36867 differs"),
    "an orientation": ({"exif": exif(1)}, "its orientation is 1 instead of 8"),
    "a profile": ({"icc_profile": b""}, "its ICC profile is lost"),
    "another profile": ({"icc_profile": profile("RGB ")[:-1] + b"x"}, "its ICC profile differs"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_lost_or_changed_metadata_is_found(name: str, tmp_path: Path) -> None:
    change, difference = LOSSES[name]
    source = make_picture(tmp_path, "webp-colour", orientation=8)
    with Image.open(source.path) as image:
        options = {"exif": image.info["exif"], "icc_profile": image.info["icc_profile"], **change}
        path = tmp_path / "output.webp"
        path.write_bytes(saved(image.copy(), "WEBP", lossless=True, **options))

    assert difference in verified(source.path, path).differences


def test_lost_resolution_and_text_are_found(tmp_path: Path) -> None:
    rows = [bytes([0, 255] * 4)] * 8
    metre = chunk(b"pHYs", (11811).to_bytes(4, "big") * 2 + b"\1")
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    before.write_bytes(raw_png(rows, 8, 8, 0, metre, chunk(b"tEXt", b"Comment\0blue album")))
    after.write_bytes(raw_png(rows, 8, 8, 0))

    assert verified(before, after).differences == [
        "its resolution is unknown instead of 299.999x299.999 dpi",
        "its chunk tEXt is lost or differs",
    ]


def test_lost_or_changed_alpha_is_found(tmp_path: Path) -> None:
    source = make_picture(tmp_path, "webp-alpha")
    with Image.open(source.path) as image:
        opaque, other = image.convert("RGB"), image.copy()
    for name, copy in {"opaque": opaque, "other": other}.items():
        if copy.mode == "RGBA":
            alpha = np.asarray(copy)[..., 3].copy()
            alpha[0, 0] ^= 1
            copy.putalpha(Image.fromarray(alpha))
        file = BytesIO()
        copy.save(file, "WEBP", lossless=True, exact=True)
        (tmp_path / f"{name}.webp").write_bytes(file.getvalue())

    assert verified(source.path, tmp_path / "opaque.webp").differences == ["its alpha is lost"]
    assert verified(source.path, tmp_path / "other.webp").differences == ["its alpha differs"]


def test_a_different_size_is_found(tmp_path: Path) -> None:
    (tmp_path / "wider").mkdir()
    one, other = make_picture(tmp_path, "pgm", width=20), make_picture(tmp_path / "wider", "pgm", width=21)

    assert verified(one.path, other.path).differences == ["its size is 21x37 instead of 20x37"]
