"""The stage `embed`: one pass over the adapter store, and every style space that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.config import Experiment
from lorastyle.corpus.stage import read_plan
from lorastyle.embedding.bucket_ledger import BucketLedger
from lorastyle.embedding.groups import groups_for
from lorastyle.embedding.kept import Wanted
from lorastyle.embedding.ledger import Ledger
from lorastyle.embedding.spaces import write_spaces
from lorastyle.embedding.summing import Scheduler
from lorastyle.embedding.update import LEDGER, update_grams
from lorastyle.embedding.wanted import embedded_products, wanted_products
from lorastyle.errors import TooFewAdaptersError
from lorastyle.records import AdapterSpec
from lorastyle.runs import Run, StageOutcome, carry_out, write_json
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from lorastyle.store.cohorts import Source
from lorastyle.store.commits import CommitRecord
from lorastyle.store.ingested import IngestedStore

PASS_FILE = "pass.json"
"""What the pass over the store read and took; no part of the result."""
NAMED = 20
"""Adapters left out that the manifest names, at most."""


def embed(run: Run, *, scheduler: Scheduler | None = None, force: bool = False) -> StageOutcome:
    """Write the Gram matrices and style spaces of all usable adapters to `run.embedding_path`.

    `scheduler` is what `dask.compute` takes; None means Dask's own threads. Adapters
    that are zero, not finite or failed are left out and named, never averaged in.
    Raises StageError before training is finished.
    """
    return _carry_out(run, scheduler, lambda _: force)


def bring_up_to_date(run: Run, scheduler: Scheduler | None = None) -> StageOutcome:
    """Embed unless it is done, anew where the adapters or what is wanted of them changed.

    Products that are still true are kept.
    """
    return _carry_out(run, scheduler, lambda state: state == "stale")


def _carry_out(
    run: Run, scheduler: Scheduler | None, is_forced: Callable[[str], bool]
) -> StageOutcome:
    upstream = "train" if run.is_planned else "ingest"
    before = run.upstream_hash(upstream)
    store = open_source(run)
    swept = _swept(run.experiment, store.layout)
    inputs = {
        upstream: before,
        "store": digest_of_contents(store),
        "embedding": run.experiment.embedding.model_dump(mode="json"),
        "calibration": run.experiment.protocol.calibration,
        **({"sweep": swept} if swept else {}),
    }
    force = is_forced(run.status("embed", inputs).state)
    return carry_out(run, "embed", inputs, lambda: _embed(run, store, scheduler), force=force)


def _swept(experiment: Experiment, layout: AdapterLayout) -> dict[str, list[str]]:
    """What only the sweep asks for, where that takes more matrices; else nothing."""
    own = embedded_products(experiment, layout.targets)
    wanted = wanted_products(experiment, layout.targets)
    representations = [name for name in wanted.representations if name not in own.representations]
    sub_networks = [name for name in wanted.expressions if name not in own.expressions]
    groups = (groups_for(layout, products.expressions) for products in (own, wanted))
    # A union of what is there takes no pass: embeddings that can answer stay current.
    if not representations and len({tuple(names) for names in groups}) == 1:
        return {}
    return {"representations": representations, "sub_networks": sub_networks}


def open_source(run: Run) -> Source:
    """Where the adapters lie that a run's style spaces are fitted on.

    Its trained ones; in a run without a plan, those that were ingested.
    """
    if run.is_planned:
        return AdapterStore.open(run.store_path)
    return IngestedStore.open(run.ingested_path)


def _embed(run: Run, store: Source, scheduler: Scheduler | None) -> dict[str, Any]:
    table, left_out = _usable(run, store)
    if len(table) < 2:
        raise TooFewAdaptersError(
            f"{run.location} has {len(table)} usable adapters, an embedding needs at least 2; "
            "see `lorastyle inspect` for what became of the others"
        )
    experiment, targets = run.experiment, store.layout.targets
    own, wanted = embedded_products(experiment, targets), wanted_products(experiment, targets)
    swept = _swept(experiment, store.layout)
    records = store.committed()
    update = update_grams(
        Wanted(
            store,
            table,
            [str(records[int(row)].checksum) for row in table["row"]],
            wanted.representations,
            groups_for(store.layout, wanted.expressions),
        ),
        run.embedding_path,
        memory_gib=experiment.compute.memory_gib,
        scheduler=scheduler,
        ledger=_shared_ledger(run) if scheduler is not None else None,
    )
    write_json(run.embedding_path / PASS_FILE, update.record)
    grams = update.grams
    written = write_spaces(grams, run.embedding_path, experiment)
    return {
        "n_adapters": len(table),
        "d": store.layout.size,
        "representations": list(own.representations),
        "sub_networks": list(own.expressions),
        **({"swept": swept} if swept else {}),
        "digest": grams.digest(),
        "n_spaces": len(written.n_components),
        "absent_spaces": dict(written.absent),
        "left_out": dict(sorted(Counter(left_out.values()).items())),
        "left_out_adapters": dict(list(left_out.items())[:NAMED]),
    }


def _shared_ledger(run: Run) -> Ledger | None:
    """Where tasks on any machine see it; None where they all see the run's directory."""
    if run.url is None:
        return None
    return BucketLedger(run.place.child(f"embedding/{LEDGER}"))


def _usable(run: Run, store: Source) -> tuple[pd.DataFrame, dict[str, str]]:
    if isinstance(store, AdapterStore):
        return usable_rows(store, read_plan(run))
    records = store.committed().values()
    left_out = {
        str(record.spec.get("adapter_id")): record.status
        for record in records
        if record.status != "ok"
    }
    return store.table(), left_out


def usable_rows(
    store: AdapterStore, specs: list[AdapterSpec]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The planned adapters that can be embedded, and by name why others cannot.

    The table is the store's. Rows that an earlier plan left there are not looked at.
    """
    records = store.committed()
    reasons = {spec.row: _unusable(records.get(spec.row), spec) for spec in specs}
    table = store.table()
    usable = [reasons.get(int(row), "not planned") is None for row in table["row"]]
    left_out = {spec.adapter_id: reason for spec in specs if (reason := reasons[spec.row])}
    return table[usable].reset_index(drop=True), left_out


def _unusable(record: CommitRecord | None, spec: AdapterSpec) -> str | None:
    if record is None or record.spec.get("adapter_id") != spec.adapter_id:
        return "absent"
    return None if record.status == "ok" else record.status
