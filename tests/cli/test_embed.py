"""`lorastyle embed`: its options are settings, and its answer says what the pass read."""

import json

import numpy as np
import pandas as pd
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.cli.embed import Memory
from lorastyle.config import parse_experiment
from lorastyle.embedding.components import project_with_components
from lorastyle.embedding.spaces import load_space
from lorastyle.embedding.style_space import StyleSpace
from lorastyle.records import AdapterSpec, Role
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore

N_TRAIN = 5


@pytest.fixture
def run(tmp_path):
    """A run whose 40 adapters by five artists are trained."""
    run = Run.create(tmp_path / "run", parse_experiment({"protocol": {"calibration": 1}}))
    modules = [
        TargetModule(f"b{i}.{kind}", kind, 20, 15)
        for i in range(3)
        for kind in ("self_attention", "feed_forward")
    ]
    layout = AdapterLayout.of_modules(2, modules)
    roles = [(Role.TRAIN, i) for i in range(N_TRAIN)]
    roles += [(role, 0) for role in (Role.VAL, Role.TEST, Role.QUERY_CALIBRATION)]
    specs = [
        AdapterSpec(row, f"a{row}", artist, "g", role, index, ("x",), "t", row, 0)
        for row, (artist, role, index) in enumerate(
            (artist, role, index) for artist in "abcde" for role, index in roles
        )
    ]
    store = AdapterStore.create(
        run.store_path, layout, base={}, alpha=2.0, n_rows=len(specs), init={}
    )
    rng = np.random.default_rng(0)
    centres = {artist: rng.standard_normal(store.size) for artist in "abcde"}
    for spec in specs:
        vector = centres[spec.artist] + 0.5 * rng.standard_normal(store.size)
        store.commit(spec.row, vector.astype(np.float32), spec, {})
    pd.DataFrame([spec.to_dict() for spec in specs]).to_parquet(run.plan_path)
    run.finish("train", {}, {"n_adapters": len(specs)}, 0.0)
    return run


def test_embed_fits_every_space_and_says_what_it_read(lorastyle, run):
    result = lorastyle("embed", run.directory, "--memory", "64MiB", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    # Two tasks, two representations; the full network and two sub-networks.
    assert document["outputs"]["n_spaces"] == 12
    assert document["pass"]["bytes_read"] > 0
    assert document["pass"]["n_new"] == 40
    space = load_space(run.embedding_path, "clustering", "factors", "feed_forward")
    assert space.is_calibrated and len(space.fit_rows) == 5 * (N_TRAIN - 1)
    assert Run.open(run.directory).experiment.compute.memory_gib == 0.0625


def test_memory_is_no_part_of_the_result(lorastyle, run):
    lorastyle("embed", run.directory)
    again = lorastyle("embed", run.directory, "--memory", "1GiB")
    assert again.exit_code == 0, again.stderr
    assert "done already" in again.stdout


def test_other_components_contradict_the_run_until_forced_and_then_read_nothing(lorastyle, run):
    lorastyle("embed", run.directory)
    chosen = ("--components", "3", "--subnetwork", "full", "--subnetwork", "feed_forward")
    refused = lorastyle("embed", run.directory, *chosen)
    assert refused.exit_code == 1
    assert "embedding.max_components: 100 there, 3 here" in refused.stderr
    forced = lorastyle("embed", run.directory, *chosen, "--force")
    assert forced.exit_code == 0, forced.stderr
    assert "nothing was read" in forced.stdout
    assert load_space(run.embedding_path, "retrieval", "delta", "full").n_components == 3
    absent = run.embedding_path / "spaces" / "retrieval" / "delta.self_attention.npz"
    assert not absent.exists()


def test_components_are_written_when_asked_for(lorastyle, run):
    result = lorastyle("embed", run.directory, "--write-components", "--json")
    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)["components"]) == 6
    space: StyleSpace = load_space(run.embedding_path, "retrieval", "factors", "full")
    test = space.rows("test")
    vectors = AdapterStore.open(run.store_path).read_rows(test)
    place = run.embedding_path / "components" / "retrieval" / "factors.full.zarr"
    scores = project_with_components(place, vectors)
    np.testing.assert_allclose(scores, space.scores(test), atol=1e-4 * np.abs(scores).max())


@pytest.mark.parametrize(
    ("text", "gib"), [("2GiB", 2.0), ("512MiB", 0.5), ("1.5", 1.5), ("1GB", 1e9 / 2**30)]
)
def test_sizes_are_read_with_their_units(text, gib):
    assert Memory().convert(text, None, None) == pytest.approx(gib)


@pytest.mark.parametrize("text", ["lots", "-1GiB", "2 parsecs", "0", ""])
def test_what_is_no_size_is_wrong_use(lorastyle, run, text):
    result = lorastyle("embed", run.directory, "--memory", text)
    assert result.exit_code == 2
    assert "is not a size; write for example 2GiB" in result.stderr


def test_sub_networks_are_expressions_and_families(lorastyle, run):
    chosen = ("full - self_attention", "b1.*", "by-sub-network", "full-self_attention", "up")
    options = [text for name in chosen for text in ("--subnetwork", name)]
    options += ["--write-components", "--force", "--json"]
    result = lorastyle("embed", run.directory, *options)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    names = ["full-self_attention", "b1.*", "self_attention", "feed_forward"]
    assert document["outputs"]["sub_networks"] == names
    assert (document["outputs"]["n_spaces"], len(document["components"])) == (16, 8)
    space = load_space(run.embedding_path, "retrieval", "factors", "b1.*")
    assert space.sub_network == "b1.*"


@pytest.mark.parametrize(
    ("text", "reason"), [("feed_foward", "did you mean 'feed_forward'"), ("by-magic", "no family")]
)
def test_what_is_no_sub_network_is_refused(lorastyle, run, text, reason):
    result = lorastyle("embed", run.directory, "--subnetwork", text)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())
