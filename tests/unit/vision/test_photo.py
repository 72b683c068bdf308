"""Promises of `open_photo`: whatever the bytes, an upright picture or a clear error, cheaply."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from services.common.vision.photo import Photo, PhotoError, check_photo, open_photo, sniff
from tests.unit.vision import pictures
from tests.unit.vision.pictures import Pixels, encoded, quarters, smooth

# Exif 2.32, tag 274: which side of the scene the first stored row and the first stored column show.
FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def stored(upright: Pixels, orientation: int) -> Pixels:
    """The scene as a camera with this orientation stores it, built from the standard's own words."""
    row, column = FIRST_ROW_AND_COLUMN[orientation]
    scene = upright if row in ("top", "bottom") else upright.transpose(1, 0, 2)
    scene = scene[::-1] if row in ("bottom", "right") else scene
    return np.ascontiguousarray(scene[:, ::-1] if column in ("bottom", "right") else scene)


def assert_close(actual: Pixels, expected: Pixels, tolerance: int = 12) -> None:
    """Equal but for compression, away from the edges between the quarters."""
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected.astype(int)).mean() < tolerance


def code(data: bytes, **options: int) -> str:
    with pytest.raises(PhotoError) as caught:
        open_photo(data, **options)
    assert str(caught.value).endswith(".")
    if caught.value.code != "photo-undecodable":  # the header alone tells
        with pytest.raises(PhotoError, match=re.escape(str(caught.value))):
            check_photo(data, **{name: value for name, value in options.items() if name == "max_pixels"})
    return caught.value.code


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    data = encoded(stored(quarters(), orientation), kind, exif=pictures.exif(**{"274": orientation}))
    photo = open_photo(data)
    assert_close(photo.pixels, quarters())
    assert (photo.width, photo.height) == (96, 64)
    assert photo.exif["Orientation"] == str(orientation)


def test_a_turned_heic_is_turned_once() -> None:
    photo = open_photo(pictures.TURNED_HEIC)
    assert_close(photo.pixels, np.ascontiguousarray(np.rot90(quarters(), -1)))
    assert (photo.format, photo.width, photo.height) == ("heic", 64, 96)
    assert photo.exif["Make"] == "Toy"


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp")])
def test_a_photo_knows_its_bytes_its_format_and_its_original_size(kind: str, name: str) -> None:
    data = encoded(smooth(900, 1200), kind)
    photo = open_photo(data, max_side=300)
    assert photo.sha256 == hashlib.sha256(data).hexdigest()
    assert (photo.format, photo.width, photo.height) == (name, 1200, 900)
    assert photo.pixels.dtype == np.uint8 and photo.pixels.flags.c_contiguous and photo.pixels.flags.writeable


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    max_side=st.integers(16, 400),
    kind=st.sampled_from(["JPEG", "PNG"]),
)
@settings(max_examples=60, deadline=None)
def test_the_longer_side_fits_and_the_aspect_stays(width: int, height: int, max_side: int, kind: str) -> None:
    pixels = open_photo(encoded(smooth(height, width), kind), max_side=max_side).pixels
    longer = max(width, height)
    assert max(pixels.shape[:2]) <= max_side
    assert max(pixels.shape[:2]) >= min(longer, 0.9 * max_side - 1)
    share = max(pixels.shape[:2]) / longer
    assert abs(pixels.shape[0] - height * share) <= 1 and abs(pixels.shape[1] - width * share) <= 1


def test_a_scaled_decode_shows_the_same_picture_as_a_full_one() -> None:
    picture = smooth(1500, 2000)
    scaled = open_photo(encoded(picture, "JPEG", quality=95), max_side=500).pixels
    whole = np.asarray(Image.fromarray(picture).resize(scaled.shape[1::-1], Image.Resampling.BOX))
    assert_close(scaled, whole, tolerance=3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (20_000, 1), (3, 9_000)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_extreme_shapes_keep_at_least_one_pixel(shape: tuple[int, int], kind: str) -> None:
    if kind == "WEBP" and max(shape) > 16_383:
        pytest.skip("WebP ends at 16,383 pixels")
    photo = open_photo(encoded(np.full((*shape, 3), 90, np.uint8), kind))
    assert min(photo.pixels.shape[:2]) >= 1 and max(photo.pixels.shape[:2]) <= 2048
    assert (photo.height, photo.width) == shape


# -- what is refused -------------------------------------------------------------------------------------------------


def test_no_bytes_are_an_empty_photo() -> None:
    assert code(b"") == "photo-empty"


@pytest.mark.parametrize(
    "data",
    [
        encoded(quarters(), "GIF"),
        encoded(quarters(), "TIFF"),
        encoded(quarters(), "BMP"),
        encoded(quarters(), "PPM"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7 " + encoded(quarters(), "JPEG"),
        b"GIF89a" + encoded(quarters(), "PNG"),
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miafheic",
        b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf",
        b"\0\0\0\x18ftypmp42\0\0\0\0isommp42heic",
        b"RIFF\0\0\0\0WAVE",
        b"8BPS\0\1",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"\x80\x04\x95",
        b"x",
    ],
)
def test_only_the_four_formats_are_read_and_the_magic_bytes_decide(data: bytes) -> None:
    assert sniff(data) is None
    assert code(data) == "unsupported-media-type"


def test_a_photo_with_an_archive_behind_it_is_only_a_photo() -> None:
    photo = encoded(quarters(), "JPEG")
    assert_close(open_photo(photo + b"PK\x03\x04" + bytes(1000)).pixels, quarters())


def test_magic_bytes_alone_are_no_photo() -> None:
    for head in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"):
        assert code(head) == "photo-undecodable"
        assert code(head + encoded(quarters(), "GIF")) == "photo-undecodable"


def test_a_169_megapixel_png_of_20_kb_is_refused_without_decoding_it() -> None:
    data = pictures.bomb()
    assert len(data) < 25_000
    assert code(data) == "photo-too-many-pixels"
    # in a process of its own, because only there the high-water mark of memory says anything
    program = """
import resource, sys
from services.common.vision.photo import PhotoError, open_photo
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_photo(data)
except PhotoError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = subprocess.run([sys.executable, "-W", "ignore", "-c", program], input=data, capture_output=True, check=True)
    assert int(grown.stdout) < 20_000  # KB; decoded it takes 169,000 and more


def test_the_pixel_cap_holds_for_every_format() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(quarters(64, 96), kind)
        assert code(data, max_pixels=64 * 96 - 1) == "photo-too-many-pixels"
        assert isinstance(open_photo(data, max_pixels=64 * 96), Photo)
    assert code(pictures.TURNED_HEIC, max_pixels=1000) == "photo-too-many-pixels"
    assert code(pictures.HUGE_WEBP) == "photo-too-many-pixels"


def test_the_size_that_counts_is_the_decoders_own() -> None:
    data = encoded(quarters(), "JPEG")
    frame = data.index(b"\xff\xc0")
    large = data[: frame + 5] + (60_000).to_bytes(2, "big") * 2 + data[frame + 9 :]
    assert code(large) == "photo-too-many-pixels"
    twice = data[:frame] + data[frame : frame + 19] + large[frame:]  # a small frame header in front of the large one
    assert code(twice) in ("photo-too-many-pixels", "photo-undecodable")


def test_a_heic_that_lies_about_its_size_is_an_error() -> None:
    honest = (96).to_bytes(4, "big") + (64).to_bytes(4, "big")
    assert honest in pictures.TURNED_HEIC
    for width, height in ((9600, 6400), (8, 8)):
        lie = pictures.TURNED_HEIC.replace(honest, width.to_bytes(4, "big") + height.to_bytes(4, "big"))
        assert code(lie) in ("photo-too-many-pixels", "photo-undecodable")


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "WEBP", "HEIC"])
def test_a_truncated_photo_is_an_error_and_not_grey(kind: str, kept: float) -> None:
    picture = smooth(300, 400)
    if kind == "HEIC":
        data = pictures.TURNED_HEIC
    else:
        data = encoded(picture, "JPEG", progressive=True) if kind == "progressive" else encoded(picture, kind)
    assert code(data[: int(len(data) * kept)]) == "photo-undecodable"


def test_a_truncated_jpeg_with_a_proper_end_is_still_an_error() -> None:
    data = encoded(smooth(300, 400), "JPEG")
    assert code(data[: len(data) // 2] + b"\xff\xd9") == "photo-undecodable"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pictures.many_scans(1_000), "scans"),
        (pictures.quarters_jpeg(comments=20_000), "segments"),
    ],
)
def test_a_jpeg_that_would_keep_a_core_busy_is_refused_before_decoding(data: bytes, reason: str) -> None:
    with pytest.raises(PhotoError) as caught:
        open_photo(data)
    assert caught.value.code == "photo-undecodable"
    assert reason in str(caught.value.__cause__)


def test_a_video_behind_the_photo_counts_as_no_scan() -> None:
    data = encoded(quarters(), "JPEG") + b"\xff\xda\0\2" * 10_000  # as a motion photo may look
    assert isinstance(open_photo(data), Photo)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the EXIF
@given(data=st.data(), kind=st.sampled_from(["jpeg", "progressive", "png", "webp"]))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_photo_is_a_photo_or_a_photo_error(data: st.DataObject, kind: str) -> None:
    assert_photo_or_error(data, _WHOLE[kind])


@given(data=st.data())
@settings(max_examples=10, deadline=None)  # each starts a process
def test_a_damaged_heic_is_a_photo_or_a_photo_error(data: st.DataObject) -> None:
    assert_photo_or_error(data, pictures.TURNED_HEIC)


def assert_photo_or_error(data: st.DataObject, whole: bytes) -> None:
    broken = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=6)):
        broken[at] = data.draw(st.integers(0, 255))
    try:
        photo = open_photo(bytes(broken), max_pixels=1_000_000)
    except PhotoError as error:
        assert error.code != "photo-empty"
    else:
        assert photo.pixels.ndim == 3 and photo.pixels.dtype == np.uint8


def test_a_heic_that_crashes_its_decoder_costs_the_photo_and_not_the_process() -> None:
    deadly = pictures.TURNED_HEIC.replace(b"Exif\0\0\0\0\x0epitm", b"E\xc7if\0\0\0\0\x0epitm")
    assert deadly != pictures.TURNED_HEIC
    check_photo(deadly)  # the header is read without the decoder
    assert code(deadly) == "photo-undecodable"


_WHOLE = {
    "jpeg": encoded(quarters(), "JPEG", exif=pictures.exif(**{"274": 6, "271": "Toy"})),
    "progressive": encoded(quarters(), "JPEG", progressive=True),
    "png": encoded(quarters(), "PNG", exif=pictures.exif(**{"274": 6})),
    "webp": encoded(quarters(), "WEBP", exif=pictures.exif(**{"274": 6})),
}


# -- what is read although it is odd ---------------------------------------------------------------------------------


def test_stray_bytes_before_the_end_cost_nothing() -> None:
    data = encoded(quarters(), "JPEG")
    assert_close(open_photo(data[:-2] + b"\x12\x34\x56" + data[-2:]).pixels, quarters())


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_jpegs_for_print_and_in_grey_have_the_right_colours(mode: str) -> None:
    image = Image.fromarray(smooth(64, 96)).convert(mode)
    assert_close(open_photo(encoded(image, "JPEG", quality=95)).pixels, np.asarray(image.convert("RGB")), tolerance=4)


@pytest.mark.parametrize("value", [0, 0x1234, 0x80FF, 0xFFFF])
def test_sixteen_bits_keep_their_brightness(value: int) -> None:
    assert (open_photo(pictures.deep_png(value)).pixels == value >> 8).all()
    grey = Image.fromarray(np.full((6, 8), value, np.uint16))
    assert (open_photo(encoded(grey, "PNG")).pixels == value >> 8).all()


def test_transparency_is_laid_on_white() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 4, 8))
    grey = Image.new("LA", (8, 8), (0, 0))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 255, 255, 0, 0])
    for data in (encoded(half, "PNG"), encoded(half, "WEBP", lossless=True)):
        pixels = open_photo(data).pixels
        assert (pixels[:, :4] == (0, 0, 255)).all() and (pixels[:, 4:] == 255).all()
    assert (open_photo(encoded(grey, "PNG")).pixels == 255).all()
    assert (open_photo(encoded(palette, "PNG", transparency=1)).pixels == 255).all()
    assert (open_photo(encoded(palette, "PNG")).pixels == (255, 0, 0)).all()
    assert (open_photo(encoded(Image.new("1", (8, 8), 1), "PNG")).pixels == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_looked_at(kind: str) -> None:
    later = [Image.new("RGB", (96, 64), colour) for colour in ("green", "yellow")]
    data = encoded(quarters(), kind, save_all=True, append_images=later)
    assert_close(open_photo(data).pixels, quarters())


def test_huge_metadata_is_harmless() -> None:
    profile = np.random.default_rng(0).bytes(500_000)
    note = pictures.exif(**{"271": "Toy" * 10_000, "274": 3})
    for kind in ("JPEG", "PNG", "WEBP"):
        photo = open_photo(encoded(stored(quarters(), 3), kind, icc_profile=profile, exif=note))
        assert_close(photo.pixels, quarters())
        assert len(photo.exif["Make"]) <= 100


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the EXIF
def test_broken_exif_costs_the_tags_and_not_the_photo() -> None:
    for block in (
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0" + b"MM\0*\0\0\0\x08\xff\xff" + bytes(30),
    ):
        photo = open_photo(encoded(quarters(), "JPEG", exif=block))
        assert_close(photo.pixels, quarters())


@pytest.mark.parametrize("orientation", [0, 9, 12, 65_535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    photo = open_photo(encoded(quarters(), "JPEG", exif=pictures.exif(**{"274": orientation})))
    assert_close(photo.pixels, quarters())
    assert "Orientation" not in photo.exif


def test_the_kept_exif_names_the_camera_and_no_place() -> None:
    block = Image.Exif()
    block[271], block[272], block[305] = "Toy\0 Cameras\n", "T-1", "Painter 3"
    block[315] = "A. Person"
    block.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    block.get_ifd(pictures.GPS_IFD)[2] = (52.0, 31.0, 12.0)
    photo = open_photo(encoded(quarters(), "JPEG", exif=block.tobytes()))
    assert photo.exif == {
        "Make": "Toy Cameras",
        "Model": "T-1",
        "Software": "Painter 3",
        "DateTimeOriginal": "2024:05:06 07:08:09",
    }


def test_other_plugins_of_the_process_open_no_door() -> None:
    Image.init()  # registers everything Pillow knows
    assert Image.open(io.BytesIO(encoded(quarters(), "TIFF"))).format == "TIFF"
    assert code(encoded(quarters(), "TIFF")) == "unsupported-media-type"
