import os
import struct
import zlib
from dataclasses import fields
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from PIL import Image

from bwpipe.core.frame import Frame, Unit
from bwpipe.errors import MediaError
from bwpipe.image.file import HEAD, ImageFile, sniff
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from tests.support.made_pictures import (
    KINDS,
    Wish,
    alpha_of,
    chunk,
    deep_png,
    exif,
    grey,
    luma_of,
    make_picture,
    make_pictures,
    raw_png,
    rgb,
    tifffile_bytes,
)

WISH = Wish(height=41, width=58, orientation=1, seed=3)


def opened(path: Path, max_pixels: int = 10**6) -> ImageFile:
    return open_image(path, PurePosixPath(os.fsdecode(path.name)), max_pixels=max_pixels)


def read(path: Path) -> Frame:
    return read_image(Unit(opened(path)))


def saved(samples: Any, form: str, **options: Any) -> bytes:
    file = BytesIO()
    (samples if isinstance(samples, Image.Image) else Image.fromarray(samples)).save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "image"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_kind_of_image_is_read_as_stored(tmp_path: Path, kind: str, orientation: int) -> None:
    made = make_picture(tmp_path, kind, orientation=orientation)

    media = opened(made.path)
    frame = read_image(Unit(media))

    assert (media.format, media.orientation, media.kind, media.frames) == (made.format, made.orientation, "picture", 1)
    assert (media.width, media.height) == (53, 37)
    assert media.depth == 8 * frame.luma.itemsize
    assert media.levels == (0, 2**media.depth - 1)
    if made.luma is not None:
        assert frame.luma.dtype == made.luma.dtype
        np.testing.assert_allclose(frame.luma.astype(int), made.luma.astype(int), rtol=0, atol=1 if made.coloured else 0)
    assert (frame.alpha is None) == (made.alpha is None)
    if frame.alpha is not None and made.alpha is not None:
        assert_array_equal(frame.alpha, made.alpha)
    assert (frame.chroma is not None) == made.coloured
    for plane in (frame.luma, frame.chroma, frame.alpha):
        assert plane is None or not plane.flags.writeable


def test_generated_images_are_reproducible(tmp_path: Path) -> None:
    first, second = (make_pictures(tmp_path / name, 90) for name in ("a", "b"))

    assert len({made.kind for made in first}) == len(KINDS)
    for one, other in zip(first, second, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_recognised_by_its_first_bytes(tmp_path: Path, kind: str) -> None:
    assert sniff(make_picture(tmp_path, kind).path.read_bytes()[:HEAD])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BM",
        b"P7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"%PDF-1.7",
        b"\0\0\0\x20ftypisom",
        b"RIFF\0\0\0\0AVI LIST",
        b"BMW was built",
    ],
)
def test_other_files_are_not_images(head: bytes) -> None:
    assert not sniff(head.ljust(HEAD, b" "))


def test_the_format_is_detected_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "scan.jpg"
    path.write_bytes(saved(grey(WISH), "PNG"))

    assert opened(path).format == "PNG"
    assert_array_equal(read(path).luma, grey(WISH))


@pytest.mark.parametrize("kind", ["jpeg-grey", "png-16-colour", "tiff-16-colour"])
def test_a_file_name_that_is_not_utf_8_is_read(tmp_path: Path, kind: str) -> None:
    made = make_picture(tmp_path, kind)
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    made.path.rename(path)

    assert read(path).luma.shape == (37, 53)


def test_luma_of_a_jpeg_is_its_y_and_chroma_its_cb_and_cr(file: Path) -> None:
    planes = np.dstack([grey(WISH), np.full(grey(WISH).shape, 90, np.uint8), np.full(grey(WISH).shape, 200, np.uint8)])
    file.write_bytes(
        saved(Image.frombytes("YCbCr", (WISH.width, WISH.height), planes.tobytes()), "JPEG", quality=100, subsampling=0)
    )

    frame = read(file)

    assert np.abs(frame.luma.astype(int) - planes[..., 0]).max() <= 2
    assert frame.chroma is not None
    np.testing.assert_allclose(frame.chroma[0], (90 - 128) / 255, atol=0.01)
    np.testing.assert_allclose(frame.chroma[1], (200 - 128) / 255, atol=0.01)


def test_a_jpeg_that_stores_rgb_has_the_luma_of_rgb(file: Path) -> None:
    file.write_bytes(saved(rgb(WISH), "JPEG", quality=100, subsampling=0, keep_rgb=True))

    assert opened(file).mode == "RGB"
    assert np.abs(read(file).luma.astype(int) - luma_of(rgb(WISH))).max() <= 3


def test_grey_in_colour_files_has_no_chroma(file: Path) -> None:
    for form in ("PNG", "JPEG", "TIFF"):
        file.write_bytes(saved(np.dstack([grey(WISH)] * 3), form))
        assert read(file).chroma is None


def test_chroma_and_luma_combine_to_the_original_colours(file: Path) -> None:
    file.write_bytes(saved(rgb(WISH), "PNG"))

    frame = read(file)

    assert frame.chroma is not None
    red = frame.luma + 255 * 1.402 * frame.chroma[1].astype(float)
    blue = frame.luma + 255 * 1.772 * frame.chroma[0].astype(float)
    np.testing.assert_allclose(red, rgb(WISH)[..., 0], atol=1)
    np.testing.assert_allclose(blue, rgb(WISH)[..., 2], atol=1)


def test_a_colour_that_is_transparent_becomes_alpha(file: Path) -> None:
    deep, flat = grey(WISH, 16), grey(WISH)
    transparent_by_file = {
        deep_png(np.dstack([deep] * 3), 2, chunk(b"tRNS", struct.pack(">3H", *[int(deep[4, 5])] * 3))): deep == deep[4, 5],
        deep_png(deep, 0, chunk(b"tRNS", struct.pack(">H", int(deep[4, 5])))): deep == deep[4, 5],
        saved(flat, "PNG", transparency=int(flat[4, 5])): flat == flat[4, 5],
    }

    for data, transparent in transparent_by_file.items():
        file.write_bytes(data)
        frame = read(file)
        assert frame.alpha is not None
        assert_array_equal(frame.alpha, np.where(transparent, 0, np.iinfo(frame.luma.dtype).max))
        assert frame.alpha.dtype == frame.luma.dtype


def test_16_bit_white_is_zero_is_inverted(file: Path) -> None:
    for order in "<>":
        file.write_bytes(tifffile_bytes(65535 - grey(WISH, 16), photometric="miniswhite", byteorder=order))
        assert_array_equal(read(file).luma, grey(WISH, 16))


def test_grey_and_alpha_of_a_16_bit_tiff_are_read(file: Path) -> None:
    both = np.dstack([grey(WISH, 16), alpha_of(WISH, 16)])
    file.write_bytes(tifffile_bytes(both, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]))

    frame = read(file)

    assert_array_equal(frame.luma, both[..., 0])
    assert frame.alpha is not None
    assert_array_equal(frame.alpha, both[..., 1])


def test_16_bit_planar_samples_are_read_with_deflate_but_not_with_lzw(file: Path) -> None:
    planes = np.moveaxis(rgb(WISH, 16), -1, 0)
    data = tifffile_bytes(planes, photometric="rgb", planarconfig="separate", compression="zlib", predictor=True)
    file.write_bytes(data)
    assert np.abs(read(file).luma.astype(int) - luma_of(rgb(WISH, 16))).max() <= 1

    file.write_bytes(data.replace(struct.pack("<HHIH", 259, 3, 1, 8), struct.pack("<HHIH", 259, 3, 1, 5)))
    with pytest.raises(MediaError, match="read only uncompressed or with Deflate"):
        opened(file)


def test_a_preview_in_a_tiff_does_not_count_as_a_page(file: Path) -> None:
    pages = BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        writer.write(grey(WISH), metadata=None)
        writer.write(grey(WISH)[::4, ::4], subfiletype=1, metadata=None)
    file.write_bytes(pages.getvalue())

    assert_array_equal(read(file).luma, grey(WISH))


def test_big_tiff_is_read(file: Path) -> None:
    for depth in (8, 16):
        file.write_bytes(tifffile_bytes(rgb(WISH, depth), 6, photometric="rgb", bigtiff=True))
        assert opened(file).orientation == 6
        assert np.abs(read(file).luma.astype(int) - luma_of(rgb(WISH, depth))).max() <= 1


def test_plain_bitmaps_with_comments_are_read(file: Path) -> None:
    file.write_bytes(b"P1\n# a cross\n3 2\n# black is 1\n010\n1 1 1\n")

    assert_array_equal(read(file).luma, [[255, 0, 255], [0, 0, 0]])


@pytest.mark.parametrize("fraction", [0.15, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_fails(tmp_path: Path, kind: str, fraction: float) -> None:
    path = make_picture(tmp_path, kind).path
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])

    with pytest.raises(MediaError, match="can't be read"):
        read(path)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}], ids=str)
@pytest.mark.parametrize("samples", [grey(WISH), rgb(WISH)], ids=["grey", "colour"])
def test_a_jpeg_cut_short_fails_even_if_an_end_marker_was_appended(file: Path, samples: Any, options: dict[str, Any]) -> None:
    data = saved(samples, "JPEG", **options)
    cut = data[: len(data) * 3 // 4].rstrip(b"\xff")
    for with_end in (cut + b"\xff\xd9", cut + bytes(2**17)):
        file.write_bytes(with_end)
        with pytest.raises(MediaError, match="can't be read"):
            read(file)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
def test_a_whole_jpeg_that_ends_in_mid_grey_or_in_other_data_is_read(file: Path, options: dict[str, Any]) -> None:
    file.write_bytes(saved(np.full((40, 50), 128, np.uint8), "JPEG", **options) + b"a trailer")

    assert_array_equal(read(file).luma, np.full((40, 50), 128))


@pytest.mark.parametrize(
    "samples", [raw_png([bytes(range(50))] * 40, 50, 8, 0), deep_png(rgb(WISH, 16), 2)], ids=["8 bits", "16 bits"]
)
def test_a_png_with_a_wrong_checksum_fails(file: Path, samples: bytes) -> None:
    damaged = bytearray(samples)
    damaged[-20] ^= 1
    file.write_bytes(damaged)

    with pytest.raises(MediaError, match="'IDAT' is damaged"):
        read(file)


def _header_of(form: str, side: int) -> bytes:
    """A small file whose header claims `side` x `side` pixels."""
    wide = {"JPEG": ">HH", "PNG": ">II", "BMP": "<ii", "GIF": "<HH"}
    places = {"PNG": 16, "BMP": 18, "GIF": 6}
    if form == "PPM":
        return f"P5 {side} {side} 255\n".encode() + bytes(100)
    if form == "TIFF":
        data = bytearray(tifffile_bytes(np.zeros((8, 8), np.uint8)))
        for tag in (256, 257):
            place = data.index(struct.pack("<HHI", tag, 4, 1))
            struct.pack_into("<I", data, place + 8, side)
        return bytes(data)
    if form == "WEBP":
        data = bytearray(saved(np.zeros((8, 8, 4), np.uint8), "WEBP", exif=exif(1)))
        data[24:30] = (side - 1).to_bytes(3, "little") * 2
        return bytes(data)
    data = bytearray(saved(np.zeros((8, 8), np.uint8), form))
    place = places.get(form) or data.index(b"\xff\xc0") + 5
    struct.pack_into(wide[form], data, place, side, side)
    if form == "PNG":
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP"])
def test_a_small_file_that_claims_900_megapixels_is_refused_by_its_header(file: Path, form: str) -> None:
    file.write_bytes(_header_of(form, 30000))

    with pytest.raises(MediaError) as refused:
        opened(file, max_pixels=200_000_000)

    assert str(refused.value) == (
        "has 30000x30000 = 900000000 pixels, more than `max_pixels` allows (200000000); raise that to read it"
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP"])
def test_only_max_pixels_limits_the_size_of_an_image(file: Path, form: str) -> None:
    file.write_bytes(_header_of(form, 14000))

    assert opened(file, max_pixels=200_000_000).width == 14000


def _animated(form: str) -> bytes:
    first, *others = (Image.fromarray(grey(WISH) // step) for step in (1, 2, 3))
    return saved(first, form, save_all=True, append_images=others)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_animated("GIF"), "holds 3 frames"),
        (_animated("PNG"), "holds 3 frames"),
        (_animated("WEBP"), "holds 3 frames"),
        (_animated("TIFF"), "holds 3 pages"),
        (saved(grey(WISH), "PPM") * 2, "holds several pictures"),
    ],
    ids=["GIF", "PNG", "WEBP", "TIFF", "PPM"],
)
def test_several_images_in_a_file_are_refused(file: Path, data: bytes, message: str) -> None:
    file.write_bytes(data)

    with pytest.raises(MediaError, match=f"^{message}, of which only the first would be kept; split it"):
        opened(file)


_RGBA = np.dstack([rgb(WISH, 16), grey(WISH, 16)])
_FOUR_SAMPLES = tifffile_bytes(np.dstack([grey(WISH, 16)] * 4), photometric="separated")
_PREMULTIPLIED = tifffile_bytes(_RGBA, photometric="rgb", extrasamples=["assocalpha"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tifffile_bytes(grey(WISH).astype(np.float32)), "has 32-bit samples that are signed or floating-point numbers"),
        (tifffile_bytes(grey(WISH).astype(np.int16)), "has 16-bit samples that are signed or floating-point numbers"),
        (tifffile_bytes(grey(WISH).astype(np.uint32)), "has an unsupported layout of 1 samples of 32 bits"),
        (_FOUR_SAMPLES, "has an unsupported layout of 4 samples of 16 bits"),
        (_PREMULTIPLIED, "has 16-bit samples with premultiplied alpha"),
        (saved(Image.fromarray(rgb(WISH)).convert("LAB"), "TIFF"), "has samples of kind 'LAB', which is not supported"),
        (tifffile_bytes(grey(WISH), subfiletype=1), "is a camera raw file, which is not supported"),
        (b"Pf\n4 4\n1.0\n" + bytes(64), "is not a picture in a supported format"),
        (b"GIF89a" + bytes(26), "can't be read: it is cut short"),
        (b"\xff\xd8\xff" + bytes(200), "can't be read"),
        (b"II*\0\x08\0\0\0" + bytes(30), "can't be read"),
        (b"P5 4 4 70000 " + bytes(64), "can't be read: its header is damaged"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"IEND", b""), "can't be read: its header is damaged"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_with_a_reason(file: Path, data: bytes, message: str) -> None:
    file.write_bytes(data)

    with pytest.raises(MediaError) as refused:
        opened(file)

    assert message in str(refused.value)


def test_a_pgm_with_samples_above_its_maximum_fails(file: Path) -> None:
    file.write_bytes(b"P5 2 1 100\n\x20\xc0")

    with pytest.raises(MediaError, match="above its own maximum of 100"):
        read(file)


def test_a_missing_file_and_a_changed_file_are_reported(tmp_path: Path) -> None:
    made = make_picture(tmp_path, "png-grey")
    media = opened(made.path)

    made.path.write_bytes(saved(grey(WISH), "PNG"))
    with pytest.raises(MediaError, match="has changed since the run began"):
        read_image(Unit(media))

    made.path.unlink()
    with pytest.raises(MediaError, match="can't be read: No such file"):
        read_image(Unit(media))


@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest turns warnings that bwpipe ignores into errors
def test_an_image_with_damaged_exif_is_read(file: Path) -> None:
    for start in (b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\0\x09\x01", b"nothing at all"):
        file.write_bytes(saved(grey(WISH), "JPEG", exif=b"Exif\0\0" + start))
        assert read(file).unit.media.orientation == 1


def test_an_image_file_object_holds_no_large_data(tmp_path: Path) -> None:
    for kind in KINDS:
        media = opened(make_picture(tmp_path, kind).path)
        assert not [field.name for field in fields(media) if isinstance(getattr(media, field.name), (bytes, dict, list))]


def _cmyk_profile() -> bytes:
    """A profile that maps all ink to green: a table of two points per axis (ICC.1:2001, 6.5.8)."""
    ramp = bytes(range(256))
    unity = struct.pack(">9i", *[1 << 16 if i % 4 == 0 else 0 for i in range(9)])
    inks = (i.bit_count() for i in range(16))
    colours = b"".join(bytes([255 - 255 * count // 4, 128 - 60 * (0 < count < 4), 128]) for count in inks)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unity + ramp * 4 + colours + ramp * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    start = struct.pack(">I4sI4s4s4s12x4s", 144 + len(table), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    light = struct.pack(">3i", 63190, 65536, 54061)
    return start + bytes(28) + light + bytes(48) + tags + table


def test_cmyk_is_converted_by_its_profile(file: Path) -> None:
    image = Image.fromarray(rgb(WISH)).convert("CMYK")
    for form in ("JPEG", "TIFF"):
        file.write_bytes(saved(image, form, icc_profile=_cmyk_profile()))
        chroma = read(file).chroma
        assert chroma is not None
        assert chroma[1].mean() < -0.05


def test_cmyk_with_a_profile_of_other_colours_is_refused(tmp_path: Path, file: Path) -> None:
    image = Image.fromarray(rgb(WISH)).convert("CMYK")
    for icc in (_cmyk_profile().replace(b"CMYK", b"RGB "), b"nonsense"):
        file.write_bytes(saved(image, "TIFF", icc_profile=icc))
        with pytest.raises(MediaError, match="an ICC profile that does not describe them"):
            read(file)
