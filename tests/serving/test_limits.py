"""What a server refuses, and that nothing of it is left."""

import asyncio
import tempfile
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from lorastyle.cli.main import main
from lorastyle.errors import ConfigError
from lorastyle.search.searcher import Searcher
from lorastyle.serving.app import app_of, make_app
from lorastyle.serving.counting import Counts
from lorastyle.serving.desk import Desk
from lorastyle.serving.pictures import Pictures
from lorastyle.serving.refusals import RefusedError
from lorastyle.serving.server import listen
from lorastyle.serving.settings import ServingSettings, check_access, hosts_for
from tests.serving.conftest import bytes_of, form

BODY = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nabc\r\n--b--\r\n'
FORM = "multipart/form-data; boundary=b"
TOKEN = "a" * 20


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    """Uploads of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def leftovers() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("lorastyle-upload-*"))


async def whole(body: bytes = BODY):
    yield body


@pytest.fixture
def desk(wild_run):
    """`desk(**settings)`; its bodies end by `desk.end`."""

    def make(**settings) -> Desk:
        return Desk(Searcher(wild_run), Pictures(wild_run), ServingSettings(**settings), Counts())

    return make


def message(answer) -> str:
    return answer.json()["error"]["message"]


def test_an_upload_above_the_limit_is_refused_said_beforehand_or_not(client):
    big = b"x" * (5 << 20)
    said = client.post("/inspect", files={"file": ("a", big)})
    body = BODY.replace(b"abc", big)
    unsaid = client.post(
        "/inspect",
        content=(body[first : first + 65536] for first in range(0, len(body), 65536)),
        headers={"content-type": FORM},
    )
    for answer in (said, unsaid):
        assert answer.status_code == 413
        assert "more than 4,194,304 bytes" in message(answer)
    assert not leftovers()


def test_an_upload_that_does_not_come_is_given_up(desk):
    async def slow():
        yield BODY[:40]
        await asyncio.sleep(60)

    counter = desk(receive_s=0.05)
    with pytest.raises(RefusedError, match=r"not there after 0\.05 s") as refused:
        asyncio.run(counter.take(slow(), FORM, ("file",), len))
    assert refused.value.status == 408 and not leftovers()


def test_work_that_takes_too_long_keeps_its_place_and_its_file_until_it_ends(desk):
    end, began = threading.Event(), threading.Event()
    counter = desk(work_s=0.05, n_at_once=1, memory_bytes=0)

    def long(upload) -> bytes:
        began.set()
        assert end.wait(20)
        return bytes_of(upload.files["file"])

    async def told() -> None:
        with pytest.raises(RefusedError) as late:
            await counter.take(whole(), FORM, ("file",), long)
        assert late.value.status == 504 and began.is_set() and len(leftovers()) == 1
        # A thread cannot be stopped, so it still counts as one of those at once.
        with pytest.raises(RefusedError) as busy:
            await counter.take(whole(), FORM, ("file",), len)
        assert busy.value.status == 429 and busy.value.headers["Retry-After"] == "1"
        end.set()
        while leftovers():
            await asyncio.sleep(0.01)
        assert await counter.take(whole(), FORM, ("file",), lambda _: "next") == "next"

    asyncio.run(told())


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_uploads_at_once_do_not_mix(desk, memory_bytes):
    counter = desk(n_at_once=8, n_workers=3, memory_bytes=memory_bytes)

    async def together() -> list[bytes]:
        return await asyncio.gather(
            *(
                counter.take(
                    whole(BODY.replace(b"abc", b"%d" % number)),
                    FORM,
                    ("file",),
                    lambda upload: bytes_of(upload.files["file"]),
                )
                for number in range(8)
            )
        )

    assert asyncio.run(together()) == [b"%d" % number for number in range(8)]
    assert not leftovers()


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 400),
        ("multipart/form-data", BODY, 400),
        (FORM, BODY[:-4], 400),
        (FORM, BODY.replace(b'"file"', b'"other"'), 400),
        (FORM, b"--b--\r\n", 400),
        (FORM, BODY[:-6] + b"\r\n" + BODY, 400),
        (FORM, BODY, 422),
    ],
)
def test_what_is_no_such_form_is_refused(client, kind, body, status):
    answer = client.post("/inspect", content=body, headers={"content-type": kind})
    assert answer.status_code == status and message(answer)
    assert not leftovers()


def test_wishes_that_cannot_be_granted_are_named(client, stranger):
    for wish, said in (
        ({"top_k": 0}, "top_k"),
        ({"representation": "x"}, "representation"),
        ({"components": 99}, "components, not 99"),
        ({"sub_network": "feed_foward"}, "did you mean 'feed_forward'"),
        # A space of its own would be made and kept for each.
        ({"sub_network": "full-to_q"}, "no style space of 'full-to_q'"),
    ):
        answer = client.post("/search", params=wish, files=form(stranger))
        assert answer.status_code == 422 and said in message(answer)


def test_a_token_is_asked_for_by_all_that_tells_of_the_run(wild_run, stranger):
    client = TestClient(make_app(wild_run, ServingSettings(token=TOKEN)))
    right, wrong = ({"Authorization": f"Bearer {word}"} for word in (TOKEN, TOKEN + "b"))
    for path in ("/about", "/map", "/metrics", "/adapters/0/image"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=wrong).status_code == 401
        assert client.get(path, headers=right).status_code in (200, 404)
    for path in ("/", "/page.js", "/page.css", "/healthz", "/openapi.json"):
        text = client.get(path).text
        assert "anna" not in text and str(wild_run.directory) not in text
    assert client.post("/search", files=form(stranger)).status_code == 401
    assert client.post("/search", files=form(stranger), headers=right).status_code == 200


def test_on_loopback_other_names_and_other_sites_pages_are_refused(desk):
    counter = desk(hosts=hosts_for("127.0.0.1"))
    client = TestClient(app_of(counter), base_url="http://127.0.0.1:8000")
    assert client.get("/healthz").status_code == 200
    assert client.get("/healthz", headers={"host": "[::1]:8000"}).status_code == 200
    assert client.get("/healthz", headers={"host": "rebound.example"}).status_code == 403
    other = {"sec-fetch-site": "cross-site"}
    assert client.post("/inspect", headers=other).status_code == 403


@pytest.mark.parametrize(
    ("host", "token", "said"),
    [
        ("0.0.0.0", None, "can be reached from other machines"),
        ("192.0.2.1", None, "no token is set"),
        ("shop.example", None, "no token is set"),
        ("127.0.0.1", "short", "5 characters"),
        ("127.0.0.1", "a" * 15 + "\n", "printable"),
    ],
)
def test_a_server_is_not_opened_to_others_without_a_good_token(host, token, said):
    with pytest.raises(ConfigError, match=said):
        check_access(host, token)


def test_the_command_refuses_before_it_reads_anything(wild_run, monkeypatch):
    monkeypatch.delenv("LORASTYLE_TOKEN", raising=False)
    result = CliRunner().invoke(main, ["serve", str(wild_run.directory), "--host", "0.0.0.0"])
    assert result.exit_code == 2 and "no token is set" in result.stderr
    check_access("127.0.0.1", None)
    check_access("0.0.0.0", TOKEN)


def test_a_port_that_is_taken_is_said_before_the_run_is_read(wild_run):
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["serve", str(wild_run.directory), "--port", port])
    assert result.exit_code == 2
    assert f"port {port}" in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_run_without_a_style_space_is_not_served(tmp_path):
    from lorastyle.errors import LorastyleError
    from lorastyle.ingest.new_run import experiment_for_adapters
    from lorastyle.runs import Run

    run = Run.create(tmp_path / "run", experiment_for_adapters("run", "miniature"))
    with pytest.raises(LorastyleError):
        make_app(run, ServingSettings())
