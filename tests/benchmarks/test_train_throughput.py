"""The benchmark at its smallest, its own arithmetic, and that its peer is what it claims to be.

Times are never judged. What runs on a GPU runs here on a CPU: the same lines, a smaller U-Net.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import BrokenBarrierError

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from benchmarks.train_throughput import measuring, peer
from benchmarks.train_throughput.__main__ import main
from benchmarks.train_throughput.agreement import TOLERANCE, agreement
from benchmarks.train_throughput.contest import Contest
from benchmarks.train_throughput.contestants import (
    arrangements,
    compiled_contestants,
    eager_contestants,
)
from benchmarks.train_throughput.measuring import Stopwatch, matmul_rate, measure
from benchmarks.train_throughput.peer import DeviceBatches, Peer
from benchmarks.train_throughput.processes import Crew, Failure, why_not
from benchmarks.train_throughput.rates import rows
from benchmarks.train_throughput.records import Arrangement, Contestant, Measured, Subject, Timing
from benchmarks.train_throughput.table import render
from benchmarks.train_throughput.workbench import Workbench
from lorastyle.adapters.initial import initial_factors
from lorastyle.base.known import published_unet
from lorastyle.training.batches import Batch

REPOSITORY = Path(__file__).parents[2]
ABSENT = [
    *("ray", "pydantic", "pandas", "pyarrow", "zarr", "dask", "click", "sklearn", "scipy"),
    *("matplotlib", "obstore", "google_crc32c", "threadpoolctl"),
]
"""What the project needs and a bare GPU machine lacks."""
EXACT = {torch.float32: torch.float64}
BARE = f"""
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory):
    """Runs Python in processes, and theirs, that find nothing but what PEFT and diffusers bring."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(BARE, encoding="utf-8")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(folder)},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def bench():
    """Stable Diffusion 1.5 with everything smaller, in float64."""
    return shrunk(torch.float64)


def shrunk(dtype):
    torch.manual_seed(0)
    changes = {"block_out_channels": [16, 32, 32, 32], "cross_attention_dim": 24, "sample_size": 8}
    changes |= {"norm_num_groups": 4, "attention_head_dim": 4, "layers_per_block": 1}
    unet = UNet2DConditionModel.from_config(published_unet("sd1") | changes)
    return Workbench(torch.nn.Module.to(unet, dtype).eval().requires_grad_(False), 2, 5)


def test_a_bare_machine_measures_both_sides_and_says_so_in_one_document(bare_machine):
    absent = bare_machine("-c", f"import {ABSENT[0]}")
    assert f"No module named '{ABSENT[0]}'" in absent.stderr
    small = "--device cpu --stacks 1,2 --batch 1 --rank 2 --processes 2 --seconds 0.01 --rounds 1"
    done = bare_machine("-m", "benchmarks.train_throughput", "--json", *small.split())
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["schema"], document["device"]["type"]) == (1, "cpu")
    assert document["versions"]["torch"] == torch.__version__
    assert document["unet"]["parameters_an_adapter"] == 2 * 28_928 / 4
    (agreed,) = document["agreement"]
    assert agreed["agree"] and agreed["worst_difference"] <= TOLERANCE < agreed["moved"]
    assert [(row["who"], row["stack"], row["processes"]) for row in document["rows"]] == [
        ("peft", 1, 2),
        ("ours", 1, 2),
        ("ours", 2, 2),
    ]
    for row in document["rows"]:
        assert row["lead"] == pytest.approx(row["samples_per_s"] / row["rounds"][0] * row["lead"])
        assert 0.1 < row["peak_gb"] < 4 and row["share_of_matmul"] > 0
    assert document["not_measured"] == []
    assert "| ours, K = 2, batch 1 |" in done.stderr and "PEFT and ours agree" in done.stderr


def window(rate, peak=None):
    return Measured(rate, n_steps=1, wall_s=3.0, cpu_s=2.0, prepare_s=0.5, peak_bytes=peak)


def test_rates_are_worked_out_as_by_hand():
    one, two = Arrangement(1, 2), Arrangement(2, 1)
    plain, fair = Contestant("peft", 1), Contestant("peft", 4)
    stack = Contestant("ours", 1, 16)
    measured = {
        (plain, one): [[window(30)], [window(20)], [window(99)]],
        (plain, two): [[window(each), window(44 - each)] for each in (22, 20)] + [[window(60)]],
        (fair, two): [[window(44), window(44)]],
        (stack, two): [[window(90, 2e9), window(86, 1e9)], [window(88, 3e9), window(88, 2e9)]],
    }
    found = {row["name"]: row for row in rows(measured, 2e9, 3.52e12)}
    first = found["PEFT, batch 1"]
    assert (first["samples_per_s"], first["processes"]) == (44, 2)
    assert first["samples_per_cpu_s"] == 44 * 3 / (2 * 2)  # of two processes, 2 CPU seconds each
    assert first["rounds"] == [44, 44, 60] and first["spread"] == pytest.approx(16 / 44)
    assert [other["samples_per_s"] for other in first["other_arrangements"]] == [30]
    assert first["peak_gb"] is None and first["lead"] == 1 and first["lead_over_best"] == 0.5
    # 44 samples/s are 1/40 of an adapter of 1,760 samples: 40 s each, 90 an hour.
    assert first["s_an_adapter"] == {"interleaved": 40, "paired": 80}
    assert first["adapters_per_h"] == {"interleaved": 90, "paired": 45}
    ours = found["ours, K = 16, batch 1"]
    assert (ours["lead"], ours["lead_over_best"], ours["peak_gb"]) == (4, 2, 3)
    # 176 samples of 2 GFLOP a second are a tenth of 3.52 TFLOP/s.
    assert ours["share_of_matmul"] == pytest.approx(0.1)


def test_the_table_tells_what_is_wrong_and_what_is_missing():
    plain = Contestant("peft", 1)
    agreed = {"device": "cpu", "adapters": 2, "steps": 3, "worst_difference": 2e-5, "moved": 2e-3}
    lines = render(
        {
            "date": "today",
            "commit": "",
            "device": {"name": "H", "memory_gb": 80.4, "cores": 16, "load_average": 0.5},
            "versions": {"torch": "2.13.0", "cuda": None},
            "unet": {
                "name": "shapes",
                "dtype": "bfloat16",
                "rank": 16,
                "parameters_an_adapter": 5_984_256,
                "training_flops_a_sample": 1.74e12,
            },
            "settings": {"seconds": 2.0, "rounds": 3},
            "samples_an_adapter": {"interleaved": 1760, "paired": 3520},
            "agreement": [
                {**agreed, "agree": False},
                {"device": "cuda", "agree": None, "why": "out of memory"},
            ],
            "matmul": {"tflop_per_s": 696.0},
            "peer_modes": {"plain": 11.0, "autocast": 12.5},
            "rows": rows({(plain, Arrangement(1, 16)): [[window(20, 3e9)]]}, 1.74e12, 696e12),
            "not_measured": [
                {
                    "name": "ours, K = 64, batch 1",
                    "processes": 1,
                    "threads": 16,
                    "rounds": 0,
                    "why": "out of memory",
                }
            ],
        }
    ).splitlines()
    assert lines[:2] == ["today, commit unknown, H, 80 GB, 16 cores, load 0.5", "torch 2.13.0"]
    (row,) = [line.split("|")[1:-1] for line in lines if line.startswith("| PEFT")]
    told = ["PEFT, batch 1", "1 x 16", "20.0", "0%", "30.0", "1.00", "1.00", "40.9", "20.5", "88.0"]
    assert [cell.strip() for cell in row] == [*told, "3.00", "5.0%"]
    assert any("PEFT and ours DISAGREE, differing by 2e-05" in line for line in lines)
    assert any("on cuda: PEFT and ours were not compared: out of memory." in each for each in lines)
    assert any("plain 11.0, autocast 12.5" in line for line in lines)
    assert lines[-1] == "Not measured: ours, K = 64, batch 1, 1 x 16: out of memory."


def test_the_peer_trains_what_a_stack_does(bench):
    assert agreement(bench)["agree"]


def test_a_peer_that_trains_something_else_is_found_out(bench, monkeypatch):
    config = peer.LoraConfig
    wrong = {"lora_alpha": 1.01 * bench.settings(1).alpha}
    monkeypatch.setattr(peer, "LoraConfig", lambda **given: config(**given | wrong))
    found = agreement(bench)
    assert not found["agree"] and found["worst_difference"] > TOLERANCE


def test_the_peers_first_step_is_adams_along_the_gradient_of_the_frozen_weights(bench):
    """At B = 0 the gradient of W + s B A is s G A' for B; Adam first steps by g / (|g| + eps)."""
    settings = bench.settings(2, 1)
    initial = initial_factors(bench.layout, 0)
    batch = DeviceBatches(bench.items(1)[0], settings, 1000, bench.device)(0)
    batch = Batch(**{name: part.to(EXACT.get(part.dtype)) for name, part in vars(batch).items()})
    trainer = Peer(bench.unet, bench.scheduler, bench.rank)
    trainer.load(initial)
    trainer.train(lambda step: batch, settings)
    trained = bench.layout.unflatten(trainer.vector(bench.layout)[None])
    weights = {name: bench.unet.get_submodule(name).weight for name in bench.layout.modules}
    for weight in weights.values():
        weight.requires_grad_()
    noisy = bench.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    predicted = bench.unet(noisy, batch.timesteps, batch.text).sample
    (predicted - batch.noise).square().mean().backward()
    scaling = settings.alpha / settings.rank
    gradients = {n: scaling * w.grad.numpy() @ initial[n, "A"].T for n, w in weights.items()}
    assert sum(np.sum(each**2) for each in gradients.values()) < settings.max_grad_norm**2
    for name, gradient in gradients.items():
        step = trained[name, "B"][0] / -settings.learning_rate
        np.testing.assert_allclose(step, gradient / (np.abs(gradient) + 1e-8), atol=1e-5)
        np.testing.assert_array_equal(trained[name, "A"][0], initial[name, "A"])


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_the_peers_adapter_is_float32_over_the_same_frozen_weights(autocast):
    bench = shrunk(torch.bfloat16)
    frozen = {name: weight.clone() for name, weight in bench.unet.named_parameters()}
    trainer = bench.peer(autocast=autocast, compiled="")
    start = trainer.vector(bench.layout)
    settings = bench.settings(2, 2)
    trainer.train(DeviceBatches(bench.items(1)[0], settings, 1000, bench.device), settings)
    assert {each.dtype for each in trainer.parameters} == {torch.float32}
    assert np.abs(trainer.vector(bench.layout) - start).max() > settings.learning_rate / 2
    own = dict(trainer._unet.named_parameters())
    for name, weight in bench.unet.named_parameters():
        assert torch.equal(weight, frozen[name])
        same = own.get(name, own.get(name.replace(".weight", ".base_layer.weight")))
        same = own.get(name.replace(".bias", ".base_layer.bias")) if same is None else same
        assert same is weight


@pytest.mark.parametrize("contestant", [Contestant("peft", 2), Contestant("ours", 2, 3)])
def test_a_window_counts_all_samples_of_its_steps(contestant):
    found = measure(shrunk(torch.bfloat16), contestant, Timing(seconds=0.05, warm_up=1))
    samples = contestant.samples_a_step * found.n_steps
    assert found.samples_per_s == pytest.approx(samples / found.wall_s)
    assert found.wall_s >= 0.05 and found.n_steps >= 1 and samples % 2 == 0
    assert min(found.prepare_s, found.cpu_s) > 0 and found.peak_bytes > 1e8


def test_a_gpu_is_waited_for_at_the_ends_of_a_window_only(monkeypatch):
    seconds, waited = iter([0.0, 10.0, 10.5, 11.5]), []
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(seconds))
    monkeypatch.setattr(measuring, "synchronise", lambda device: waited.append(device.type))
    begun = []
    watch = Stopwatch(Timing(1.0, warm_up=3), torch.device("cuda"), lambda: begun.append(1))
    with pytest.raises(measuring.Enough):
        for step in range(1, 100):
            watch(step)
    assert (step, watch.n_steps, watch.prepare_s, watch.wall_s) == (19, 16, 10.0, 1.5)
    assert waited == ["cuda"] * 3 and begun == [1]


def test_the_rate_of_products_counts_their_operations(bench, monkeypatch):
    calls = []

    def multiply(left, right, out, n_products):
        calls.append(n_products)
        return 0.01 * n_products

    monkeypatch.setattr(measuring, "_multiply", multiply)
    assert matmul_rate(bench, 10, 0.0) == pytest.approx(2 * 10**3 / 0.01)
    assert calls[:2] == [1, 2]


class Crowd:
    """Stands for a crew on a GPU whose memory ends at a stack of 32."""

    arrangement = Arrangement(1, 2)

    def __init__(self, clock):
        self.asked, self._clock = [], clock

    def do(self, task, contestant, timing, *, limit_s):
        assert task == "measuring:measure"
        self.asked.append(contestant)
        self._clock[0] += 50 if contestant.compiled and contestant not in self.asked[:-1] else 2
        if contestant.stack >= 32:
            raise Failure("memory", "out of memory")
        return [window(contestant.samples_a_step)]


def contest(contestants, deadline, n_rounds=2):
    clock = [0.0]
    crowd = Crowd(clock)
    held = Contest([crowd], Timing(2.0), n_rounds, deadline, lambda line: None, lambda: clock[0])
    held.run(contestants)
    return held, crowd.asked


def test_memory_that_ends_ends_the_list_and_nothing_else():
    stacks = eager_contestants((1, 4), (1, 8, 32, 64), autocast=False)
    held, asked = contest(stacks, deadline=1e9)
    assert {(each.stack, why) for (each, _), why in held.missing.items()} == {
        (32, "out of memory"),
        (64, "larger than ours, K = 32, batch 1, which is out of memory"),
    }
    # A second round backwards, without them.
    assert asked[-6:] == [each for each in asked[:-6] if each.stack < 32][::-1]
    assert all(len(rounds) == 2 for rounds in held.measured.values())


def test_nothing_is_begun_that_would_be_late():
    eager = eager_contestants((1,), (1, 8), autocast=False)
    compiled = compiled_contestants(1, (1, 8, 128), autocast=False, graphs=True)
    assert [(each.who, each.stack, each.graphs) for each in compiled] == [
        ("ours", 8, False),
        ("peft", 1, False),
        ("ours", 1, False),
        ("peft", 1, True),
    ]
    # Three eager rounds take 6 s; compiling is expected to take 90, then 50, as it did. At 156 s
    # the last could be done, but not all other second rounds too: 3 x 2 s and 3 x 4 s.
    held, asked = contest(eager + compiled, deadline=223.0)
    assert asked[:6] == eager + compiled[:3]
    assert held.missing == {(compiled[3], Crowd.arrangement): "no time left"}
    assert asked[6:] == asked[:6][::-1]
    held, asked = contest(eager + compiled, deadline=225.0)
    assert held.missing == {} and len(asked) == 14


def test_cores_are_shared_among_processes():
    assert arrangements((1, 2), 2) == [Arrangement(1, 2), Arrangement(2, 1)]
    assert arrangements((1, 3), 2) == [Arrangement(1, 2), Arrangement(3, 1)]


def test_lack_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as huge:
        torch.empty(2**60)
    assert why_not(huge.value)[0] == "memory"
    assert why_not(torch.OutOfMemoryError("CUDA out of memory. Tried"))[0] == "memory"
    assert why_not(BrokenBarrierError())[0] == "others"
    assert why_not(ValueError("one\ntwo")) == ("error", "ValueError: one")


def test_a_process_that_dies_is_told_and_takes_its_crew_with_it():
    class Doomed(Crew):
        def _start(self):
            super()._start()
            os.kill(next(iter(self._members.values())).pid, signal.SIGKILL)

    with Doomed(Subject("miniature", 4, "cpu"), Arrangement(2, 1)) as crew:
        with pytest.raises(Failure, match="its process ended with -9"):
            crew.do("measuring:matmul_rate", 8, 0.0, limit_s=60)
        assert crew._members == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stacks", "1,0"], "0 is too few"),
        (["--rank", "-2"], "-2 is too few"),
        (["--seconds", "nan"], "choose more than 0"),
        (["--batch", "some"], "invalid"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--device", "cuda"])
    assert "sees no CUDA device; use --device cpu" in capsys.readouterr().err
