"""The stream of events: nothing is lost, whoever comes when, however slowly they read."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.service import client, made_run, phase_lines, progress_line
from ws_learner.service import feed as feed_module
from ws_learner.service.feed import Event, Feed, Feeds, _compact, _Reader

PHASES = ["dense", "database", "search", "finalists", "training", "report"]


async def watch(feeds: Feeds, path: Path, state: Callable[[], str], *, slow: float = 0.0,
                late: float = 0.0) -> list[str]:  # fmt: skip
    """What one watcher is told: event and phase, and the end."""
    await asyncio.sleep(late)
    told = []
    async with feeds.of(path, state) as feed:
        async for one in feed.events(0):
            told.append(one if isinstance(one, str) else f"{one.line.event} {one.line.phase}")
            await asyncio.sleep(slow)
    return told


def test_fifty_watchers_get_every_phase_and_the_end(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(feed_module, "SECONDS_BETWEEN_READS", 0.01)
    path, lines, running = made_run(tmp_path), phase_lines(PHASES, advances=20), [True]

    async def write() -> None:
        with (path / "progress.jsonl").open("ab") as file:
            for line in lines:
                data = line.encode()
                for piece in (data[:40], data[40:]):  # a reader may see half a line
                    file.write(piece)
                    file.flush()
                    await asyncio.sleep(0.002)
        running[0] = False

    async def everything() -> list[list[str]]:
        feeds = Feeds()
        state = lambda: "running" if running[0] else "finished"  # noqa: E731
        watchers = [
            watch(feeds, path, state, slow=0.004 * (i % 3), late=0.02 * (i % 10)) for i in range(50)
        ]
        told = await asyncio.gather(write(), *watchers)
        assert feeds._feeds == {}  # nothing is read once nobody watches
        return list(told[1:])

    for told in asyncio.run(everything()):
        assert told[-1] == "finished"
        assert [one for one in told if one.startswith("phase")] == [f"phase {p}" for p in PHASES]
        assert told[-2].startswith("state")


def test_a_killed_run_ends_its_streams(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(feed_module, "SECONDS_BETWEEN_READS", 0.01)
    monkeypatch.setattr(feed_module, "_SECONDS_AFTER_THE_END", 0.1)
    path = made_run(tmp_path, finished=False)
    (path / "progress.jsonl").write_text("".join(phase_lines(PHASES)[:7]))
    states = iter(["running"] * 5)
    told = asyncio.run(watch(Feeds(), path, lambda: next(states, "stopped")))
    assert told[-1] == "stopped"
    assert told[0] == "state "


def test_a_stream_over_http_has_names_ids_and_an_end(tmp_path: Path) -> None:
    path = made_run(tmp_path)
    (path / "progress.jsonl").write_text("".join(phase_lines(["search", "training"])))
    asked = client(tmp_path)
    answer = asked.get("/runs/run/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
              for block in answer.text.replace("\r\n", "\n").strip().split("\n\n")]  # fmt: skip
    assert [b["event"] for b in blocks][-2:] == ["state", "end"]
    assert json.loads(blocks[-1]["data"]) == {"state": "finished"}
    assert sum(b["event"] == "phase" for b in blocks) == 2
    ids = [int(b["id"]) for b in blocks[:-1]]
    assert ids == sorted(set(ids))
    middle = str(ids[3])
    rest = asked.get("/runs/run/events", headers={"last-event-id": middle}).text
    assert f"id: {ids[4]}\r\n" in rest
    assert f"id: {ids[3]}\r\n" not in rest
    assert asked.get("/runs/run/events?after=999").text.count("event: ") == 1  # the end


@settings(max_examples=25)
@given(st.lists(st.integers(1, 60), max_size=30), st.integers(0, 2**31))
def test_any_cut_of_the_file_gives_the_same_events(cuts: list[int], seed: int) -> None:
    import tempfile

    lines = phase_lines(["search", "training"])
    lines.insert(seed % len(lines), "no line\n")
    data = "".join(lines).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "progress.jsonl"
        reader, place = _Reader(path), 0
        assert not reader.read()
        for cut in [*cuts, len(data)]:
            with path.open("ab") as file:
                file.write(data[place : place + cut])
            place += cut
            reader.read()
        assert [one.number for one in reader.events] == list(range(1, len(lines)))
        assert reader.events[-1].line.state == "finished"


def test_old_advances_are_left_out_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text("".join(phase_lines(PHASES, advances=2000)))
    reader = _Reader(path)
    reader.read()
    assert len(reader.events) <= 2000
    kept: list[Event] = reader.events
    assert [e.line.phase for e in kept if e.line.event == "phase"] == PHASES
    ends = {e.line.phase: e.line.done for e in kept if e.line.event == "progress"}
    assert ends == dict.fromkeys(PHASES, 2000.0)
    assert _compact(kept) == kept


def test_a_file_that_begins_again_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_text("".join(phase_lines(["search", "training"])))
    reader = _Reader(path)
    reader.read()
    before = reader.events[-1].number
    os.truncate(path, 0)
    path.write_text(progress_line("state"))
    assert reader.read()
    assert reader.events[-1].number == before + 1


def test_a_feed_counts_its_watchers(tmp_path: Path) -> None:
    async def cancelled() -> int:
        path = made_run(tmp_path, finished=False)
        feed = Feed(path, lambda: "running")
        async with feed.watched():
            watcher = asyncio.create_task(anext(feed.events(0)))
            await asyncio.sleep(0.05)
            watcher.cancel()  # the browser has gone
            await asyncio.gather(watcher, return_exceptions=True)
            assert feed.watchers == 1
        return feed.watchers

    assert asyncio.run(cancelled()) == 0
