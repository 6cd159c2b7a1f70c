"""A folder from a stranger: what is read, what is left out, what is refused."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorastyle.corpus import works as works_module
from lorastyle.corpus.folder import folder_digest, read_folder
from lorastyle.errors import CorpusError


def reasons(left_out):
    return {item.file: item.reason for item in left_out}


def test_every_image_in_an_artists_folder_is_a_work(make_folder):
    works, left_out = read_folder(make_folder({"monet": 3, "degas": 2}))
    assert [work.image_id for work in works] == [
        "degas/000.png",
        "degas/001.png",
        "monet/000.png",
        "monet/001.png",
        "monet/002.png",
    ]
    assert {(work.width, work.height, work.genre) for work in works} == {(16, 16, "unknown")}
    assert [work.path for work in works] == [work.image_id for work in works]
    assert left_out == []


def test_an_index_tells_genre_caption_and_artist(make_folder):
    root = make_folder({"a": 2})
    (root / "index.csv").write_text(
        "file,artist,genre,caption\na/000.png,Claude Monet,impressionism,a pond\na/001.png,,,\n"
    )
    first, second = read_folder(root)[0]
    assert (first.artist, first.genre, first.caption) == ("Claude Monet", "impressionism", "a pond")
    assert (second.artist, second.genre, second.caption) == ("a", "unknown", "")


def test_a_side_car_text_is_the_caption_of_an_image_that_has_none(make_folder):
    root = make_folder({"a": 2})
    (root / "a" / "000.txt").write_text("a red\n  house\n")
    (root / "a" / "001.txt").write_text("ignored")
    (root / "index.csv").write_text("file,caption\na/000.png,\na/001.png,a blue house\n")
    assert [work.caption for work in read_folder(root)[0]] == ["a red house", "a blue house"]


def test_a_caption_file_is_the_second_choice_and_no_stray_file(make_folder):
    root = make_folder({"a": 3})
    (root / "a" / "000.caption").write_text("a green\ndoor")
    (root / "a" / "001.caption").write_text("ignored")
    (root / "a" / "001.txt").write_text("a wall")
    (root / "a" / "002.caption").write_text("a roof")
    (root / "a" / "002.txt").write_text(" \n")
    works, left_out = read_folder(root)
    assert [work.caption for work in works] == ["a green door", "a wall", "a roof"]
    assert left_out == []


def test_images_missing_from_the_index_or_from_the_folder_are_named(make_folder):
    root = make_folder({"a": 2})
    (root / "index.csv").write_text("file\na/000.png\na/gone.png\na/000.png\n")
    works, left_out = read_folder(root)
    assert [work.image_id for work in works] == ["a/000.png"]
    assert reasons(left_out) == {
        "a/000.png": "listed again in index.csv, line 4",
        "a/001.png": "not listed in index.csv",
        "a/gone.png": "there is no such file",
    }


def test_other_formats_and_images_without_an_artist_are_named(make_folder, paint):
    root = make_folder({"a": 1})
    (root / "a" / "clip.gif").write_bytes(b"GIF89a")
    (root / "a" / ".hidden.png").write_bytes(b"")
    (root / "README.md").write_text("about")
    paint(root / "stray.png", 5)
    assert sorted(reasons(read_folder(root)[1])) == ["a/clip.gif", "stray.png"]


@pytest.mark.parametrize("keep", [0, 10, 60, 200])
def test_truncated_and_empty_images_are_left_out_and_named(make_folder, keep):
    root = make_folder({"a": 2})
    bad = root / "a" / "001.png"
    bad.write_bytes(bad.read_bytes()[:keep])
    works, left_out = read_folder(root)
    assert [work.image_id for work in works] == ["a/000.png"]
    assert reasons(left_out)["a/001.png"].startswith("cannot be decoded")


def test_a_truncated_jpeg_is_left_out_although_its_header_is_whole(make_folder):
    root = make_folder({"a": 1})
    bad = root / "a" / "bad.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(bad, quality=95)
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    assert "a/bad.jpg" in reasons(read_folder(root)[1])


def test_a_page_of_text_named_png_is_left_out(make_folder):
    root = make_folder({"a": 1})
    (root / "a" / "page.png").write_text("<html>404</html>")
    assert reasons(read_folder(root)[1])["a/page.png"].startswith("cannot be decoded")


@pytest.mark.parametrize("side", [9_500, 200_000])
def test_an_image_that_claims_a_huge_size_is_never_decoded(make_folder, side):
    root = make_folder({"a": 1})
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)))
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (root / "a" / "bomb.png").write_bytes(bomb)
    assert "pixels" in reasons(read_folder(root)[1])["a/bomb.png"]


def test_an_image_over_the_pixel_limit_is_left_out(make_folder, paint, monkeypatch):
    root = make_folder({"a": 1})
    paint(root / "a" / "wide.png", 1, size=(40, 16))
    monkeypatch.setattr(works_module, "MAX_PIXELS", 16 * 16)
    assert reasons(read_folder(root)[1]) == {"a/wide.png": "40 x 16 is over 256 pixels"}


def test_too_small_images_are_left_out_by_their_shorter_side(make_folder, paint):
    root = make_folder({"a": 1})
    paint(root / "a" / "thin.png", 1, size=(200, 15))
    works, left_out = read_folder(root, min_side=16)
    assert len(works) == 1
    assert reasons(left_out) == {"a/thin.png": "200 x 15 is below 16 a side"}


def test_of_an_artists_equal_pictures_one_is_kept_whatever_its_format(make_folder):
    root = make_folder({"a": 2})
    with Image.open(root / "a" / "000.png") as image:
        image.save(root / "a" / "copy.bmp")
    works, left_out = read_folder(root)
    assert [work.image_id for work in works] == ["a/000.png", "a/001.png"]
    assert reasons(left_out) == {"a/copy.bmp": "the same picture as a/000.png"}


def test_a_picture_that_two_artists_share_is_left_out_of_both(make_folder):
    root = make_folder({"a": 2, "b": 2})
    (root / "b" / "001.png").write_bytes((root / "a" / "000.png").read_bytes())
    works, left_out = read_folder(root)
    assert [work.image_id for work in works] == ["a/001.png", "b/000.png"]
    assert reasons(left_out) == {
        "a/000.png": "the same picture as b/001.png, by another artist",
        "b/001.png": "the same picture as a/000.png, by another artist",
    }


def test_deep_images_that_differ_above_eight_bits_are_not_duplicates(tmp_path):
    (tmp_path / "a").mkdir()
    for value in (1_000, 2_000):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / "a" / f"{value}.png")
    assert len(read_folder(tmp_path)[0]) == 2


def test_palette_grey_and_transparent_images_are_read(tmp_path):
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture.quantize(8).save(tmp_path / "a" / "palette.png", transparency=bytes([0, 128, 255]))
    picture.convert("L").save(tmp_path / "a" / "grey.png")
    picture.save(tmp_path / "a" / "transparent.png")
    assert len(read_folder(tmp_path)[0]) == 3


def hash_by_hand(mode, pixels):
    """Of (height, width, ...) pixels, as documented."""
    height, width = pixels.shape[:2]
    return hashlib.sha256(f"{mode} {width} x {height}:".encode() + pixels.tobytes()).hexdigest()


def test_the_hash_is_of_the_picture_as_it_is_seen(tmp_path):
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise).save(tmp_path / "a" / "plain.png")
    Image.fromarray(noise[::-1].copy()).save(tmp_path / "a" / "turned.png", exif=turned)
    hidden = Image.fromarray(noise[:, ::-1].copy())
    hidden.putalpha(0)
    hidden.save(tmp_path / "a" / "unseen.png")
    deep = noise[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "a" / "very deep.png")
    expected = {
        "a/plain.png": ("RGB", noise),
        "a/turned.png": ("RGB", np.rot90(noise[::-1], -1)),
        "a/unseen.png": ("RGB", np.full_like(noise, 255)),
        "a/very deep.png": ("I;16", deep),
    }
    works, _ = read_folder(tmp_path)
    assert {work.path: work.content_hash for work in works} == {
        path: hash_by_hand(mode, pixels) for path, (mode, pixels) in expected.items()
    }
    assert [(work.width, work.height) for work in works] == [(12, 8), (8, 12), (12, 8), (12, 8)]


def test_a_picture_and_its_copy_turned_by_metadata_alone_are_the_same(tmp_path):
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 8
    Image.fromarray(np.rot90(noise).copy()).save(tmp_path / "a" / "one.png")
    Image.fromarray(noise).save(tmp_path / "a" / "two.png", exif=turned)
    assert reasons(read_folder(tmp_path)[1]) == {"a/two.png": "the same picture as a/one.png"}


def test_metadata_that_cannot_be_read_costs_no_picture_and_no_warning(tmp_path):
    (tmp_path / "a").mkdir()
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f"
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "x.jpg", exif=exif)
    assert len(read_folder(tmp_path)[0]) == 1


def test_pixels_of_unknown_range_are_left_out_and_named(make_folder):
    root = make_folder({"a": 1})
    Image.fromarray(np.ones((16, 16), np.float32)).save(root / "a" / "deep.tiff")
    assert "it has 32 bits a pixel" in reasons(read_folder(root)[1])["a/deep.tiff"]


@pytest.mark.parametrize("file", ["../secret.png", "/etc/passwd", "a/../../secret.png", "", "a\0b"])
def test_an_index_that_leads_outside_the_folder_is_refused(make_folder, file):
    root = make_folder({"a": 1})
    (root / "index.csv").write_text(f"file\na/000.png\n{file},\n")
    with pytest.raises(CorpusError, match=r"index\.csv, line 3: .* is not a path inside"):
        read_folder(root)


def test_links_that_lead_outside_the_folder_are_not_followed(make_folder, paint, tmp_path):
    root = make_folder({"a": 1})
    paint(tmp_path / "elsewhere" / "x.png", 9)
    (tmp_path / "secret.txt").write_text("a password")
    (root / "a" / "link.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "000.txt").symlink_to(tmp_path / "secret.txt")
    works, left_out = read_folder(root)
    assert [(work.image_id, work.caption) for work in works] == [("a/000.png", "")]
    assert reasons(left_out) == {
        "a/link.png": "leads outside the folder",
        "b": "a link to a folder or to nothing; it is not followed",
    }


@pytest.mark.parametrize("artist", ["x/y", "x\\y", "bell\x07"])
def test_an_artist_whose_name_could_not_be_part_of_a_file_name_is_refused(make_folder, artist):
    root = make_folder({"a": 1})
    (root / "index.csv").write_text(f"file,artist\na/000.png,{artist}\n")
    with pytest.raises(CorpusError, match="holds a slash or a control character"):
        read_folder(root)


@pytest.mark.parametrize("text", ["", "name\na/000.png\n", "file\n"])
def test_an_index_without_a_column_file_is_refused(make_folder, text):
    root = make_folder({"a": 1})
    (root / "index.csv").write_text(text)
    with pytest.raises(CorpusError, match="needs a column 'file'"):
        read_folder(root)


def test_an_index_that_is_not_text_is_refused(make_folder):
    root = make_folder({"a": 1})
    (root / "index.csv").write_bytes(b"file\n\xff\xfe\x00")
    with pytest.raises(CorpusError, match="is not a CSV in UTF-8"):
        read_folder(root)


def test_a_missing_index_is_named(make_folder, tmp_path):
    with pytest.raises(CorpusError, match=r"cannot read .*none\.csv: No such file"):
        read_folder(make_folder({"a": 1}), tmp_path / "none.csv")


def test_a_missing_folder_and_an_empty_one_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="there is no folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(CorpusError, match="no usable image among 0 files"):
        read_folder(tmp_path)


def test_a_folder_of_nothing_but_bad_images_names_the_first(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"among 1 files; first: a/x\.png: cannot be decoded"):
        read_folder(tmp_path)


def test_the_digest_of_a_folder_follows_names_texts_and_index(make_folder, paint):
    root = make_folder({"a": 2})
    seen = [folder_digest(root)]
    (root / "a" / "000.txt").write_text("a pond")
    seen.append(folder_digest(root))
    (root / "a" / "000.txt").write_text("a bond")
    seen.append(folder_digest(root))
    (root / "a" / "001.caption").write_text("a wand")
    seen.append(folder_digest(root))
    (root / "a" / "001.caption").write_text("a band")
    seen.append(folder_digest(root))
    (root / "index.csv").write_text("file\na/000.png\n")
    seen.append(folder_digest(root))
    paint(root / "a" / "new.png", 77)
    seen.append(folder_digest(root))
    assert len(set(seen)) == len(seen)
    assert folder_digest(root) == seen[-1]


def test_the_digest_of_a_folder_is_that_of_its_copy(make_folder, tmp_path: Path):
    one = make_folder({"a": 2})
    other = make_folder({"a": 2}, name="copy")
    assert folder_digest(one) == folder_digest(other)
