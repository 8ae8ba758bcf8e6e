"""A name reaches a run of the folder and its plain files; nothing else, however it is spelled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.service import client, made_run, service_of
from ws_learner.service.run_folder import NotThereError, RunFolder

SECRET = "the-secret-of-another-folder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Runs with links out of the folder, beside a secret."""
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.txt").write_text(SECRET)
    runs = tmp_path / "runs"
    run = made_run(runs)
    (run / "link.txt").symlink_to(tmp_path / "secret.txt")
    (run / "folder").symlink_to(tmp_path / "elsewhere")
    (run / "loop").symlink_to(run / "loop")
    (run / "inner.csv").symlink_to(run / "ratios.csv")
    (run / ".hidden").write_text(SECRET)
    os.mkfifo(run / "pipe")
    (runs / "linked").symlink_to(tmp_path / "elsewhere")
    (runs / ".service").mkdir()
    (runs / ".service" / "secret.txt").write_text(SECRET)
    return runs


SPELLINGS = [
    *("../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "%2e%2e%2fsecret.txt"),
    *("..%252fsecret.txt", "..\\secret.txt", "..%5csecret.txt", "figures/../../secret.txt"),
    *("link.txt", "folder/secret.txt", "folder", "loop", ".hidden", "%2ehidden", "pipe", ""),
    *("/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "ratios.csv/", "ratios.csv%00", "a%0d%0ab"),
    *("figures//x", "%", "%zz", "~/x", "C:/x", "x" * 5000, "../.service/secret.txt"),
]
RUNS = ["..%2fruns", "..%5cruns", "linked", ".service", "%2eservice", "run%2f..", "run%00", "~"]
RUNS += ["none", "x" * 3000, "run%0a", "%2f", "run/", "RUN"]


def test_no_spelling_reaches_a_file_outside(folder: Path) -> None:
    asked = client(folder)
    for name in SPELLINGS:
        answer = asked.get(f"/runs/run/files/{name}")
        assert answer.status_code in (404, 405, 307), name
        assert SECRET not in answer.text
    assert asked.get("/runs/run/files/inner.csv").status_code == 200
    for run in RUNS:
        for rest in ("", "/files/secret.txt", "/model"):
            answer = asked.get(f"/runs/{run}{rest}")
            assert answer.status_code in (404, 307), (run, rest)
            assert SECRET not in answer.text
        assert asked.post(f"/runs/{run}/stop").status_code in (404, 405, 307), run
        assert asked.post(f"/runs/{run}/resume").status_code in (404, 405, 307), run
        assert asked.get("/compare", params={"run": ["run", run]}).status_code == 404, run


def test_raw_paths_that_a_client_would_tidy(folder: Path) -> None:
    """Programs need not normalise a path; the server gets it as it is."""
    import anyio

    app = service_of(folder)

    async def ask(path: str) -> tuple[int, bytes]:
        from tests.support.service import BEARER, HOST

        sent: list[dict[str, object]] = []
        headers = [(b"host", HOST.encode()), (b"authorization", BEARER["authorization"].encode())]
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode()}
        scope |= {"query_string": b"", "headers": headers, "scheme": "http", "root_path": ""}
        scope |= {"http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8400)}

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: object) -> None:
            assert isinstance(message, dict)
            sent.append(message)

        await app(scope, receive, send)
        status = sent[0]["status"]
        assert isinstance(status, int)
        return status, b"".join(one.get("body", b"") for one in sent[1:])  # type: ignore[misc]

    for path in (
        "/runs/run/files/../../../secret.txt",
        "/runs/run/files//etc/passwd",
        "/runs/../secret.txt",
        "/static/../app.py",
        "/static/../../service/app.py",
        "/static//etc/passwd",
        "/static/%2e%2e/app.py",
    ):
        status, body = anyio.run(ask, path)
        assert status == 404, path
        assert SECRET.encode() not in body
        assert b"import" not in body


@settings(max_examples=30)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_a_file_inside_or_nothing(name: str, inside: str) -> None:
    root = Path(__file__).parents[1]  # tests/: its folders stand for runs
    folder = RunFolder(root)
    try:
        found = folder.file(name, inside)
    except NotThereError:
        return
    assert found.is_relative_to(root)


def test_the_list_of_files_holds_what_can_be_asked_for(folder: Path) -> None:
    listed = {one.name for one in RunFolder(folder).files("run")}
    assert {"ratios.csv", "rollouts.csv", "inner.csv", "model.safetensors"} <= listed
    assert not listed & {"link.txt", "folder/secret.txt", "pipe", ".hidden", "loop"}
    asked = client(folder)
    for name in listed:
        assert asked.get(f"/runs/run/files/{name}").status_code == 200


def test_a_report_has_no_rights_of_this_site(folder: Path) -> None:
    (folder / "run" / "report.html").write_text("<script>alert(1)</script>")
    (folder / "run" / "x.html").write_text("<script>alert(1)</script>")
    (folder / "run" / "x.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    asked = client(folder)
    policy = asked.get("/runs/run/report.html").headers["content-security-policy"]
    assert "sandbox" in policy
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy  # default-src 'none' holds
    page = asked.get("/runs/run/files/x.html")
    assert page.headers["content-disposition"].startswith("attachment")
    for name in ("x.html", "x.svg", "ratios.csv"):
        found = asked.get(f"/runs/run/files/{name}").headers["content-security-policy"]
        assert found.startswith("sandbox; default-src 'none'")
    text = asked.get("/runs/run/files/ratios.csv")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
