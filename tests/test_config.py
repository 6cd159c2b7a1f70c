"""An experiment: what is refused, what is told apart, what a key may be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from lorastyle.config import (
    Experiment,
    apply_overrides,
    load_experiment,
    parse_experiment,
)
from lorastyle.errors import ConfigError
from lorastyle.records import Role

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "experiment.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_and_survives_being_written_out(path):
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    again = parse_experiment(yaml.safe_load(experiment.to_yaml()))
    assert again == experiment
    assert again.hash() == experiment.hash()


def test_an_empty_file_is_the_papers_protocol(write):
    protocol = load_experiment(write("")).protocol
    counts = {role.value: (protocol.count(role), protocol.n_images(role)) for role in Role}
    assert counts == {
        "train": (24, 10),
        "val": (3, 10),
        "test": (3, 10),
        "query_calibration": (3, 3),
        "query_val": (5, 3),
        "query_test": (5, 3),
    }


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rnak": 4}, "'rnak'"),
        ({"training": {"rnak": 4}}, "'training.rnak'"),
        ({"training": {"rank": 4, "aplha": 1}, "corpsu": {}}, "'training.aplha'"),
    ],
)
def test_an_unknown_key_is_refused_by_name(values, named):
    with pytest.raises(ConfigError, match=f"there is no setting {named}"):
        parse_experiment(values, source="x.yaml")


def test_all_findings_are_told_at_once_in_one_sentence():
    with pytest.raises(ConfigError) as refused:
        parse_experiment({"rnak": 4, "training": {"rank": 0}}, source="x.yaml")
    message = str(refused.value)
    assert message.startswith("x.yaml: ")
    assert "'rnak'" in message
    assert "training.rank" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ({"train": 3, "calibration": 3}, "calibration=3 must be smaller than train=3"),
        ({"reserved_val": 9}, "images_per_adapter=10 exceeds reserved_val=9"),
        ({"reserved_test": 9}, "images_per_adapter=10 exceeds reserved_test=9"),
        ({"max_overlap": 0}, "max_overlap"),
        ({"max_overlap": 1.5}, "max_overlap"),
        ({"train": 0}, "train"),
        ({"val": -1}, "val"),
    ],
)
def test_contradictory_counts_are_refused_with_the_numbers(protocol, said):
    with pytest.raises(ConfigError, match=said):
        parse_experiment({"protocol": protocol})


def test_a_folder_needs_a_path_and_a_world_two_artists():
    with pytest.raises(ConfigError, match=r"needs corpus\.path"):
        parse_experiment({"corpus": {"source": "folder"}})
    with pytest.raises(ConfigError, match="n_artists must be at least 2"):
        parse_experiment({"corpus": {"n_artists": 1}})


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"rank": "four"}},
        {"training": {"learning_rate": float("nan")}},
        {"training": {"learning_rate": -1}},
        {"training": {"optimizer": "sgd"}},
        {"embedding": {"representations": ["weights"]}},
        {"training": None},
        {"training": [1]},
    ],
)
def test_a_value_of_the_wrong_kind_is_a_config_error(values):
    with pytest.raises(ConfigError):
        parse_experiment(values)


def test_an_experiment_cannot_be_changed():
    with pytest.raises(ValidationError):
        Experiment().training.rank = 8


def test_the_hash_follows_results_and_ignores_names_and_machines():
    plain = Experiment()
    assert parse_experiment({"name": "x", "compute": {"n_actors": 2}}).hash() == plain.hash()
    assert parse_experiment({"training": {"rank": 8}}).hash() != plain.hash()
    assert parse_experiment({"training": {"rank": 16}}).hash() == plain.hash()


def test_weights_of_features_are_part_of_a_result_and_no_key_when_there_are_none():
    plain = Experiment()
    assert "feature_weights" not in plain.to_yaml()
    named = apply_overrides({}, ["feature_weights={csd: weights/csd.safetensors}"])
    experiment = parse_experiment(named)
    assert experiment.evaluation.feature_weights == {"csd": "weights/csd.safetensors"}
    assert experiment.hash() != plain.hash()
    again = parse_experiment(yaml.safe_load(experiment.to_yaml()))
    assert again == experiment
    assert again.hash() == experiment.hash()
    with pytest.raises(ConfigError, match=r"feature_weights\.csd"):
        parse_experiment({"evaluation": {"feature_weights": {"csd": 3}}})


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.rank=8", {"training": {"rank": 8}}),
        ("rank=8", {"training": {"rank": 8}}),
        ("name=trial", {"name": "trial"}),
        ("caption_template=a = b", {"corpus": {"caption_template": "a = b"}}),
        ("artists=[monet, degas]", {"corpus": {"artists": ["monet", "degas"]}}),
        ("learning_rate=3.0e-3", {"training": {"learning_rate": 0.003}}),
        ("top_k=null", {"evaluation": {"top_k": None}}),
        ("identifier=false", {"training": {"identifier": False}}),
        ("min_works=", {"corpus": {"min_works": None}}),
    ],
)
def test_an_override_is_a_dotted_or_bare_key_and_a_yaml_value(override, expected):
    assert apply_overrides({}, [override]) == expected


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rank", "is not an override; write key=value"),
        ("=8", "is not an override; write key=value"),
        ("rnak=8", "there is no setting 'rnak'"),
        ("seed=1", r"could mean corpus\.seed or training\.seed"),
        ("representations=[factors]", r"could mean embedding\.representations or sweep"),
        ("artists=[monet", "is not valid YAML; quote it"),
    ],
)
def test_an_override_that_means_nothing_or_two_things_is_refused(override, said):
    with pytest.raises(ConfigError, match=said):
        apply_overrides({}, [override])


def test_overrides_win_over_the_file_and_later_ones_over_earlier(write):
    path = write("training: {rank: 4, alpha: 2}\n")
    experiment = load_experiment(path, ["rank=8", "rank=2", "compute.n_actors=3"])
    assert (experiment.training.rank, experiment.training.alpha) == (2, 2.0)
    assert experiment.compute.n_actors == 3


def test_overriding_leaves_the_callers_values_alone():
    values = {"training": {"rank": 4}}
    apply_overrides(values, ["rank=8"])
    assert values == {"training": {"rank": 4}}


def test_an_override_in_an_unknown_section_is_refused_by_name(write):
    with pytest.raises(ConfigError, match="there is no setting 'trainng'"):
        load_experiment(write(""), ["trainng.rank=8"])


def test_an_override_inside_a_plain_value_is_refused(write):
    with pytest.raises(ConfigError, match="'training' must hold settings, not 3"):
        load_experiment(write("training: 3\n"), ["rank=8"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2\n", "holds a list, not settings"),
        ("just words", "holds a str, not settings"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        ("!!python/object:os.system {}", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused_in_one_line(write, text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        load_experiment(write(text))
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=f"cannot read {path}"):
            load_experiment(path)


@pytest.mark.parametrize("key", ["path", "metadata"])
def test_images_in_a_bucket_are_refused_with_the_remedy(write, key):
    text = f"corpus: {{source: folder, {key}: 's3://bucket/images'}}\n"
    with pytest.raises(ConfigError, match=r"s3://bucket/images is a URL.*mount or copy it"):
        load_experiment(write(text))


def test_the_demo_in_the_wheel_is_the_one_that_is_read():
    root = Path(__file__).parent.parent
    demo = (root / "configs" / "demo.yaml").read_text()
    assert (root / "lorastyle" / "configs" / "demo.yaml").read_text() == demo
