"""Requests a second and latency of `/search`, as clients on this machine see it.

    python -m benchmarks.serve            2,709 and 100,000 entries, 8 clients, SD 1.5 at rank 16
    python -m benchmarks.serve --json     the same as one document
    python -m benchmarks.serve --quick    a few small modules: does it run at all

The server is `lorastyle serve`'s app, in one process and in one a core; clients are threads of
this process, with their files in memory, each with one request at a time, on loopback and
bounded in number.
Scores and sketches of the gallery are random around planted styles: times do not depend on
what the numbers are. Entries that the space was not fitted on are a few stored adapters under
many names.

The floor is what cannot be saved: the same file read and placed in one thread, without a server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from benchmarks.kernel.adapters import modules, random_adapter
from benchmarks.kernel.placing import MOST_FITTED, fitted_placer, scores_like
from benchmarks.pca import machine
from lorastyle.adapters.formats.opening import FileInMemory
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.embedding.blas import one_blas_thread
from lorastyle.embedding.stage import embed
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.new_run import experiment_for_adapters
from lorastyle.ingest.stage import ingest
from lorastyle.runs import Run
from lorastyle.search.gallery import Gallery
from lorastyle.search.ready import ReadyGallery
from lorastyle.search.searcher import Searcher
from lorastyle.search.settings import SpaceChoice
from lorastyle.serving.app import app_of
from lorastyle.serving.counting import Counts
from lorastyle.serving.desk import Desk
from lorastyle.serving.gate import Gate
from lorastyle.serving.pictures import Pictures
from lorastyle.serving.processes import serve
from lorastyle.serving.server import listen
from lorastyle.serving.settings import ServingSettings, workers_for
from lorastyle.store.members import member_table

REPOSITORY = Path(__file__).resolve().parents[1]
N_COMPONENTS = 64
N_FILES = 4
BOUNDARY = "lorastyle-benchmark"
TARGET_MS = 150.0
SIZES: dict[str, dict[str, Any]] = {
    "usual": {"entries": (2_709, 100_000), "requests": 240, "every": 1},
    "quick": {"entries": (300,), "requests": 16, "every": 16},
}


class PlantedSearcher(Searcher):
    """Searches a planted gallery; files, placing and duplicates are as they are."""

    def __init__(self, run: Run, n_entries: int, every: int) -> None:
        rng = np.random.default_rng(0)
        placer = fitted_placer(min(n_entries, MOST_FITTED), N_COMPONENTS, every, rng)
        rows = np.arange(n_entries)
        table = pd.DataFrame({"row": rows, "adapter_id": [f"adapter-{row}" for row in rows]})
        table = table.assign(artist=[f"artist {row % 63}" for row in rows], genre="", role="train")
        scores = np.asarray(scores_like(placer, n_entries, rng), np.float64)
        self._planted = ReadyGallery(Gallery(placer.space, table, scores, None), placer)
        self._stored = member_table(run)["row"].to_list()
        super().__init__(run, exact_bytes=0)

    def _ready_gallery(self, setting: SpaceChoice) -> ReadyGallery:
        return self._planted

    def member(self, row: int) -> Adapter:
        return super().member(int(self._stored[row % len(self._stored)]))


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    if options.server is not None:
        _serve(options)
        return
    document = measure(options)
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    print(render(document), file=sys.stderr if options.json else sys.stdout)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--entries", type=int, nargs="+", help="2,709 and 100,000")
    parser.add_argument("--processes", type=int, nargs="+", help="1, and one a core")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, help="of all clients together; 80")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--every", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--server", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--floor-file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.processes = options.processes or sorted({1, os.cpu_count() or 1})
    for name, value in SIZES["quick" if options.quick else "usual"].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Plain JSON."""
    with tempfile.TemporaryDirectory(prefix="lorastyle-benchmark-") as aside:
        folder = Path(aside)
        _write_files(folder / "files", 0, options)
        queries = _write_files(folder / "queries", N_FILES, options)
        run = Run.create(folder / "run", experiment_for_adapters("benchmark", "sd1"))
        ingest(run, find_candidates([folder / "files"]))
        embed(run)
        rows = [
            _measure_one(run, queries, n_entries, n_processes, options)
            for n_entries in options.entries
            for n_processes in options.processes
        ]
    return {
        "machine": machine.describe(REPOSITORY),
        "file_bytes": len(queries[0]),
        "rank": options.rank,
        "dtype": options.dtype,
        "target_p95_ms": TARGET_MS,
        "served": rows,
    }


def _write_files(folder: Path, seed: int, options: argparse.Namespace) -> list[bytes]:
    paths = [folder / f"{number}.safetensors" for number in range(N_FILES)]
    for number, path in enumerate(paths):
        adapter = random_adapter(modules(options.every), options.rank, seed + number)
        write_adapter(adapter, path, "kohya", dtype=options.dtype)
    return [path.read_bytes() for path in paths]


def _measure_one(
    run: Run, files: list[bytes], n_entries: int, n_processes: int, options: argparse.Namespace
) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.serve", "--server", str(run.directory)]
    command += ["--entries", str(n_entries), "--every", str(options.every)]
    command += ["--processes", str(n_processes)]
    command += ["--floor-file", str(run.directory.parent / "files" / "0.safetensors")]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = json.loads(server.stdout.readline())
            start_s = time.perf_counter() - start
            bodies = [_body(content) for content in files]
            first = [_request(said["port"], body) for body in bodies]
            process = psutil.Process(server.pid)
            alone = _load(said["port"], bodies, 1, max(8, options.requests // 8), process)
            together = _load(said["port"], bodies, options.clients, options.requests, process)
        finally:
            server.terminate()
            server.wait(30)
    return {
        "entries": n_entries,
        "processes": n_processes,
        "start_s": start_s,
        "floor_ms": said["floor_ms"],
        "floor_parts_ms": said["parts_ms"],
        "first_ms": float(np.median(first)),
        "alone": alone,
        "together": together,
    }


def _body(content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="q"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def _request(port: int, body: bytes) -> float:
    """One search; milliseconds. Raises RuntimeError where it is not answered."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    connection.request("POST", "/search", body, kind)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {content[:300]!r}")
    return 1e3 * (time.perf_counter() - start)


def _load(
    port: int, bodies: list[bytes], n_clients: int, n_requests: int, server: psutil.Process
) -> dict[str, Any]:
    each = -(-n_requests // n_clients)

    def ask(client: int) -> list[float]:
        return [_request(port, bodies[(client + number) % len(bodies)]) for number in range(each)]

    start, before = time.perf_counter(), _cpu_s(server)
    with ThreadPoolExecutor(n_clients) as pool:
        found = np.concatenate(list(pool.map(ask, range(n_clients))))
    wall_s, cpu_s = time.perf_counter() - start, _cpu_s(server) - before
    return {
        "clients": n_clients,
        "requests": len(found),
        "per_s": len(found) / wall_s,
        "median_ms": float(np.median(found)),
        "p95_ms": float(np.quantile(found, 0.95)),
        "cpu_ms": 1e3 * cpu_s / len(found),
    }


def _cpu_s(server: psutil.Process) -> float:
    """Of a server and its processes, so far."""
    times = [one.cpu_times() for one in (server, *server.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _serve(options: argparse.Namespace) -> None:
    """The server's process: says its port and the floor on stdout, then serves."""
    (n_processes,), (n_entries,) = options.processes, options.entries
    floor = _floor(PlantedSearcher(Run.open(options.server), n_entries, options.every), options)
    factory = partial(_app, options.server, n_entries, options.every, n_processes)

    def listening(address: str) -> None:
        port = int(address.rstrip("/").rpartition(":")[2])
        print(json.dumps({"port": port, **floor}), flush=True)

    with listen("127.0.0.1", 0) as free:
        serve(factory, free, n_processes, listening)


def _app(directory: Path, n_entries: int, every: int, n_processes: int) -> Gate:
    """As `lorastyle serve` has it, with a planted gallery."""
    run = Run.open(directory)
    settings = ServingSettings(exact_bytes=0, n_workers=workers_for(n_processes))
    searcher = PlantedSearcher(run, n_entries, every)
    desk = Desk(searcher, Pictures(run), settings, Counts())
    desk.open()
    return app_of(desk)


def _floor(
    searcher: PlantedSearcher, options: argparse.Namespace, rounds: int = 25
) -> dict[str, Any]:
    """The file read, sketched and placed, and its neighbours found; medians in one thread."""
    placer = searcher.warm().placer
    assert placer is not None
    file = FileInMemory("floor", memoryview(options.floor_file.read_bytes()))
    parts: dict[str, list[float]] = {"read": [], "sketch": [], "place": []}
    with one_blas_thread():
        for _ in range(rounds):
            times = [time.perf_counter()]
            adapter = searcher.read(file, hashed=False)
            times.append(time.perf_counter())
            sketch = placer.sketch(adapter)
            times.append(time.perf_counter())
            placer.place_sketch(sketch)
            times.append(time.perf_counter())
            for name, taken in zip(parts, np.diff(times), strict=True):
                parts[name].append(1e3 * float(taken))
    medians = {name: float(np.median(taken)) for name, taken in parts.items()}
    return {"floor_ms": sum(medians.values()), "parts_ms": medians}


def render(document: dict[str, Any]) -> str:
    """The document as lines to read."""
    about = document["machine"]
    lines = [
        f"{about['date']}, commit {about['commit']}, {about['cores']} cores, "
        f"{about['processor']}, load {about['load_average']:.1f}",
        f"files of {document['file_bytes'] / 1e6:.1f} MB, rank {document['rank']}, "
        f"{document['dtype']}",
        "",
        "| entries | processes | clients | requests/s | median ms | p95 ms | CPU ms | floor ms "
        "| first ms | start s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in document["served"]:
        lines += [
            f"| {one['entries']:,} | {one['processes']} | {load['clients']} | {load['per_s']:.1f} "
            f"| {load['median_ms']:.0f} | {load['p95_ms']:.0f} | {load['cpu_ms']:.0f} "
            f"| {one['floor_ms']:.0f} | {one['first_ms']:.0f} | {one['start_s']:.1f} |"
            for load in (one["alone"], one["together"])
        ]
    for one in document["served"]:
        parts = ", ".join(f"{name} {ms:.0f}" for name, ms in one["floor_parts_ms"].items())
        lines.append(f"floor at {one['entries']:,}, {one['processes']} processes: {parts} ms")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
