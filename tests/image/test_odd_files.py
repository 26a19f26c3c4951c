"""Files as scanners, old programs and phones write them: nothing is lost in silence, nothing is searched without end."""

import struct
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image, ImageCms

from bwpipe.errors import MediaError
from tests.image.test_write import opened, read, saved, written
from tests.support.made_pictures import Wish, chunk, grey, profile, tifffile_bytes
from tests.verify.test_image import verified

WISH = Wish(height=48, width=64, orientation=1, seed=5)
INFRARED = "extra samples of a TIFF file that are not alpha, such as a scanner's infrared, are left out"
PROFILE = "a grey ICC profile becomes an RGB profile with the same curve"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scan"


def tiff(samples: NDArray[Any], photometric: int, extra: list[int] | None, **more: tuple[int, list[int]]) -> bytes:
    """A TIFF file by hand: with or without the tag of extra samples, and with further tags of 16-bit numbers."""
    height, width, count = samples.shape
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [8 * samples.itemsize] * count),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [8]),
        277: ("H", [count]),
        278: ("I", [height]),
        279: ("I", [len(data)]),
    }
    if extra is not None:
        tags[338] = ("H", extra)
    tags |= {number: ("H", values) for number, values in more.values()}
    fields, tail, end = b"", b"", 8 + len(data) + 2 + 12 * len(tags) + 4
    for number, (letter, values) in sorted(tags.items()):
        raw = struct.pack(f"<{len(values)}{letter}", *values)
        place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", end + len(tail))
        fields += struct.pack("<HHI", number, 3 if letter == "H" else 4, len(values)) + place
        tail += raw if len(raw) > 4 else b""
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + fields + bytes(4) + tail


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("extra", [None, [0], [0, 0]], ids=str)
def test_an_infrared_plane_is_never_alpha(file: Path, depth: int, colours: int, extra: list[int] | None) -> None:
    luma = grey(WISH, depth)
    infrared = np.full_like(luma, luma.max() // 2)
    count = len(extra) if extra else 1
    file.write_bytes(tiff(np.dstack([luma] * colours + [infrared] * count), 1 if colours == 1 else 2, extra))

    frame = read(file)
    path, warnings = written(file)

    assert_array_equal(frame.luma, luma)
    assert frame.alpha is None
    assert warnings == [INFRARED]
    assert read(path).alpha is None
    assert verified(file, path, said=warnings).differences == []


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("extra", [[2, 0], [0, 2]], ids=str)
def test_alpha_beside_an_infrared_plane_is_kept(file: Path, depth: int, extra: list[int]) -> None:
    luma = grey(WISH, depth)
    alpha, infrared = luma[::-1], luma // 2
    planes = [alpha, infrared] if extra[0] else [infrared, alpha]
    file.write_bytes(tiff(np.dstack([luma, luma, luma, *planes]), 2, extra))

    path, warnings = written(file)

    found = read(path).alpha
    assert found is not None
    assert_array_equal(found, alpha)
    assert warnings == [INFRARED]


@pytest.mark.parametrize("factor", [1, 257])
@pytest.mark.parametrize("most", [255, 128])
def test_a_colour_map_of_8_bit_numbers_is_not_black(file: Path, factor: int, most: int) -> None:
    luma = grey(WISH)
    ramp = [factor * min(most, value) for value in range(256)]
    file.write_bytes(tiff(luma[..., None], 3, None, colours=(320, ramp * 3)))

    assert_array_equal(read(file).luma, np.minimum(luma, most))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("layout", ["grey", "rgb"])
def test_big_tiff_is_read_in_both_byte_orders(file: Path, depth: int, layout: str) -> None:
    luma = grey(WISH, depth)
    samples = luma if layout == "grey" else np.dstack([luma] * 3)
    photometric = "minisblack" if layout == "grey" else "rgb"
    for order in "<>":
        file.write_bytes(tifffile_bytes(samples, photometric=photometric, bigtiff=True, byteorder=order))
        path, warnings = written(file)
        assert_array_equal(read(path).luma, luma)
        assert warnings == []
        assert verified(file, path).differences == []


def grey_profile(curve: bytes, space: bytes = b"XYZ ") -> bytes:
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(78) + bytes(1)
    tags = [(b"desc", name), (b"wtpt", white), (b"kTRC", curve + bytes(-len(curve) % 4))]
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for key, data in tags:
        table += key + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"lcms", 0x02100000, b"mntr", b"GRAY", space)
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return head + table + body


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * value))


def curve_of(values: NDArray[np.float64]) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">I", len(values)) + np.rint(values * 65535).astype(">u2").tobytes()


def parametric(kind: int, *values: float) -> bytes:
    return (
        b"para" + bytes(4) + struct.pack(">HH", kind, 0) + struct.pack(f">{len(values)}i", *(round(65536 * v) for v in values))
    )


_INK = np.linspace(1, 0, 256)
PROFILES = {
    "gamma 1.8": grey_profile(gamma(1.8)),
    "gamma 2.2": grey_profile(gamma(2.2)),
    "linear": grey_profile(gamma(1.0)),
    "dot gain": grey_profile(curve_of(np.clip(1 - _INK - 0.8 * _INK * (1 - _INK), 0, 1))),
    "sRGB's curve": grey_profile(parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)),
    "lightness": grey_profile(gamma(1.0), b"Lab "),
    "lightness, parametric": grey_profile(parametric(0, 1.2), b"Lab "),
}


def shown(path: Path) -> float:
    """The mean luma of a picture on an sRGB screen."""
    with Image.open(path) as image:
        icc = image.info["icc_profile"]
        eight_bits = image if image.mode in ("L", "RGB") else Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        converted = ImageCms.profileToProfile(
            eight_bits,
            ImageCms.ImageCmsProfile(BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
            flags=ImageCms.Flags.NOOPTIMIZE,
        )
        return float((np.asarray(converted) @ np.array([0.299, 0.587, 0.114])).mean())


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_a_grey_profile_becomes_an_rgb_profile_with_the_same_curve(file: Path, name: str, form: str) -> None:
    file.write_bytes(saved(grey(WISH), form, icc_profile=PROFILES[name]))

    path, warnings = written(file)
    with Image.open(path) as image:
        made = image.info["icc_profile"]
        plain = file.with_name("plain.png")
        Image.fromarray(grey(WISH)).convert("RGB").save(plain, icc_profile=made)

    assert warnings == [PROFILE]
    assert made[16:20] == b"RGB "
    assert abs(shown(plain) - shown(file)) < 0.6
    assert verified(file, path).differences == []


def test_verify_finds_a_grey_profile_that_has_become_another_curve(file: Path) -> None:
    file.write_bytes(saved(grey(WISH), "PNG", icc_profile=PROFILES["linear"]))
    path, _ = written(file)
    with Image.open(path) as image:
        image.load()
        image.save(path, icc_profile=profile())

    assert "its grey ICC profile has become one with another curve" in verified(file, path).differences

    with Image.open(path) as image:
        image.load()
        image.save(path, icc_profile=None)

    assert "its ICC profile is lost" in verified(file, path).differences


def test_a_damaged_grey_profile_is_left_out_with_a_warning(file: Path) -> None:
    icc = PROFILES["linear"]
    for damaged in (icc.replace(b"kTRC", b"none"), icc[:150], icc.replace(b"curv", b"xxxx")):
        file.write_bytes(saved(grey(WISH), "PNG", icc_profile=damaged))
        assert written(file)[1] == ["an ICC profile that describes neither RGB nor grey, or is damaged, is left out"]


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:C="http://ns.google.com/photos/1.0/camera/" '
    'xmlns:D="http://ns.google.com/photos/1.0/container/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" {}>'
    "<dc:title>Grandmother</dc:title>{}</rdf:Description></rdf:RDF></x:xmpmeta>"
)
FILM = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(200)


def test_a_motion_photo_loses_its_film_with_a_warning_and_xmp_says_so(file: Path) -> None:
    claims = 'C:MotionPhoto="1" C:MicroVideoOffset="224"', "<D:Directory><rdf:Seq/></D:Directory><C:MicroVideo>1</C:MicroVideo>"
    file.write_bytes(saved(grey(WISH), "JPEG", xmp=XMP.format(*claims).encode()) + FILM)

    path, warnings = written(file)

    assert warnings == ["a film, which some phones append to a photograph (motion photo), is left out"]
    with Image.open(path) as image:
        assert image.info["xmp"] == XMP.format("", "").replace('/" >', '/">').encode()


def test_a_gain_map_is_left_out_with_a_warning_and_xmp_says_so(file: Path) -> None:
    xmp = XMP.format('hdrgm:Version="1.0"', "").encode()
    file.write_bytes(saved(grey(WISH), "JPEG", xmp=xmp) + saved(grey(WISH)[::4, ::4], "JPEG"))

    path, warnings = written(file)

    assert warnings == ["a gain map, which shows a JPEG brighter on HDR screens, is left out"]
    assert b"hdrgm:Version" not in path.read_bytes()
    assert b"Grandmother" in path.read_bytes()


def test_what_else_hangs_behind_a_jpeg_is_named_unless_it_is_padding(file: Path) -> None:
    picture = saved(grey(WISH), "JPEG")
    for behind, warnings in (
        (b"", []),
        (bytes(1000) + b"\r\n", []),
        (b"SEFH" + bytes(range(200)), ["data that some cameras append to a JPEG file are left out"]),
        (
            saved(grey(WISH)[::2, ::2], "JPEG"),
            ["a second picture or a preview, which some cameras append to a JPEG file, is left out"],
        ),
    ):
        file.write_bytes(picture + behind)
        assert written(file)[1] == warnings


def test_twenty_jpegs_in_one_file_are_refused_by_number(file: Path) -> None:
    file.write_bytes(b"".join(saved(grey(replace(WISH, seed=seed)), "JPEG") for seed in range(20)))

    with pytest.raises(MediaError, match=r"holds 20 JPEG pictures of the same size, .*; split it into single pictures first"):
        read(file)


def lossless_jpeg(luma: NDArray[np.uint8]) -> bytes:
    """A lossless JPEG file (T.81, annex H): predictor 1, a code of 4 bits for each size of a difference."""
    height, width = luma.shape
    values = luma.astype(int)
    predicted = np.concatenate([np.concatenate([[128], values[:-1, 0]])[:, None], values[:, :-1]], axis=1)
    bits = ""
    for difference in (values - predicted).ravel().tolist():
        size = abs(difference).bit_length()
        bits += f"{size:04b}"
        bits += f"{difference + (0 if difference > 0 else (1 << size) - 1):0{size}b}" if size else ""
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    frame = segment(0xC3, struct.pack(">BHHB3B", 8, height, width, 1, 1, 0x11, 0))
    table = segment(0xC4, bytes([0, 0, 0, 0, 9, *bytes(12)]) + bytes(range(9)))
    return b"\xff\xd8" + frame + table + segment(0xDA, bytes([1, 1, 0, 1, 0, 0])) + data + b"\xff\xd9"


def test_a_lossless_jpeg_is_written(file: Path) -> None:
    luma = grey(WISH)
    file.write_bytes(lossless_jpeg(luma))

    assert_array_equal(read(file).luma, luma)
    path, warnings = written(file)

    assert opened(path).format == "JPEG"
    assert np.abs(read(path).luma.astype(int) - luma).max() <= 2
    assert any("luma" in text for text in warnings)
    assert verified(file, path).differences == []


ENDLESS = {
    "PNG, zeros": b"\x89PNG\r\n\x1a\n",
    "PNG, empty chunks": b"\x89PNG\r\n\x1a\n" + saved(np.zeros((2, 2), np.uint8), "PNG")[8:33],
    "JPEG, zeros": b"\xff\xd8\xff",
    "JPEG, a header, then zeros": saved(np.zeros((8, 8), np.uint8), "JPEG")[:20] + b"\xff\xe5\0\x08abcdef",
    "GIF, zeros": b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0),
    "WebP, zeros": b"RIFF\xff\xff\xff\xffWEBP",
    "WebP, empty chunks": b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0" + bytes(10),
    "TIFF, zeros": b"II*\0\x08\0\0\0",
    "BigTIFF, a tag of all": b"MM\0+\0\x08\0\0" + struct.pack(">QQHHQQ", 16, 1, 700, 1, 2**34, 0) + bytes(8),
    "JPEG 2000, zeros": b"\0\0\0\x0cjP  \r\n\x87\n",
    "BMP, zeros": b"BM" + bytes(12) + b"\x28\0\0\0",
    "PPM, spaces": b"P6 ",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_header_without_end_is_refused_at_once(file: Path, kind: str) -> None:
    with file.open("wb") as stream:  # sparse: it takes no room
        stream.write(ENDLESS[kind])
        stream.truncate(20 * 2**30)

    start = time.process_time()
    with pytest.raises(MediaError, match=r"can't be read|tags of more than"):
        opened(file)
    assert time.process_time() - start < 5


def test_a_list_of_pages_in_a_circle_is_refused(file: Path) -> None:
    data = bytearray(tifffile_bytes(grey(WISH), photometric="minisblack"))
    with tifffile.TiffFile(BytesIO(bytes(data))) as made:
        first = made.pages[0].offset
    count = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    file.write_bytes(data)

    with pytest.raises(MediaError, match="its list of pages has a cycle"):
        opened(file)


def test_a_png_with_a_chunk_that_has_no_name_is_refused(file: Path) -> None:
    plain = saved(grey(WISH), "PNG")
    file.write_bytes(plain[:33] + chunk(b"\0\0\0\0", b"") + plain[33:])

    with pytest.raises(MediaError, match="its chunks are damaged"):
        opened(file)
