"""`ws-learner VERB ...`: the installed command. Free of torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

__all__ = ["VERBS", "main"]

DEMO = ("cnn_at_digits", "--config", "demo.yaml")
VERBS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "prune": ("experiments.run", (), "prune a network: the command line of ./run_local.sh"),
    "export": (
        "experiments.export",
        (),
        "write a finished run as ONNX, safetensors, wsr or a deploy folder",
    ),
    "generate": ("experiments.generate", (), "text from a pruned language model, compiled"),
    "report": ("experiments.report", (), "write a finished run's report as one page to send"),
    "inspect": ("experiments.inspect_model", (), "count the zeros of a saved network"),
    "sensitivity": (
        "experiments.sensitivity",
        (),
        "which layers matter: each pruned alone, without training",
    ),
    "policy": ("experiments.policy", (), "what a search has learned: profiles for any target"),
    "runs": ("experiments.cli.runs.list_command", (), "list the runs of a folder"),
    "compare": (
        "experiments.cli.runs.compare_command",
        (),
        "runs side by side: settings, metrics with intervals, ratios",
    ),
    "label": ("experiments.cli.runs.label_command", (), "name a run, or tag it"),
    "new": ("experiments.cli.new_file", (), "write an experiment file of your own to start from"),
    "serve": ("experiments.cli.serve.command", (), "live pages and REST over a folder of runs"),
    "demo": ("experiments.run", DEMO, "the whole job on printed digits, in a minute"),
}
"""Verb -> module whose `main` runs it, arguments that come first, one line of help."""

USAGE = """\
usage: ws-learner VERB [arguments]

Make a PyTorch network sparse: search each layer's prune ratio, train, report, export.

Verbs:
{verbs}

Examples:
  ws-learner demo                                     # no data, no flags; ends in a report
  ws-learner new my_experiment.py --kind text         # writes it; then: ws-learner prune ...
  ws-learner prune resnet_at_cifar10 --prune_ratio 0.9
  ws-learner prune my_experiment.py --pattern 2:4
  ws-learner report runs/<one> --out report.html      # a page to send
  ws-learner inspect runs/<one>
  ws-learner export runs/<one> --to onnx
  ws-learner export runs/<one> --to deploy            # file, loader, measured milliseconds
  ws-learner generate runs/<one> --prompt "The state of the union is" --stream
  ws-learner sensitivity resnet_at_cifar10            # a table in a minute
  ws-learner policy runs/<one>
  ws-learner runs --tag paper                         # what there is, the newest first
  ws-learner compare last runs/<one>
  ws-learner serve runs/ --experiment resnet_at_cifar10

`ws-learner VERB -h` explains a verb.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; return its exit code, 2 if there is no such verb, or 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(words)
    except KeyboardInterrupt:  # also while modules are imported; runs say how they go on
        print(" ".join(["ws-learner", *words[:1]]) + ": stopped", file=sys.stderr, flush=True)
        return 130


def _main(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {name:<11} {about}" for name, (_, _, about) in VERBS.items())
        print(USAGE.format(verbs=verbs), end="")
        return 0 if words else 2
    if words[0] not in VERBS:
        from ws_learner.core import say, suggest

        say(f"error: {words[0]}: no such verb; {suggest(words[0], VERBS)}")
        return 2
    verb, *rest = words
    module, first, _ = VERBS[verb]
    prog = f"ws-learner {verb}"
    return int(importlib.import_module(module).main([*first, *rest], prog=prog))


if __name__ == "__main__":
    sys.exit(main())
