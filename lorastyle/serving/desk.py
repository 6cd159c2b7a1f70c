"""The desk: takes an upload, has it worked on in a thread, and gives the answer.

Answers are the documents that `lorastyle search --json`, `compare` and `inspect` print.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.embedding.blas import one_blas_thread
from lorastyle.errors import ConfigError, LorastyleError
from lorastyle.search.description import describe, describe_file, is_whole
from lorastyle.search.searcher import Searcher, Wishes
from lorastyle.search.verdicts import EXACT_RANK, compare_adapters
from lorastyle.search.words import FAMILY_NAMES, VERDICT_WORDS
from lorastyle.serving.counting import Counts
from lorastyle.serving.map_points import map_of, on_the_map
from lorastyle.serving.pictures import Pictures
from lorastyle.serving.refusals import busy, took_too_long
from lorastyle.serving.settings import ServingSettings
from lorastyle.serving.uploads import Received, Upload, receive

Answer = TypeVar("Answer")


class Desk:
    """Serves one run. `open` first; it reads the gallery."""

    def __init__(
        self, searcher: Searcher, pictures: Pictures, settings: ServingSettings, counts: Counts
    ) -> None:
        self.searcher, self.pictures = searcher, pictures
        self.settings, self.counts = settings, counts
        self._pool: ThreadPoolExecutor | None = None
        self._n_at_once = 0

    @property
    def name(self) -> str:
        """Of the run: where it lies is nobody's business."""
        return self.searcher.run.experiment.name

    def open(self) -> None:
        """Read what searches share. Raises StageError where the run has no style space."""
        ready = self.searcher.warm()
        self.counts.adapters.set(int(ready.gallery.is_ranked.sum()))

    def close(self) -> None:
        """Let go of the threads. What is being worked on ends by itself."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def take(
        self,
        chunks: AsyncIterator[bytes],
        content_type: str,
        wanted: Sequence[str],
        body: Callable[[Upload], Answer],
        expected: int = 0,
    ) -> Answer:
        """Receive the files of a form and have `body` carried out on them, within the limits.
        `expected`: bytes that its sender speaks of.

        Raises RefusedError, and whatever `body` raises.
        """
        if self._n_at_once >= self.settings.n_at_once:
            raise busy(self.settings.n_at_once)
        self._change(+1)
        upload: Upload | None = None
        try:
            upload = await receive(
                chunks,
                content_type,
                wanted,
                max_bytes=self.settings.max_upload_bytes,
                memory_bytes=self.settings.memory_bytes,
                seconds=self.settings.receive_s,
                expected=expected,
            )
            self.counts.uploaded.inc(upload.n_bytes)
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._threads(), _told, body, upload)
        except BaseException:
            self._release(upload)
            raise

        def ended(done: asyncio.Future[Answer]) -> None:
            # Only now: a thread that nobody waits for any longer still needs its file, and
            # still is one of those at once.
            self._release(upload)
            if not done.cancelled():
                done.exception()

        work.add_done_callback(ended)
        await asyncio.wait({work}, timeout=self.settings.work_s)
        if not work.done():
            work.cancel()
            raise took_too_long(self.settings.work_s)
        return work.result()

    def search(self, upload: Upload, wishes: Wishes, *, details: bool = False) -> dict[str, Any]:
        """As `lorastyle search --json`; with details also `inspect` and where it is on the map."""
        file = upload.files["file"]
        wishes = self._allowed(wishes)
        # Hashing takes longer than reading, and few files are looked at for their very bytes.
        read = self.searcher.read(file.file, self.settings.limits, hashed=details)
        finding = self.searcher.find(_called(read, file), wishes, file.sha256)
        result = finding.result
        document = {"run": self.name, "file": file.name, **result.to_dict()}
        if details:
            x, y = on_the_map(finding.point[None])[0]
            space = f"{result.representation}/{result.sub_network}"
            document["place"] = {"space": space, "x": float(x), "y": float(y)}
            document["inspect"] = self._described(read, file)
        return document

    def _described(self, read: Adapter, file: Received) -> dict[str, Any]:
        """As `inspect`, of a file that was read for a search."""
        return describe(read, file.name) if is_whole(read) else self._inspected(file)

    def inspect(self, upload: Upload) -> dict[str, Any]:
        """As `lorastyle inspect --json` of a file."""
        return self._inspected(upload.files["file"])

    def _inspected(self, file: Received) -> dict[str, Any]:
        return {**describe_file(file.file, self.settings.limits), "path": file.name}

    def compare(self, upload: Upload) -> dict[str, Any]:
        """As `lorastyle compare --json`."""
        files = [upload.files[name] for name in ("first", "second")]
        first, second = (
            _called(
                read_adapter(one.file, limits=self.settings.limits, max_rank=EXACT_RANK),
                one,
            )
            for one in files
        )
        found = compare_adapters(first, second).to_dict()
        return {"first": files[0].name, "second": files[1].name, **found}

    def map(self, key: str | None) -> dict[str, Any] | None:
        """The map of a space, by default the one that is searched; None where there is none."""
        ready = self.searcher.warm() if key is None else self.searcher.gallery_of(key)
        return None if ready is None else map_of(ready.gallery)

    def about(self) -> dict[str, Any]:
        """What the page needs to know beforehand."""
        gallery = self.searcher.warm().gallery
        table = gallery.table[gallery.is_ranked]
        return {
            "run": self.name,
            "base": self.searcher.run.experiment.base,
            "n_adapters": len(table),
            "n_artists": int(table["artist"].replace("", None).nunique()),
            "n_pictures": len(self.pictures),
            "sub_networks": list(self.searcher.sub_networks),
            "max_upload_bytes": self.settings.max_upload_bytes,
            "verdicts": dict(VERDICT_WORDS),
            "families": dict(FAMILY_NAMES),
        }

    def _allowed(self, wishes: Wishes) -> Wishes:
        """Any expression would be a space of its own, made, kept and never asked for again."""
        wishes = wishes.checked()
        named = self.searcher.sub_networks
        if wishes.sub_network is not None and wishes.sub_network not in named:
            raise ConfigError(
                f"the run has no style space of {wishes.sub_network!r}, only of {', '.join(named)}"
            )
        return wishes

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            n = self.settings.n_workers
            self._pool = ThreadPoolExecutor(n, thread_name_prefix="lorastyle-desk")
        return self._pool

    def _release(self, upload: Upload | None) -> None:
        if upload is not None:
            upload.close()
        self._change(-1)

    def _change(self, by: int) -> None:
        self._n_at_once += by
        self.counts.at_once.set(self._n_at_once)


def _called(adapter: Adapter, file: Received) -> Adapter:
    return Adapter(file.name, adapter.updates, adapter.facts)


def _told(body: Callable[[Upload], Answer], upload: Upload) -> Answer:
    """Errors speak of files by the names that their sender gave them."""
    try:
        # Requests are what is worked on side by side: products of all cores each would wait for
        # one another.
        with one_blas_thread():
            return body(upload)
    except LorastyleError as error:
        message = str(error)
        for file in upload.files.values():
            message = file.told(message)
        error.args = (message,)
        raise
