"""Synthetic stores are real stores, the same each time, with artists to be found."""

import numpy as np
import pytest

from benchmarks.synthetic import PAPER_COLUMNS, layout_for, make_store
from lorastyle.records import SUB_NETWORKS
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents

N_ROWS, N_COLUMNS, N_ARTISTS = 40, 4_000, 5


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "adapters.zarr"
    return make_store(path, N_ROWS, N_COLUMNS, n_artists=N_ARTISTS, seed=3)


def test_every_row_is_committed_and_stands_its_checksum(store):
    again = AdapterStore.open(store.path)
    assert again.rows() == list(range(N_ROWS))
    assert all(again.verify(row) for row in again.rows())
    assert again.table()["artist"].value_counts().eq(N_ROWS // N_ARTISTS).all()


def test_the_same_arguments_give_the_same_store_and_another_seed_another(store, tmp_path):
    same, other = (
        make_store(tmp_path / str(seed), N_ROWS, N_COLUMNS, n_artists=N_ARTISTS, seed=seed)
        for seed in (3, 4)
    )
    assert digest_of_contents(same) == digest_of_contents(store)
    assert not np.array_equal(other.read_rows([0]), store.read_rows([0]))


def test_the_nearest_centroid_of_other_adapters_is_the_artists(store):
    vectors = store.read_rows(range(N_ROWS)).astype(np.float64)
    artist = np.arange(N_ROWS) % N_ARTISTS
    seen, unseen = vectors[: N_ROWS // 2], vectors[N_ROWS // 2 :]
    centroids = np.stack([seen[artist[: N_ROWS // 2] == a].mean(axis=0) for a in range(N_ARTISTS)])
    distances = np.linalg.norm(unseen[:, None] - centroids, axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), artist[N_ROWS // 2 :])


def test_the_mean_is_far_longer_than_the_spread(store):
    vectors = store.read_rows(range(N_ROWS)).astype(np.float64)
    mean = vectors.mean(axis=0)
    spread = ((vectors - mean) ** 2).sum(axis=1).mean()
    assert 15 < (mean**2).sum() / spread < 40


@pytest.mark.parametrize("n_columns", [4_000, 100_000, 1_000_000, PAPER_COLUMNS])
def test_sub_networks_have_the_papers_shares(n_columns):
    layout = layout_for(n_columns)
    assert layout.size == n_columns
    shares = [layout.sub_network_size(name) / n_columns for name in SUB_NETWORKS]
    np.testing.assert_allclose(shares, [0.267, 0.266, 0.467], atol=0.002)


def test_at_the_papers_size_the_layout_is_stable_diffusions():
    layout = layout_for(PAPER_COLUMNS)
    assert len(layout.modules) == 160
    assert [layout.sub_network_size(name) for name in SUB_NETWORKS] == [
        1_597_440,
        1_591_296,
        2_795_520,
    ]


@pytest.mark.parametrize("n_columns", [1_000_001, 160])
def test_a_size_that_no_layout_has_is_refused(n_columns):
    with pytest.raises(ValueError, match="choose a multiple of 16"):
        layout_for(n_columns)
