"""What it costs a search to be watched, and whether watchers lose anything.

    python -m benchmarks.watched_search [--pairs 5] [--clients 50] [--rollouts 60]

The same search on printed digits runs by itself and with a browser's requests (its stream of
events, its page once a second while something changes, the list every three seconds), in turns
whose order alternates. Processor seconds are those of the search and its workers. Then one search
runs with many streams at once: each must get every phase that the run wrote, and the end, and the
ratios must be those of an unwatched search, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

__all__ = ["Watched", "follow", "main"]

PAGE_SECONDS, LIST_SECONDS = 1.0, 3.0


@dataclass(frozen=True)
class Spent:
    """Seconds of a search: of processors, with its workers, and on the clock."""

    processor: float
    wall: float


@dataclass
class Watched:
    """What one stream told: phases in their order, and the state in the end."""

    phases: list[str]
    end: str = ""


@contextmanager
def _service(folder: Path) -> Iterator[tuple[str, dict[str, str], int]]:
    """A service over a folder: its address, the headers of a request, its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli.console", "serve", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    token = process.stdout.readline().strip().partition("token=")[2]
    try:
        yield address, {"authorization": f"Bearer {token}"}, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _command(run: Path, rollouts: int) -> list[str]:
    words = ["cnn_at_digits", "--config", "demo.yaml", f"--num_rollouts={rollouts}"]
    words += ["--patience=0", f"--run_dir={run}", "--nb_epochs=1"]
    return [sys.executable, "-m", "experiments.run", *words]


def _search(run: Path, rollouts: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(run, rollouts), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait(process: subprocess.Popen[bytes], begin: float) -> Spent:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the search failed with exit code {process.returncode}")
    return Spent(used.ru_utime + used.ru_stime, time.monotonic() - begin)


async def follow(
    client: httpx.AsyncClient, run: str, told: Watched, changed: asyncio.Event
) -> None:
    """Read a stream to its end; `changed` is set by every event."""
    while True:  # until the run is there
        if (await client.get(f"/runs/{run}")).status_code == 200:
            break
        await asyncio.sleep(0.2)
    async with client.stream("GET", f"/runs/{run}/events") as stream:
        event = ""
        async for line in stream.aiter_lines():
            name, _, value = line.partition(": ")
            event = value if name == "event" else event
            if name == "data":
                changed.set()
                fields = json.loads(value)
                if event == "phase":
                    told.phases.append(f"{fields['phase']} {fields['description']}")
                if event == "end":
                    told.end = fields["state"]


async def _browse(address: str, headers: dict[str, str], run: str) -> None:
    """What a page and a list that are both open ask for."""
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as client:
        changed = asyncio.Event()

        async def page() -> None:
            while True:
                await changed.wait()
                await asyncio.sleep(PAGE_SECONDS)
                changed.clear()
                await client.get(f"/view/{run}/live")

        async def rows() -> None:
            while True:
                await client.get("/rows")
                await asyncio.sleep(LIST_SECONDS)

        others = [asyncio.create_task(page()), asyncio.create_task(rows())]
        await follow(client, run, Watched([]), changed)
        for one in others:
            one.cancel()
            with suppress(asyncio.CancelledError):
                await one


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pairs(
    folder: Path, count: int, rollouts: int
) -> tuple[list[tuple[Spent, Spent]], list[float]]:
    """Seconds of the search alone and watched, in turns; and those of the service meanwhile."""
    found, served = list[tuple[Spent, Spent]](), list[float]()
    for number in range(count):
        spent: dict[bool, Spent] = {}
        for watched in ((False, True), (True, False))[number % 2]:
            run = folder / f"{'watched' if watched else 'alone'}-{number}"
            if not watched:
                spent[watched] = _wait(_search(run, rollouts), time.monotonic())
                continue
            with _service(folder) as (address, headers, pid):
                before = _processor_seconds(pid)
                begin, process = time.monotonic(), _search(run, rollouts)
                asyncio.run(_browse(address, headers, run.name))
                served.append(_processor_seconds(pid) - before)
                spent[watched] = _wait(process, begin)
        found.append((spent[False], spent[True]))
        alone, other = spent[False], spent[True]
        print(
            f"pair {number + 1}: alone {alone.processor:.2f} s of processors, {alone.wall:.1f} s; "
            f"watched {other.processor:.2f} s, {other.wall:.1f} s; the service {served[-1]:.2f} s",
            flush=True,
        )
    return found, served


def _many(folder: Path, clients: int, rollouts: int) -> list[Watched]:
    """What many streams of one search told."""

    async def watch(address: str, headers: dict[str, str], run: str) -> list[Watched]:
        limits = httpx.Limits(max_connections=None)
        told = [Watched([]) for _ in range(clients)]
        async with httpx.AsyncClient(
            base_url=address, headers=headers, timeout=None, limits=limits
        ) as client:
            await asyncio.gather(*(follow(client, run, one, asyncio.Event()) for one in told))
        return told

    with _service(folder) as (address, headers, _):
        process = _search(folder / "many", rollouts)
        told = asyncio.run(watch(address, headers, "many"))
        _wait(process, 0.0)
    return told


def _written(run: Path) -> list[str]:
    lines = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    return [f"{line['phase']} {line['description']}" for line in lines if line["event"] == "phase"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rollouts", type=int, default=60)
    own = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _wait(_search(folder / "first", own.rollouts), 0.0)  # trains the dense network
        pairs, served = _pairs(folder, own.pairs, own.rollouts)
        for what in ("processor", "wall"):
            ratios = [getattr(b, what) / getattr(a, what) for a, b in pairs]
            print(
                f"{what} seconds, watched / alone: median {statistics.median(ratios):.3f}, "
                f"from {min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} pairs"
            )
        print(f"the service itself: median {statistics.median(served):.2f} s of processors")
        told = _many(folder, own.clients, own.rollouts)
        written = _written(folder / "many")
        whole = sum(one.phases == written and one.end == "finished" for one in told)
        many, first = ((folder / run / "ratios.csv").read_bytes() for run in ("many", "first"))
        print(f"{whole} of {len(told)} streams got all {len(written)} phases and the end")
        print(f"ratios of the watched search are those of an unwatched one: {many == first}")


if __name__ == "__main__":
    main()
