"""Which settings a configuration means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lorastyle.config import parse_experiment
from lorastyle.distributed.grid import grid_of
from lorastyle.distributed.rank_runs import experiment_at_rank, other_ranks, trained_ranks
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import embed
from lorastyle.errors import ConfigError, StageError
from lorastyle.runs import Run


@pytest.fixture(scope="module")
def grams(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> GramSet:
    import shutil

    directory = tmp_path_factory.mktemp("grid") / "run"
    shutil.copytree(trained, directory)
    run = Run.open(directory)
    sweep = {"truncated_ranks": [1], "sub_networks": ["full", "up", "by-projection"]}
    experiment = parse_experiment({**run.experiment.model_dump(), "sweep": sweep})
    run = Run.create(directory, experiment, force=True)
    embed(run)
    return GramSet.load(run.embedding_path)


@pytest.fixture
def make(tiny_experiment: Callable[..., Any]) -> Callable[..., Any]:
    def made(**sweep: Any) -> Any:
        return parse_experiment({**tiny_experiment().model_dump(), "sweep": sweep})

    return made


def test_the_grid_is_what_is_embedded_unless_said_otherwise(
    make: Callable[..., Any], grams: GramSet
) -> None:
    grid = grid_of(make(), grams)
    assert [setting.key for setting in grid.settings] == [
        f"{representation}/{name}"
        for representation in ("factors", "delta")
        for name in ("full", "feed_forward", "self_attention", "cross_attention")
    ]
    assert grid.left_out == {}


def test_families_become_their_members(make: Callable[..., Any], grams: GramSet) -> None:
    grid = grid_of(make(representations=["delta"], sub_networks=["by-projection", "to_q"]), grams)
    assert [setting.sub_network for setting in grid.settings] == [
        "to_q",
        "to_k",
        "to_v",
        "to_out",
        "ff_in",
        "ff_out",
    ]


def test_every_rank_takes_every_setting_and_is_named_by_how_it_came(
    make: Callable[..., Any], grams: GramSet
) -> None:
    experiment = make(sub_networks=["full"], ranks=[1, 2, 4, 1], truncated_ranks=[1])
    grid = grid_of(experiment, grams)
    assert [setting.key for setting in grid.settings] == [
        "factors/full@rank1",
        "delta/full@rank1",
        "factors/full",
        "delta/full",
        "factors/full@rank4",
        "delta/full@rank4",
        "delta/full@truncated1",
    ]
    assert list(grid.left_out) == ["factors/full@truncated1"]
    assert "lora_A" in grid.left_out["factors/full@truncated1"]


def test_there_is_nothing_to_cut_to_the_rank_that_adapters_have(
    make: Callable[..., Any], grams: GramSet
) -> None:
    experiment = make(representations=["delta"], sub_networks=["full"], truncated_ranks=[2, 4])
    grid = grid_of(experiment, grams)
    assert [setting.key for setting in grid.settings] == ["delta/full"]
    assert "nothing to cut" in grid.left_out["delta/full@truncated4"]


def test_a_sub_network_without_modules_is_left_out_with_the_reason(
    make: Callable[..., Any], grams: GramSet
) -> None:
    grid = grid_of(make(representations=["delta"], sub_networks=["full", "up.9"]), grams)
    assert [setting.key for setting in grid.settings] == ["delta/full"]
    assert grid.left_out == {"delta/up.9": "the adapters have no modules of up.9"}
    with pytest.raises(StageError, match=r"none of the 1 settings .* have no modules of up\.9"):
        grid_of(make(representations=["delta"], sub_networks=["up.9"]), grams)


def test_settings_can_be_drawn_at_random(make: Callable[..., Any], grams: GramSet) -> None:
    whole = grid_of(make(sub_networks=["full", "by-projection"]), grams).settings
    draws = []
    for seed in (0, 0, 1):
        experiment = make(sub_networks=["full", "by-projection"], n_settings=5, seed=seed)
        drawn = grid_of(experiment, grams).settings
        assert len(set(drawn)) == 5
        assert list(drawn) == [setting for setting in whole if setting in drawn]
        draws.append(drawn)
    assert draws[0] == draws[1] != draws[2]
    more = make(sub_networks=["full", "by-projection"], n_settings=99)
    assert grid_of(more, grams).settings == whole


def test_ranks_that_are_the_run_s_own_need_no_run_of_their_own(make: Callable[..., Any]) -> None:
    assert trained_ranks(make()) == (2,)
    assert other_ranks(make(ranks=[4, 2, 8, 4])) == (4, 8)


def test_another_rank_keeps_the_scaling_and_everything_else(make: Callable[..., Any]) -> None:
    experiment = make(ranks=[2, 6], truncated_ranks=[1], sub_networks=["by-block"])
    other = experiment_at_rank(experiment, 6)
    assert other.training.alpha / 6 == experiment.training.alpha / 2
    assert (other.sweep.ranks, other.sweep.truncated_ranks) == (None, ())
    assert other.sweep.sub_networks == ("by-block",)
    same = other.model_dump(exclude={"name", "sweep"})
    same["training"] |= {"rank": 2, "alpha": experiment.training.alpha}
    assert same == experiment.model_dump(exclude={"name", "sweep"})


def test_adapters_from_elsewhere_have_no_ranks_to_train(make: Callable[..., Any]) -> None:
    values = make(ranks=[4]).model_dump() | {"corpus": {"source": "adapters"}}
    with pytest.raises(ConfigError, match="come from elsewhere; leave both out"):
        trained_ranks(parse_experiment(values))
