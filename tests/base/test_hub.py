"""Models on the hub: the local cache in its true structure, and a hub that this machine serves."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
import torch

from lorastyle.base.loading import load_base
from lorastyle.base.lookup import base_identity
from lorastyle.base.source import local_path
from lorastyle.errors import HubError
from lorastyle.hub import split_revision
from tests.base.conftest import COMMIT, configs_only, write_snapshot
from tests.base.test_folders import add_variant

NAME = "artist/tiny-diffusion"
OTHER_COMMIT = "f" * 40


def test_a_cached_model_is_that_of_the_folder_and_its_commit_is_recorded(
    folders, loaded, hub_cache
):
    write_snapshot(hub_cache, NAME, folders["sd1"])
    base, folder = load_base(NAME), loaded["sd1"]
    assert base.identity.sha256 == folder.identity.sha256
    assert (base.identity.revision, folder.identity.revision) == (COMMIT, None)
    assert base.identity.to_dict()["revision"] == COMMIT
    assert base.identity == base_identity(NAME)
    ours, theirs = base.unet.state_dict(), folder.unet.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_a_clone_of_the_whole_repository_is_the_same_model(folders, hub_cache, tmp_path):
    write_snapshot(hub_cache, NAME, folders["sd1"])
    clone = shutil.copytree(folders["sd1"], tmp_path / "clone")
    add_variant(add_variant(clone, "fp16"), "non_ema")
    assert base_identity(str(clone)).sha256 == base_identity(NAME).sha256


def test_a_revision_is_chosen_by_its_name_or_its_commit(folders, hub_cache, tmp_path):
    write_snapshot(hub_cache, NAME, folders["sd1"])
    write_snapshot(hub_cache, NAME, folders["sd2"], OTHER_COMMIT, ref="v2")
    assert base_identity(NAME).revision == COMMIT
    for revision in ("v2", OTHER_COMMIT):
        said = base_identity(f"{NAME}@{revision}")
        assert (said.revision, said.cross_attention_dim) == (OTHER_COMMIT, 1024)
        assert said.name == f"{NAME}@{revision}"
    assert local_path(f"{NAME}@v2").name == OTHER_COMMIT


def test_a_name_is_split_at_its_revision():
    assert split_revision("owner/name@refs/pr/3") == ("owner/name", "refs/pr/3")
    assert split_revision("owner/name@") == ("owner/name", None)


@pytest.mark.parametrize("name", [NAME, f"{NAME}@v9", f"{NAME}@{OTHER_COMMIT}"])
def test_what_is_not_whole_here_and_cannot_be_fetched_says_so(name, folders, hub_cache, tmp_path):
    write_snapshot(hub_cache, NAME, configs_only(folders["sd1"], tmp_path / "configs"))
    with pytest.raises(HubError, match=rf"'{name}' is not whole .* cannot be fetched"):
        load_base(name)


@pytest.mark.parametrize("name", ["artist/..", "artist/a--b", "ar\u00e9/\u96ea"])
def test_names_that_the_hub_cannot_have_are_refused(name, hub_cache):
    with pytest.raises(HubError):
        load_base(name)


def test_a_download_that_was_cut_short_is_not_taken_for_the_model(folders, hub_cache):
    snapshot = write_snapshot(hub_cache, NAME, folders["sd1"])
    (snapshot / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(HubError, match="is not whole in the local cache"):
        base_identity(NAME)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: a model's files, by name and by content."""

    folder: Path
    served: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        files = sorted(
            str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file()
        )
        if path.startswith(f"/api/models/{NAME}/tree/"):
            self.answer(json.dumps([self.entry(file) for file in files]).encode())
        elif path in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/v1"):
            siblings = [{"rfilename": file} for file in files]
            self.answer(json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode())
        elif path.removeprefix(f"/{NAME}/resolve/{COMMIT}/") in files:
            file = path.removeprefix(f"/{NAME}/resolve/{COMMIT}/")
            self.served.append(file)
            self.answer((self.folder / file).read_bytes(), etag=self.entry(file)["oid"])
        else:
            self.send_error(404)

    def entry(self, file):
        size = (self.folder / file).stat().st_size
        oid = hashlib.sha1(file.encode()).hexdigest()
        return {"type": "file", "path": file, "size": size, "oid": oid}

    def answer(self, content, etag="0"):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder):
    kind = type("HubOf", (Hub,), {"folder": folder, "served": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", kind.served
        finally:
            server.shutdown()
            thread.join()


def ask(code, endpoint, home, *arguments):
    """Run by a process of its own: the hub's client reads its environment at import."""
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
    environment = {key: value for key, value in os.environ.items() if key not in offline}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**environment, "HF_ENDPOINT": endpoint, "HF_HOME": str(home)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


IDENTITY = (
    "import json, sys; from lorastyle.base.lookup import base_identity;"
    "print(json.dumps(base_identity(sys.argv[1]).to_dict()))"
)


def test_only_the_files_that_are_loaded_are_fetched_and_then_the_hub_is_not_asked(
    folders, tmp_path
):
    there = shutil.copytree(folders["sd1"], tmp_path / "there")
    add_variant(add_variant(there, "fp16"), "non_ema")
    (there / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (there / "pipeline.py").write_text("raise SystemExit('code of strangers')")
    with serving(there) as (endpoint, served):
        done = ask(IDENTITY, endpoint, tmp_path / "home", f"{NAME}@v1")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["revision"] == COMMIT
    assert said["sha256"] == base_identity(str(folders["sd1"])).sha256
    fetched = {file for file in served if not file.endswith((".json", ".txt"))}
    assert fetched == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    # The server is gone: what is whole in the cache needs none.
    assert json.loads(ask(IDENTITY, endpoint, tmp_path / "home", f"{NAME}@v1").stdout) == said


def test_a_hub_that_cannot_be_reached_is_one_sentence_and_no_waiting(tmp_path):
    code = (
        "import sys; from lorastyle.base.lookup import base_identity;"
        "from lorastyle.errors import HubError\n"
        "try: base_identity(sys.argv[1])\n"
        "except HubError as error: print(error)"
    )
    done = ask(code, "http://127.0.0.1:9", tmp_path, NAME)
    assert "cannot be fetched" in done.stdout and done.stdout.count("\n") == 1
    assert "Retrying" not in done.stderr
