"""Generate text with a pruned language model: `ws-learner generate runs/<run> --prompt "..."`.

The run's network is compiled for this processor: zeros are left out, weights are bytes or 4 bits,
and each token is one native call. `--save FILE.wsr` keeps the compiled network; such a file is
opened in place of a run, without transformers. docs/decode.md says more.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file: import from the root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.cli.verb_parser import VerbParser
from ws_learner.core import RunDir, UserError, as_path, refuse_unwritable, say
from ws_learner.report import find_run

if TYPE_CHECKING:
    from ws_learner.deploy import SparseLM

__all__ = ["main", "open_network"]


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m experiments.generate") -> int:
    """Generate; return 0, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = VerbParser(
        prog=prog,
        description=__doc__,
        formatter_class=raw,
        example="ws-learner generate last --prompt 'Once upon a time'",
    )
    parser.add_argument("run", help="finished run of a language model, or a .wsr file of --save")
    parser.add_argument("--prompt", required=True, help="text to go on from")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--stream", action="store_true", help="print tokens as they come")
    parser.add_argument("--dtype", choices=("fp32", "int8", "int4"), default="int8")
    parser.add_argument(
        "--context", type=int, help="most tokens (default: as the network has them)"
    )
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the most likely token")
    parser.add_argument("--top_k", type=int, default=0, help="only so many tokens; 0: all")
    parser.add_argument("--top_p", type=float, default=1.0, help="only this much probability")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--save", type=as_path, metavar="FILE", help="write the compiled network")
    given = parser.parse_args(argv)
    try:
        _run(given)
    except (UserError, RuntimeError) as error:
        say(f"error: {parser.spell(str(error))}")
        return 2
    return 0


def open_network(run: str, *, dtype: str, context: int | None, threads: int = 1) -> SparseLM:
    """The compiled network of a run, or of a `.wsr` file.

    Raises:
        UserError: It is no run of a language model, or files are damaged.
    """
    from ws_learner.deploy import compile_sparse_lm, load_sparse_lm
    from ws_learner.language import open_in_transformers

    if run.endswith(".wsr"):
        return load_sparse_lm(run, context=context, threads=threads)
    model, tokenizer = open_in_transformers(RunDir(find_run(as_path(run))))
    return compile_sparse_lm(model, tokenizer, dtype=dtype, context=context, threads=threads)


def _run(given: argparse.Namespace) -> None:
    from ws_learner.deploy import Sampling

    if given.save is not None:
        refuse_unwritable(given.save, setting="save", makes_folders=False)
    sampling = Sampling(
        temperature=given.temperature, top_k=given.top_k, top_p=given.top_p, seed=given.seed
    )
    fast = open_network(given.run, dtype=given.dtype, context=given.context, threads=given.threads)
    if given.save is not None:
        fast.save(given.save)
        say(f"wrote {given.save}")
    tokens = fast.stream(
        fast.encode(given.prompt), max_new_tokens=given.max_new_tokens, sampling=sampling
    )
    first = next(tokens)  # the prompt is read here
    start = time.perf_counter()
    found = [first]
    for piece in _pieces(fast, tokens, found):
        if given.stream:
            print(piece, end="", flush=True)
    seconds = time.perf_counter() - start
    print("" if given.stream else fast.decode(found))
    if len(found) > 1:
        say(f"{len(found)} tokens, {(len(found) - 1) / max(seconds, 1e-9):.1f} tokens/s")


def _pieces(fast: SparseLM, tokens: Iterator[int], found: list[int]) -> Iterator[str]:
    """Text as it becomes sure; a character may need several tokens. Tokens are added to `found`."""
    shown = ""
    text = fast.decode(found)
    while True:
        if not text.endswith("\ufffd") and len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
        token = next(tokens, None)
        if token is None:
            if len(text) > len(shown):
                yield text[len(shown) :]
            return
        found.append(token)
        text = fast.decode(found)


if __name__ == "__main__":
    sys.exit(main())
