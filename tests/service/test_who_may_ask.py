"""Token, Host, Origin, sizes and headers: what is refused before any route sees it."""

from __future__ import annotations

from pathlib import Path

from tests.support.service import HOST, TOKEN, RecordingStarter, client, made_run, service_of

ALL = ["/", "/rows", "/runs", "/runs/run", "/runs/run/events", "/runs/run/model", "/new"]
ALL += ["/runs/run/files/config.yaml", "/view/run", "/compare?run=run", "/openapi.json"]
ALL += ["/experiments", "/nothing", "/?token=wrong", "/docs", "/redoc"]


WITHOUT: list[dict[str, str]] = [
    {"authorization": ""},
    {"authorization": "Bearer "},
    {"authorization": f"Bearer {TOKEN[:-1]}"},
    {"authorization": f"Basic {TOKEN}"},
    {"authorization": "", "cookie": "ws_learner=other"},
    {"authorization": "", "cookie": f"other={TOKEN}"},
    {"authorization": "", "cookie": "=;;\x7f"},
]
COOKIE = {"authorization": "", "cookie": f"ws_learner={TOKEN}"}


def test_nothing_is_told_without_the_token(tmp_path: Path) -> None:
    made_run(tmp_path)
    service = service_of(tmp_path)
    for headers in WITHOUT:
        stranger = client(service, **headers)
        for address in ALL if headers == WITHOUT[0] else ALL[:4]:
            answer = stranger.get(address)
            assert answer.status_code == 401, (headers, address)
            assert "gradual" not in answer.text


def test_nothing_is_done_without_the_token(tmp_path: Path) -> None:
    made_run(tmp_path)
    starter = RecordingStarter()
    service = service_of(tmp_path, starter=starter)
    for headers in (*WITHOUT, *(one | {"origin": f"http://{HOST}"} for one in WITHOUT)):
        for address in ("/runs/run/stop", "/runs/run/resume", "/runs", "/new", "/view/run/stop"):
            answer = client(service, **headers).post(address, json={"experiment": "one"})
            assert answer.status_code in (401, 403), (headers, address)
    assert starter.started == starter.resumed == []


def test_another_host_name_is_refused_even_with_the_token(tmp_path: Path) -> None:
    service = service_of(tmp_path)
    for host in ("evil.example", "127.0.0.1", "127.0.0.1:1", "x@127.0.0.1:8400", "127.0.0.1:8400."):
        for address in ("/runs", "/static/live.js", "/login", f"/?token={TOKEN}"):
            assert client(service, host=host).get(address).status_code == 421, host
    assert client(service, host="LOCALHOST:8400").get("/runs").status_code == 421
    assert client(service, host=HOST).get("/runs").status_code == 200


def test_requests_of_other_sites_are_refused(tmp_path: Path) -> None:
    starter = RecordingStarter()
    service = service_of(tmp_path, starter=starter)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"ftp://{HOST}", ""):
        asked = client(service, origin=origin, **COOKIE)
        form = {"experiment": "one", "action": "start"}
        assert asked.post("/new", data=form).status_code == 403, origin
        assert asked.post("/runs", json={"experiment": "one"}).status_code == 403, origin
        if origin:
            assert client(service, origin=origin).get("/runs").status_code == 403, origin
    assert starter.started == []
    ours = client(service, origin=f"http://{HOST}", **COOKIE)
    assert ours.post("/new", data={"experiment": "one", "action": "start"}).status_code == 303
    assert starter.started == ["planned"]


def test_no_answer_allows_another_origin(tmp_path: Path) -> None:
    service = service_of(tmp_path)
    for origin in (f"http://{HOST}", ""):
        headers = client(service, origin=origin).get("/runs").headers
        assert not [name for name in headers if name.startswith("access-control")]
    assert client(service, origin=f"http://{HOST}").options("/runs").status_code == 405


def test_a_browser_logs_in_once(tmp_path: Path) -> None:
    service = service_of(tmp_path)
    browser = client(service, authorization="", accept="text/html")
    asked = browser.get("/view/run")
    assert asked.status_code == 401
    assert 'name="token"' in asked.text
    let_in = browser.get(f"/?token={TOKEN}")
    assert (let_in.status_code, let_in.headers["location"]) == (303, "/")
    flags = let_in.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=strict" in flags
    assert browser.get("/").status_code == 200
    typed = client(service, authorization="", origin=f"http://{HOST}")
    assert typed.post("/login", data={"token": "no"}).status_code == 401
    assert typed.post("/login", data={"token": TOKEN}).status_code == 303
    assert typed.get("/runs").status_code == 200


def test_large_slow_and_broken_bodies_are_refused(tmp_path: Path) -> None:
    starter = RecordingStarter()
    asked = client(tmp_path, starter=starter)
    huge = b"x" * 100_000
    assert asked.post("/runs", content=huge).status_code == 413
    assert asked.post("/runs", content=iter([huge])).status_code == 413  # without a length
    assert asked.post("/runs", content=b"", headers={"content-length": "9" * 30}).status_code == 413
    numbers = (b"NaN", b"1e999", b"-Infinity", b"9" * 5000, b"true", b"[]", b'"x"')
    bodies = [b'{"experiment": "one", "prune_ratio": ' + one + b"}" for one in numbers]
    for body in (*bodies, b"{", b"[1]", b"\xff\xfe", b"", b"[" * 20_000, b'{"experiment": 3}'):
        answer = asked.post("/runs", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), body[:10]
    for fields in ({"experiment": "one", "run_dir": "/tmp/x"}, {"experiment": "one" * 200}):
        assert asked.post("/runs", json=fields).status_code == 422
    assert starter.started == []


def test_other_methods_are_refused(tmp_path: Path) -> None:
    asked = client(tmp_path)
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT"):
        assert asked.request(method, "/runs").status_code == 405


def test_every_answer_has_the_headers_of_safety(tmp_path: Path) -> None:
    service = service_of(tmp_path)
    for headers in (dict[str, str](), {"authorization": ""}, {"host": "evil.example"}):
        for address in ("/", "/runs", "/nothing", "/static/live.js", "/view/none"):
            found = client(service, **headers).get(address).headers
            assert found["x-content-type-options"] == "nosniff"
            assert found["x-frame-options"] == "DENY"
            assert found["referrer-policy"] == "same-origin"
            policy = found["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "http" not in policy
            assert "unsafe" not in policy


def test_pages_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    made_run(tmp_path)
    asked = client(tmp_path, starter=RecordingStarter())
    for address in ("/", "/view/run", "/new", "/login"):
        text = asked.get(address).text
        assert "http://" not in text
        assert "https://" not in text
        assert " style=" not in text
        assert "<script>" not in text
