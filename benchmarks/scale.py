"""Peak memory and time of what the library does to large networks.

    python -m benchmarks.scale [--cases resnet50:lamp ...] [--against CHECKOUT]

Each case runs in a process of its own, on a network of random weights. `ratio` is the most memory
at any time of the operation, without what was there before it and with the network, in units of
the network. `state` is what a training holds besides network and libraries, likewise.
`whole` is the most memory of the process, with libraries and examples. Processor seconds are those
of user and system, on all threads. With `--against` each case is measured with another checkout,
too, right after.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CASES", "Options", "main"]

CASES = (
    *(f"{net}:{what}" for net in ("resnet50", "bert") for what in ("uniform", "global", "lamp")),
    *(f"{net}:{what}" for net in ("resnet50", "bert") for what in ("prune", "gradual")),
    *(f"billion:{what}" for what in ("uniform", "global", "lamp", "prune", "gradual")),
    "resnet50:database",
    "bert:database",
)
"""Network and operation: a protocol at 90 %, masks of a functional call (`prune`), two mask updates
of gradual pruning (`gradual`), and a layer database of 512 examples."""

_HEAD = ("case", "build", "weights", "seconds", "processor s", "ratio", "state", "whole GiB")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Peak memory and time on large networks.

    Attributes:
        cases: Network and operation, as in `CASES`.
        against: Another checkout to measure, too.
        threads: Threads of PyTorch; a layer database takes all cores whatever this says.
    """

    cases: tuple[str, ...] = CASES
    against: Path | None = None
    threads: int = 1


def main(options: Options) -> None:
    """Measure and print a table in Markdown."""
    print("| " + " | ".join(_HEAD) + " |\n|" + "---|" * len(_HEAD), flush=True)
    here = Path(__file__).resolve().parents[1]
    builds = {"this": here} | ({"other": options.against} if options.against else {})
    for case in options.cases:
        for name, checkout in builds.items():
            print(_row(case, name, _measure(case, checkout, options.threads)), flush=True)


def _measure(case: str, checkout: Path, threads: int) -> dict[str, Any]:
    """What `benchmarks.scale_cases` prints, or why it failed."""
    script = Path(__file__).with_name("scale_cases.py")
    env = {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-P", str(script), *case.split(":")],
        env=os.environ | env,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        return {"failed": f"exit code {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(case: str, build: str, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"| {case} | {build} | {found['failed']} |" + " |" * (len(_HEAD) - 3)
    model = found["model"]
    cells = (
        f"{found['weights'] / 1e6:.1f} M",
        f"{found['seconds']:.1f}",
        f"{found['processor']:.1f}",
        f"{1 + (found['peak'] - found['before']) / model:.2f}",
        f"{found['state'] / model:.2f}",
        f"{found['whole'] / 2**30:.2f}",
    )
    return f"| {case} | {build} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
