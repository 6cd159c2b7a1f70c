"""A picture is what a viewer shows: turned, on white, in 8 bits, and nothing else."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lorastyle import pictures
from lorastyle.errors import CorpusError
from lorastyle.pictures import on_white, read_picture

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 4), dtype=np.uint8)
RGB = Image.fromarray(np.ascontiguousarray(NOISE[..., :3]))


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def tiff_header(*entries: bytes) -> bytes:
    """An Exif block of one directory with these 12-byte entries."""
    return (
        b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(entries) + b"\0" * 4
    )


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "tiff"])
def test_an_image_is_turned_as_pillow_turns_it(tmp_path: Path, value: int, suffix: str) -> None:
    path = tmp_path / f"turned.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    RGB.save(path, exif=orientation(value), **lossless)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(np.asarray(read_picture(path)), expected)
    assert expected.shape[:2] == ((24, 40) if value < 5 else (40, 24))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0no header at all",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        tiff_header()[:-6],
        tiff_header(struct.pack(">HHIHxx", 0x0112, 3, 1, 9)),
        tiff_header(struct.pack(">HHI4s", 0x0112, 2, 2, b"a\0\0\0")),
        tiff_header(struct.pack(">HHII", 0x0112, 5, 1, 0xFFFFFF)),
    ],
    ids=["garbage", "pointer to nowhere", "cut short", "orientation 9", "text", "rational nowhere"],
)
def test_an_orientation_that_cannot_be_read_leaves_the_picture_as_it_is(
    tmp_path: Path, exif: bytes
) -> None:
    RGB.save(tmp_path / "broken.jpg", exif=exif)
    RGB.save(tmp_path / "plain.jpg")
    expected = np.asarray(read_picture(tmp_path / "plain.jpg"))
    assert np.array_equal(np.asarray(read_picture(tmp_path / "broken.jpg")), expected)


def test_another_tag_that_is_broken_does_not_keep_an_orientation_from_being_followed(
    tmp_path: Path,
) -> None:
    turned = struct.pack(">HHIHxx", 0x0112, 3, 1, 6)
    number_for_text = struct.pack(">HHIf", 0x0110, 11, 1, 1.0)
    path = tmp_path / "broken.png"
    RGB.save(path, exif=tiff_header(number_for_text, turned))
    with Image.open(path) as image, pytest.raises(AttributeError, match="encode"):
        ImageOps.exif_transpose(image)
    assert np.array_equal(np.asarray(read_picture(path)), np.rot90(NOISE[..., :3], -1))


def test_transparency_shows_white_by_the_share_that_alpha_leaves() -> None:
    alpha = NOISE[..., 3:].astype(np.float64) / 255
    expected = np.rint(alpha * NOISE[..., :3] + (1 - alpha) * 255)
    assert np.array_equal(np.asarray(on_white(Image.fromarray(NOISE))), expected)


def test_grey_palette_and_colour_key_transparency_show_white(tmp_path: Path) -> None:
    black = np.zeros((2, 2), np.uint8)
    Image.merge("LA", [Image.fromarray(black), Image.fromarray(black)]).save(tmp_path / "grey.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "key.png", transparency=(0, 0, 0))
    Image.new("P", (2, 2)).save(tmp_path / "palette.png", transparency=bytes([0]))
    for name in ("grey", "key", "palette"):
        assert np.asarray(read_picture(tmp_path / f"{name}.png")).min() == 255, name


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    opaque = RGB.copy()
    opaque.putalpha(255)
    assert np.array_equal(np.asarray(on_white(opaque)), NOISE[..., :3])


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 255, 256, 1_000, 30_000, 65_535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    seen = np.asarray(read_picture(tmp_path / f"deep.{suffix}"))
    assert seen[0].tolist() == [[value // 256] * 3 for value in deep[0].tolist()]


def test_cmyk_is_read_as_pillow_converts_it(tmp_path: Path) -> None:
    RGB.convert("CMYK").save(tmp_path / "print.tiff")
    expected = np.asarray(RGB.convert("CMYK").convert("RGB"))
    assert np.array_equal(np.asarray(read_picture(tmp_path / "print.tiff")), expected)


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_of_an_animation_the_first_frame_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moves.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames = [Image.new("RGB", RGB.size, colour) for colour in ("red", "blue")]
    RGB.save(path, save_all=True, append_images=frames, **lossless)
    assert np.array_equal(np.asarray(read_picture(path)), NOISE[..., :3])


def test_what_is_not_read_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "deep.tiff")
    with pytest.raises(CorpusError, match=r"deep\.tiff': it has 32 bits a pixel"):
        read_picture(tmp_path / "deep.tiff")
    RGB.save(tmp_path / "moving.gif")
    with pytest.raises(CorpusError, match=r"moving\.gif': cannot identify"):
        read_picture(tmp_path / "moving.gif")
    RGB.save(tmp_path / "large.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 24 * 40 - 1)
    with pytest.raises(CorpusError, match=r"40 x 24 is over 959 pixels"):
        read_picture(tmp_path / "large.png")
