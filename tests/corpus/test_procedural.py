"""The procedural world: the same paintings everywhere, artists that differ in their hands."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lorastyle.corpus.procedural import (
    BASE_SEED,
    GENRES,
    PLACES,
    Scene,
    caption_words,
    make_artists,
    make_schools,
    paint,
    sample_scene,
    write_corpus,
)
from lorastyle.errors import CorpusError

SCENE = Scene("boat", "red", 1, "lake", "dusk")


def painted(artist, scene=SCENE, seed=3, size=64):
    return paint(artist, scene, np.random.default_rng(seed), size)


def test_an_artist_does_not_depend_on_how_many_are_asked_for():
    assert make_artists(14, 7)[:9] == make_artists(9, 7)


def test_a_painting_is_a_function_of_artist_scene_and_draw():
    artist, again = make_artists(3, 7)[2], make_artists(3, 7)[2]
    assert np.array_equal(painted(artist), painted(again))
    assert not np.array_equal(painted(artist), painted(artist, seed=4))


@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_painting_has_the_asked_size_and_a_full_range(size):
    image = painted(make_artists(1, 7)[0], size=size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert np.ptp(image) > 80


def test_artists_of_two_seeds_share_no_name_and_no_style():
    base, other = make_artists(96, BASE_SEED), make_artists(96, BASE_SEED + 1)
    assert not {a.name for a in base} & {a.name for a in other}
    nameless = [replace(a, name="", master=None) for a in base + other]
    assert len(set(nameless)) == len(nameless)


def test_names_are_one_to_one_with_seed_and_number():
    seeds = [0, 1, 2, 7, 2**24 - 1]
    names = [a.name for seed in seeds for a in make_artists(200, seed)]
    assert len(set(names)) == len(names)


def test_genres_alternate_and_apprentices_have_a_master_of_their_genre():
    artists = make_artists(40, 7)
    by_name = {a.name: a for a in artists}
    assert {a.genre for a in artists[: len(GENRES)]} == set(GENRES)
    pupils = [a for a in artists if a.master]
    assert len(pupils) >= 5
    assert all(by_name[a.master].genre == a.genre for a in pupils)
    assert all(by_name[a.master].master is None for a in pupils)


def test_schools_share_a_genre_and_most_of_a_hand_and_compose_differently():
    schools = make_schools(12, 7)
    assert make_schools(5, 7) == schools[:5]
    assert len({a.name for a in schools}) == 12
    for number, follower in enumerate(schools[4:], start=4):
        founder = schools[number % 4]
        assert (follower.genre, follower.field) == (founder.genre, founder.field)
        assert follower.master in (None, founder.name)
        assert follower.zoom != founder.zoom


def test_schools_of_two_seeds_share_no_name_with_each_other_or_the_base():
    names = [a.name for seed in (7, 8) for a in make_schools(20, seed)]
    names += [a.name for a in make_artists(96, BASE_SEED)]
    assert len(set(names)) == len(names)


def test_an_apprentice_paints_more_like_the_master_than_colleagues_do():
    artists = make_artists(40, 7)
    by_name = {a.name: a for a in artists}

    def distance(a, b):
        numbers = ("stroke_length", "stroke_width", "outline", "coverage", "zoom", "horizon")
        return sum(abs(getattr(a, k) - getattr(b, k)) / (getattr(a, k) + 0.1) for k in numbers)

    closer = [
        distance(by_name[a.master], a) < distance(by_name[a.master], b)
        for a in artists
        if a.master
        for b in artists
        if b.genre == a.genre and b.name not in (a.name, a.master) and not b.master
    ]
    assert np.mean(closer) > 0.9


def test_captions_name_the_scene_and_nothing_of_the_hand():
    rng = np.random.default_rng(0)
    vocabulary = set(caption_words())
    artists = make_artists(20, 7)
    forbidden = {w for a in artists for w in (a.name, a.genre, a.field, a.surface)} | set(GENRES)
    captions = {sample_scene(rng).caption for _ in range(800)}
    words = {word for caption in captions for word in caption.split()}
    assert words <= vocabulary
    assert not vocabulary & forbidden
    assert not vocabulary & {"style", "stroke", "painting", "painted", "artist", "brush"}
    assert SCENE.caption == "a red boat on a calm lake at dusk"


def test_every_scene_can_be_painted():
    artist = make_artists(2, 7)[1]
    for subject, places in PLACES.items():
        for place in places:
            for light in ("noon", "night", "fog"):
                image = painted(artist, Scene(subject, "red", 1, place, light), size=32)
                assert image.std() > 5


def test_one_scene_by_two_hands_differs_more_than_twice_by_one():
    artists = [a for a in make_artists(10, 7) if not a.master]
    means = np.stack(
        [np.mean([painted(a, seed=s, size=32).astype(float) for s in range(6)], 0) for a in artists]
    )
    within = np.stack(
        [np.mean([painted(a, seed=s, size=32).astype(float) for s in range(6, 12)], 0)
         for a in artists]
    )  # fmt: skip
    distance = np.abs(means[:, None] - within[None]).mean((2, 3, 4))
    same = np.diag(distance)
    assert same.mean() < 0.6 * distance[~np.eye(len(artists), dtype=bool)].mean()


def test_a_corpus_is_written_once_and_its_index_says_what_is_there(tmp_path):
    index = write_corpus(tmp_path, 3, 4, 32, 7)
    with index.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    assert list(rows[0]) == ["file", "artist", "genre", "caption"]
    assert rows[0]["file"] == f"{rows[0]['artist']}/000.png"
    with Image.open(tmp_path / rows[5]["file"]) as image:
        assert image.size == (32, 32)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert write_corpus(tmp_path, 3, 4, 32, 7) == index
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_larger_corpus_contains_the_smaller(tmp_path):
    write_corpus(tmp_path / "small", 2, 2, 32, 7)
    write_corpus(tmp_path / "large", 3, 3, 32, 7)
    for file in (tmp_path / "small").rglob("*.png"):
        twin = tmp_path / "large" / file.relative_to(tmp_path / "small")
        assert file.read_bytes() == twin.read_bytes()


def test_an_interrupted_corpus_is_completed(tmp_path):
    index = write_corpus(tmp_path, 2, 2, 32, 7)
    text = index.read_text()
    index.unlink()
    next(tmp_path.rglob("*.png")).unlink()
    write_corpus(tmp_path, 2, 2, 32, 7)
    assert index.read_text() == text
    assert len(list(tmp_path.rglob("*.png"))) == 4


@pytest.mark.parametrize("other", [(3, 2, 32, 7), (2, 2, 32, 8), (2, 2, 48, 7)])
def test_another_corpus_is_not_overwritten(tmp_path, other):
    write_corpus(tmp_path, 2, 2, 32, 7)
    with pytest.raises(CorpusError, match="holds another corpus"):
        write_corpus(tmp_path, *other)


@pytest.mark.parametrize(("n_artists", "seed"), [(0, 1), (1025, 1), (2, -1), (2, 2**24)])
def test_impossible_requests_are_refused_with_their_bounds(n_artists, seed):
    with pytest.raises(CorpusError, match="must be in"):
        make_artists(n_artists, seed)
