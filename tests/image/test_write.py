import os
import struct
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import ExifTags, Image

from bwpipe.core.frame import Frame, Unit
from bwpipe.errors import MediaError
from bwpipe.image.file import ImageFile
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from bwpipe.image.write import TargetFormat, target_format, target_suffix, write_image
from bwpipe.pixels.orientation import stored, upright
from tests.support.made_pictures import (
    DATE,
    DESCRIPTION,
    DPI,
    KINDS,
    Wish,
    alpha_of,
    chunk,
    exif,
    grey,
    luma_of,
    make_picture,
    profile,
    rgb,
    tifffile_bytes,
)

WISH = Wish(height=48, width=64, orientation=1, seed=5)
_DESCRIPTION, _EXIF, _DATE = 270, 34665, 36867


def opened(path: Path) -> ImageFile:
    return open_image(path, PurePosixPath(os.fsdecode(path.name)), max_pixels=10**7)


def read(path: Path) -> Frame:
    return read_image(Unit(opened(path)))


def saved(samples: Any, form: str, **options: Any) -> bytes:
    file = BytesIO()
    (samples if isinstance(samples, Image.Image) else Image.fromarray(samples)).save(file, form, **options)
    return file.getvalue()


def make_chroma(luma: NDArray[Any], limit: float = 0.3) -> NDArray[np.float16]:
    """Chroma of all hues, (2, H, W)."""
    rows, columns = (np.linspace(-limit, limit, side) for side in luma.shape)
    return np.stack(np.meshgrid(columns, rows)).astype(np.float16)


def written(path: Path, target: TargetFormat | None = None, quality: int = 95) -> tuple[Path, list[str]]:
    """Write the image in colour; returns its path and the warnings."""
    frame, warnings = read(path), list[str]()
    media = frame.unit.media
    assert isinstance(media, ImageFile)
    chosen = target_format(media, target)
    made = path.with_name(f"made-{path.stem}{target_suffix(media, chosen)}")
    made.touch()
    write_image(made, frame, make_chroma(frame.luma), target=chosen, quality=quality, warn=warnings.append)
    return made, warnings


def y_of(path: Path) -> NDArray[Any]:
    """The Y of a JPEG file."""
    with Image.open(path) as image:
        image.draft("YCbCr", None)
        return np.asarray(image)[..., 0]


def rgb_of(path: Path) -> NDArray[Any]:
    """The samples of a lossless image as stored, by decoders other than ours where there are any."""
    if path.suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as tiff:
            if tiff.pages[0].compression != tifffile.COMPRESSION.LZW:  # tifffile alone can't read it
                return np.asarray(tiff.asarray())
    samples = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert samples is not None
    rgb = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    orientation = opened(path).orientation if path.suffix == ".tif" else 1  # OpenCV rotates TIFF only
    return np.moveaxis(stored(np.moveaxis(rgb, -1, 0), orientation), 0, -1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "image"


@pytest.mark.parametrize("orientation", [1, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_keeps_luma_size_depth_alpha_and_metadata(tmp_path: Path, kind: str, orientation: int) -> None:
    made = make_picture(tmp_path, kind, orientation=orientation)
    before = read(made.path)

    path, _ = written(made.path)
    after = read(path)

    assert path.suffix == made.target
    assert after.luma.dtype == before.luma.dtype
    assert (after.chroma is None) == (set(np.unique(before.luma)) <= {0, 255})
    if path.suffix.lower() in (".jpg", ".jpeg"):
        exact = kind != "jpeg-cmyk"
        assert np.abs(y_of(path).astype(int) - before.luma).max() <= (0 if exact and made.path.suffix == path.suffix else 2)
    else:
        assert np.abs(luma_of(rgb_of(path)).astype(int) - before.luma).max() <= 1
    assert (after.alpha is None) == (before.alpha is None)
    if after.alpha is not None and before.alpha is not None:
        assert_array_equal(after.alpha, before.alpha)
    assert opened(path).orientation == made.orientation
    with Image.open(path) as image:
        if made.exif:
            assert image.getexif()[_DESCRIPTION] == DESCRIPTION
            with Image.open(made.path) as source:
                assert image.getexif().get_ifd(_EXIF) == source.getexif().get_ifd(_EXIF)
        if made.dpi:
            np.testing.assert_allclose([float(value) for value in image.info["dpi"]], DPI, atol=0.1)
        assert image.info.get("icc_profile", b"") == (profile() if made.icc else b"")


@pytest.mark.parametrize("target", ["jpeg", "png", "tiff", "webp", "ppm", "bmp"])
@pytest.mark.parametrize(
    "kind", ["jpeg-colour", "png-16-colour-alpha", "png-palette", "tiff-16-colour", "webp-alpha", "gif", "pgm-12-bit"]
)
def test_every_format_is_written_from_every_other(tmp_path: Path, kind: str, target: TargetFormat) -> None:
    made = make_picture(tmp_path, kind)
    before = read(made.path)

    path, warnings = written(made.path, target, quality=100)
    after = read(path)

    deep = before.luma.dtype == np.uint16
    holds_depth, holds_alpha = target in ("png", "tiff", "ppm"), target not in ("jpeg", "ppm")
    assert opened(path).format == target.upper()
    assert after.luma.dtype == (np.uint16 if deep and holds_depth else np.uint8)
    expected = before.luma.astype(float) * np.iinfo(after.luma.dtype).max / np.iinfo(before.luma.dtype).max
    assert np.abs(after.luma - expected).max() <= (2 if target == "jpeg" else 1)
    assert (after.alpha is not None) == (before.alpha is not None and holds_alpha)
    name = target.upper()
    assert (f"{name} has 8 bits per sample: 16-bit pictures are rounded" in warnings) == (deep and not holds_depth)
    assert (f"{name} has no alpha: it is left out" in warnings) == (before.alpha is not None and not holds_alpha)


@pytest.mark.parametrize(
    ("kind", "warnings"),
    [
        ("jpeg-grey", []),
        ("png-16-colour-alpha", []),
        ("webp-colour", []),
        ("pgm", ["PBM and PGM have no colour: they become PPM"]),
        ("pbm", ["PBM and PGM have no colour: they become PPM", "1-bit and palette pictures become 8-bit RGB"]),
        ("gif", ["GIF has 256 colours only: it becomes PNG", "1-bit and palette pictures become 8-bit RGB"]),
        ("tiff-cmyk", ["CMYK becomes RGB"]),
        ("png-16-grey", ["an ICC profile that describes neither RGB nor grey, or is damaged, is left out"]),
        ("webp-lossy", ["lossy WebP can't preserve luma: it becomes lossless WebP"]),
        ("jpeg-2000", ["JPEG 2000 is read but not written: it becomes another format, without its text metadata"]),
    ],
)
def test_what_a_format_cannot_hold_is_reported(tmp_path: Path, kind: str, warnings: list[str]) -> None:
    assert written(make_picture(tmp_path, kind).path)[1] == warnings


def test_a_name_keeps_its_suffix_if_it_matches_the_format(tmp_path: Path) -> None:
    for name, suffix in (("a.PNG", ".PNG"), ("a.jpg", ".png"), ("a", ".png")):
        (tmp_path / name).write_bytes(saved(grey(WISH), "PNG"))
        media = opened(tmp_path / name)
        assert (target_format(media), target_suffix(media, "png")) == ("png", suffix)
        assert target_suffix(media, target_format(media, "tiff")) == ".tif"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_image_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    made = make_picture(tmp_path, kind)

    first, second = (written(made.path)[0].read_bytes() for _ in range(2))

    assert first == second


def _contents() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    shape = (96, 96)
    return {
        "smooth": grey(Wish(height=96, width=96, orientation=1, seed=1)),
        "noise": rng.integers(0, 256, shape, np.uint8),
        "black and white": np.where(rng.random(shape) < 0.5, np.uint8(0), np.uint8(255)),
        "blown out": np.clip(rng.normal(230, 60, shape), 0, 255).astype(np.uint8),
        "text": np.kron(np.where(rng.random((32, 32)) < 0.2, np.uint8(0), np.uint8(255)), np.ones((3, 3), np.uint8)),
    }


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"keep_rgb": True}], ids=str)
@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 95, 98, 100])
def test_a_jpeg_made_from_a_jpeg_keeps_its_luma(file: Path, quality: int, options: dict[str, Any]) -> None:
    for name, luma in _contents().items():
        samples = np.dstack([luma, luma[::-1], luma]) if "keep_rgb" in options else luma
        file.write_bytes(saved(samples, "JPEG", quality=quality, **options))
        before = read(file).luma

        path, warnings = written(file)

        differences = np.abs(y_of(path).astype(int) - before)
        assert differences.mean() <= (0.1 if "keep_rgb" in options else 0), name
        assert differences.max() <= (2 if "keep_rgb" in options else 0), name
        assert not warnings


def test_a_jpeg_keeps_its_quantisation_table_and_its_chroma_is_not_subsampled(file: Path) -> None:
    smooth = grey(WISH) // 2 + 60
    for quality in (60, 80, 95):
        file.write_bytes(saved(smooth, "JPEG", quality=quality, progressive=True))
        path, _ = written(file)
        with Image.open(file) as before, Image.open(path) as after:
            assert after.quantization[0] == before.quantization[0]  # type: ignore[attr-defined]
            assert after.info["progressive"]
            assert {layer[1:3] for layer in after.layer} == {(1, 1)}  # type: ignore[attr-defined]


def test_quality_applies_to_jpegs_made_from_other_formats(file: Path) -> None:
    file.write_bytes(saved(grey(WISH), "PNG"))

    sizes = [written(file, "jpeg", quality)[0].stat().st_size for quality in (40, 80, 95)]

    assert sizes == sorted(set(sizes))


def _with_thumbnail() -> bytes:
    """EXIF with two directories, the second with a small JPEG at the very end of the EXIF bytes."""
    thumbnail = saved(grey(WISH)[::4, ::4], "JPEG")
    first = struct.pack("<HHHI4sI", 1, 274, 3, 1, struct.pack("<HH", 6, 0), 26)
    second = struct.pack("<HHHIIHHIII", 2, 513, 4, 1, 56, 514, 4, 1, len(thumbnail), 0)
    return b"Exif\0\0II*\0\x08\0\0\0" + first + second + thumbnail


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_grey_thumbnail_in_exif_is_not_copied(file: Path, form: str) -> None:
    file.write_bytes(saved(grey(WISH), form, exif=_with_thumbnail()))

    path, _ = written(file)

    with Image.open(file) as before, Image.open(path) as after:
        assert before.getexif().get_ifd(ExifTags.IFD.IFD1)
        assert not after.getexif().get_ifd(ExifTags.IFD.IFD1)
        assert len(after.info["exif"]) < 64
        assert opened(path).orientation == 6


def test_exif_is_otherwise_copied_byte_for_byte(file: Path) -> None:
    tags = exif(3)
    tags.get_ifd(_EXIF)[37500] = b"a maker's notes \xff\xfe"
    tags.get_ifd(34853)[1] = "N"
    file.write_bytes(saved(grey(WISH), "JPEG", exif=tags))

    path, _ = written(file)

    with Image.open(file) as before, Image.open(path) as after:
        assert after.info["exif"] == before.info["exif"]


def test_exif_goes_into_tiff_and_out_of_it(file: Path) -> None:
    tags = exif(5)
    tags.get_ifd(34853)[1] = "N"
    file.write_bytes(saved(grey(WISH), "JPEG", exif=tags, dpi=DPI))

    tiff, _ = written(file, "tiff")
    jpeg, _ = written(tiff, "jpeg")

    for path in (tiff, jpeg):
        with Image.open(path) as image:
            found = image.getexif()
            assert found[_DESCRIPTION] == DESCRIPTION
            assert found.get_ifd(_EXIF)[_DATE] == DATE
            assert found.get_ifd(34853)[1] == "N"
            assert found[282] == DPI[0]
        assert opened(path).orientation == 5


def test_text_in_an_unknown_encoding_is_copied_byte_for_byte(file: Path) -> None:
    text = "Großmutter, 1931".encode("latin-1") + b"\0"
    data = tifffile_bytes(grey(WISH), photometric="minisblack")
    with tifffile.TiffFile(BytesIO(data)) as made:
        place = made.pages[0].tags[270].valueoffset  # type: ignore[union-attr]
    file.write_bytes(data[:place] + text + data[place + len(text) :])

    path, _ = written(file)

    assert text in path.read_bytes()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_keeps_compression_and_byte_order(file: Path, compression: str, depth: int, byteorder: str) -> None:
    file.write_bytes(saved(grey(WISH, depth), "TIFF", compression=compression))
    if compression == "raw":
        file.write_bytes(tifffile_bytes(grey(WISH, depth), byteorder=byteorder))

    path, warnings = written(file)

    with Image.open(path) as image:
        assert image.info["compression"] == compression
        assert image.tag_v2[262] == 2  # type: ignore[attr-defined]
        assert image.tag_v2[258] == (depth,) * 3  # type: ignore[attr-defined]
    assert_array_equal(luma_of(rgb_of(path)), grey(WISH, depth))
    assert not warnings


def test_png_keeps_text_time_and_xmp(file: Path) -> None:
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    chunks = [
        chunk(b"tEXt", b"Title\0The blue album"),
        chunk(b"tIME", struct.pack(">H5B", 2020, 1, 2, 3, 4, 5)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        chunk(b"gAMA", struct.pack(">I", 45455)),
    ]
    plain = saved(grey(WISH), "PNG")
    file.write_bytes(plain[:33] + b"".join(chunks) + plain[33:])

    path, warnings = written(file)
    assert all(piece in path.read_bytes() for piece in chunks)
    assert not warnings

    for target in ("jpeg", "tiff", "webp"):
        path, warnings = written(file, target)
        assert xmp in path.read_bytes()
        assert warnings == ["comments and text that only PNG files can hold are left out"]
        again, _ = written(path, "png")
        with Image.open(again) as image:
            assert image.info["xmp"] == xmp


def test_jpeg_keeps_comments_and_captions_but_not_photoshops_thumbnail(file: Path) -> None:
    def resource(number: int, data: bytes) -> bytes:
        return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)

    caption = resource(1028, b"\x1c\x02\x78\x00\x05Album")
    segment = b"Photoshop 3.0\0" + caption + resource(1036, b"a small image") + resource(1010, b"\0\1")
    extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    file.write_bytes(saved(grey(WISH), "JPEG", extra=extra, comment=b"from the blue album", xmp=b"<x/>"))

    path, warnings = written(file)

    assert not warnings
    with Image.open(path) as image:
        assert set(image.info["photoshop"]) == {1028, 1010}
        assert image.info["comment"] == b"from the blue album"
        assert image.info["xmp"] == b"<x/>"
    assert caption in path.read_bytes()


def test_an_image_appended_to_a_jpeg_is_left_out_with_a_warning(file: Path) -> None:
    index = b"MPF\0II*\0\x08\0\0\0" + struct.pack(
        "<HHHIIHHIIHHIII", 3, 0xB000, 7, 4, 0x30303130, 0xB001, 4, 1, 2, 0xB002, 7, 32, 50, 0
    )
    entries = struct.pack("<IIIHHIIIHH", 0x30000, 0, 0, 0, 0, 0x10001, 0, 0, 0, 0)

    def with_index(entries: bytes) -> bytes:
        segment = index + entries
        return saved(grey(WISH), "JPEG", extra=b"\xff\xe2" + struct.pack(">H", len(segment) + 2) + segment)

    file.write_bytes(with_index(entries))
    assert written(file)[1] == ["a second picture or a preview, which some cameras append to a JPEG file, is left out"]

    file.write_bytes(with_index(entries.replace(struct.pack("<I", 0x10001), struct.pack("<I", 0x20002))))
    with pytest.raises(MediaError, match=r"holds several pictures \(stereo\)"):
        opened(file)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("target", ["ppm", "bmp"])
def test_formats_without_orientation_are_written_upright(tmp_path: Path, target: TargetFormat, orientation: int) -> None:
    made = make_picture(tmp_path, "png-grey", orientation=orientation)

    path, warnings = written(made.path, target)

    assert made.luma is not None
    assert_array_equal(luma_of(rgb_of(path)), upright(made.luma, orientation))
    assert (
        warnings[0]
        == f"{target.upper()} has no EXIF, ICC profile or XMP: they are left out, and pictures are rotated as EXIF says"
    )


def test_metadata_too_large_for_a_jpeg_is_left_out_with_a_warning(file: Path) -> None:
    file.write_bytes(saved(grey(WISH), "WEBP", lossless=True, xmp=bytes(70000), exif=exif(6)))

    path, warnings = written(file, "jpeg")

    assert warnings == ["JPEG holds at most 64 kB each of EXIF and XMP: larger ones are left out"]
    assert opened(path).orientation == 6


def test_an_image_too_large_for_a_format_is_refused(file: Path) -> None:
    file.write_bytes(saved(np.zeros((2, 70000), np.uint8), "PNG"))

    for target, limit in (("jpeg", 65500), ("webp", 16383)):
        with pytest.raises(MediaError, match=f"is larger than a {target.upper()} file can be \\({limit} pixels a side\\)"):
            written(file, target)  # type: ignore[arg-type]


def test_colours_of_transparent_pixels_are_kept(file: Path) -> None:
    transparent = np.dstack([rgb(WISH), np.zeros_like(alpha_of(WISH))])
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        file.write_bytes(saved(transparent, form, **options))
        path, _ = written(file)
        assert_array_equal(read(path).luma, read(file).luma)


def test_a_missing_source_fails_the_image(file: Path, tmp_path: Path) -> None:
    file.write_bytes(saved(grey(WISH), "PNG"))
    frame = read(file)
    file.unlink()

    with pytest.raises(MediaError, match="can't be read: No such file"):
        write_image(tmp_path / "made", frame, make_chroma(frame.luma), target="png", warn=print)
    assert not (tmp_path / "made").exists()


def test_a_missing_output_folder_is_not_a_media_error(file: Path, tmp_path: Path) -> None:
    file.write_bytes(saved(grey(WISH), "PNG"))
    frame = read(file)

    with pytest.raises(FileNotFoundError):
        write_image(tmp_path / "nowhere" / "made", frame, make_chroma(frame.luma), target="png", warn=print)


def test_what_is_left_out_of_a_file_is_reported(file: Path) -> None:
    plain = saved(grey(WISH), "PNG")
    file.write_bytes(plain[:33] + chunk(b"iCCP", b"p\0\0not deflated") + plain[33:])
    assert written(file)[1] == ["a damaged ICC profile is left out"]

    more = np.dstack([rgb(WISH), grey(WISH)])
    file.write_bytes(tifffile_bytes(more, photometric="rgb", extrasamples=["unspecified"]))
    assert written(file)[1] == ["extra samples of a TIFF file that are not alpha, such as a scanner's infrared, are left out"]

    pages = BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        writer.write(grey(WISH), metadata=None)
        writer.write(grey(WISH)[::4, ::4], subfiletype=1, metadata=None)
    file.write_bytes(pages.getvalue())
    assert written(file)[1] == ["layers, masks and previews in a TIFF file are left out"]
