"""What a submission says and takes along; `tests/jobs` submits it to a real job server."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from lorastyle.distributed.following import Log
from lorastyle.distributed.jobs_client import Jobs
from lorastyle.distributed.submission import (
    JOBS,
    Work,
    ablation_of,
    run_key,
    run_text,
    work_of,
)
from lorastyle.distributed.upload import pack
from lorastyle.errors import ClusterError, ConfigError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    checkout = tmp_path / "checkout"
    (checkout / "jobs").mkdir(parents=True)
    (checkout / "jobs" / "train.py").write_text("print('training')\n")
    (checkout / "tiny.yaml").write_text("name: tiny\n")
    return checkout


def test_what_can_be_submitted_is_a_module_and_is_what_the_verb_offers() -> None:
    from lorastyle.cli.submit import command

    (job,) = (one for one in command.params if one.name == "job")
    assert tuple(job.type.choices) == JOBS  # type: ignore[attr-defined]
    assert all((REPOSITORY / "jobs" / f"{name}.py").is_file() for name in JOBS)


def test_an_entrypoint_survives_the_shell() -> None:
    overrides = ("name=a b", "corpus.root=$HOME/'x'")
    entrypoint = Work("train", "configs/my art.yaml", "s3://b/r", overrides).entrypoint
    assert shlex.split(entrypoint)[1:] == [
        *("-m", "jobs.train", "--config", "configs/my art.yaml", "--run", "s3://b/r"),
        *overrides,
    ]


def test_missing_ranks_are_trained_by_the_jobs_that_sweep(checkout: Path) -> None:
    def work(job: str) -> Work:
        config = checkout / "tiny.yaml"
        return work_of(job, config, "s3://b/r", ["rank=3"], checkout, train_missing=True)

    assert work("sweep").entrypoint.endswith("--run s3://b/r --train-missing rank=3")
    assert "--train-missing" in work("run").entrypoint
    with pytest.raises(ConfigError, match="not with train"):
        work("train")


def test_an_ablation_is_submitted_as_the_verb_takes_it_and_its_job_reads_the_same() -> None:
    from lorastyle.cli.ablate import command

    asked = ablation_of(
        "s3://b/my art",
        "gallery-size",
        values=" 4, 02,4",
        representations=("delta", "factors"),
        sub_network="feed_forward",
        n_draws=2,
    )
    words = shlex.split(asked.entrypoint)
    assert words[:3] == ["python", "-m", "jobs.ablate"]
    read = command.make_context("ablate", words[3:]).params
    assert (read["target"], read["factor"], read["values"]) == (
        "s3://b/my art",
        "gallery-size",
        "4,2",
    )
    assert (read["representations"], read["sub_network"]) == (("delta", "factors"), "feed_forward")
    assert read["n_draws"] == 2
    assert shlex.split(ablation_of(Path("/run"), "rank").entrypoint)[3:] == ["/run", "rank"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the run is missing"),
        (("/run",), "one FACTOR, and was given 0"),
        (("/run", "rank", "rank=8"), "one FACTOR, and was given 2"),
        (("/run", "colour"), "'colour' is no factor of a run; take one of components, "),
        (("/run", "rank", "--values", "many"), "'many' is no value of rank"),
        (("/run", "rank", "--draws", "2"), "--draws is of gallery-size"),
        (("/run", "rank", "--config", __file__), "leave --config out"),
        (("/run", "rank", "--train-missing"), "leave --train-missing out"),
        (("runs/demo", "rank"), "means another directory on each machine"),
    ],
)
def test_an_ablation_that_cannot_be_is_refused_before_a_cluster_is_asked(
    arguments: tuple[str, ...], said: str
) -> None:
    from lorastyle.cli.main import main

    # Nothing answers at port 9.
    line = ["submit", "ablate", *arguments, "--address", "http://127.0.0.1:9"]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 2 and said in done.output


def test_a_job_that_is_no_ablation_takes_none_of_its_options(checkout: Path) -> None:
    from lorastyle.cli.main import main

    line = ["submit", "train", "--run", "/run", "--config", str(checkout / "tiny.yaml")]
    told = ["--address", "http://127.0.0.1:9", "--values", "1,2"]
    done = CliRunner().invoke(main, [*line, *told])
    assert done.exit_code == 2 and "--values goes with ablate, not with train" in done.output
    assert CliRunner().invoke(main, ["submit", "train", *told]).exit_code == 2


def test_runs_of_one_name_in_two_places_have_attempts_of_their_own() -> None:
    keys = {run_key(place) for place in ("/a/demo", "/b/demo", "s3://a/demo", "gs://a/demo")}
    assert len(keys) == 4 and all(key.startswith("demo-") for key in keys)
    assert run_key("/a/demo/") == run_key("/a/demo")


def test_a_relative_run_is_refused_and_a_url_is_not(checkout: Path) -> None:
    with pytest.raises(ConfigError, match="another directory on each machine"):
        run_text(Path("runs/demo"))
    work = work_of("train", checkout / "tiny.yaml", "s3://bucket/demo", ["rank=3"], checkout)
    assert (work.config, work.run, work.arguments) == ("tiny.yaml", "s3://bucket/demo", ("rank=3",))


def test_what_the_job_would_refuse_is_refused_before_it_is_submitted(
    checkout: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("name: outside\n")
    with pytest.raises(ConfigError, match="lies outside"):
        work_of("train", outside, Path("/run"), [], checkout)
    with pytest.raises(ConfigError, match="'rang'"):
        work_of("train", checkout / "tiny.yaml", Path("/run"), ["rang=3"], checkout)


def test_an_address_of_another_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="'ray://head:10001' is no address of a job server"):
        Jobs("ray://head:10001")


def test_an_upload_too_large_names_the_largest_files_and_nothing_is_sent(
    checkout: Path, tmp_path: Path, ray_home: Path
) -> None:
    for name, mib in (("big", 3), ("bigger", 4)):
        (checkout / f"{name}.bin").write_bytes(os.urandom(mib * 2**20))
    with pytest.raises(ClusterError, match=r"7 MiB and Ray takes 5;.*bigger.bin \(4 MiB\), big"):
        pack(checkout, tmp_path / "large.zip", limit_mib=5)
    (checkout / ".rayignore").write_text("*.bin\n")
    package = pack(checkout, tmp_path / "small.zip", limit_mib=5)
    assert package.size_mib < 0.1
    assert {"jobs/train.py", "tiny.yaml"} <= package.names


def test_a_directory_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder 'jobs'"):
        pack(tmp_path, tmp_path / "nothing.zip")


def test_this_checkout_packs_to_what_a_job_needs_whatever_lies_in_it(
    tmp_path: Path, ray_home: Path
) -> None:
    checkout = tmp_path / "checkout"
    leftovers = ("runs/demo", ".git", ".venv/lib", "tests", ".mypy_cache", "jobs/__pycache__")
    for name in (*leftovers, "lorastyle/runs", "jobs", "configs", "cluster"):
        (checkout / name).mkdir(parents=True, exist_ok=True)
        (checkout / name / "file.bin").write_bytes(b"\0")
    for name in (".rayignore", ".gitignore"):
        (checkout / name).write_text((REPOSITORY / name).read_text())
    packed = pack(checkout, tmp_path / "checkout.zip")
    assert {name for name in packed.names if name.endswith(".bin")} == {
        f"{name}/file.bin" for name in ("lorastyle/runs", "jobs", "configs", "cluster")
    }


def test_this_checkout_is_far_below_what_ray_takes(tmp_path: Path, ray_home: Path) -> None:
    package = pack(REPOSITORY, tmp_path / "checkout.zip", limit_mib=30)
    assert {f"jobs/{name}.py" for name in JOBS} <= package.names
    assert "lorastyle/base/miniature/unet/config.json" in package.names


def test_a_log_that_comes_in_pieces_and_again_is_written_once() -> None:
    text = "one\ntwo\nthree\n"
    written: list[str] = []
    log = Log(written.append)
    for end in (3, 3, 9, len(text)):
        for start in range(0, end, 4):
            log.take(text[start : min(end, start + 4)], start)
    log.take(text, 0)
    assert "".join(written) == text
