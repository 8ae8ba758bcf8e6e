"""`ws-learner serve [FOLDER]`: pages and REST over a folder of runs."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from experiments.cli.flag_parser import underscored
from experiments.cli.serve.starter import ProcessStarter
from experiments.cli.verb_parser import plain_reason
from ws_learner.core import UserError, message_style, say, warn
from ws_learner.service import Elsewhere, Starter, new_token, read_token

__all__ = ["main", "serve", "serve_parser", "split_words"]

EXPOSED = """\
--host {host}: others can reach this address. Whoever has the token can read every run here, stop
runs, and start the named experiments, as you; the token and all else travel unencrypted. Better:
leave --host out and use `ssh -L {port}:127.0.0.1:{port} THIS_MACHINE`, or a proxy with TLS before
it. If that is meant, give --expose"""
NEEDS = ("fastapi", "uvicorn", "sse_starlette", "jinja2")


class _Parser(argparse.ArgumentParser):
    """Argument parser with the error format of the command line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(plain_reason(self, message))


def serve_parser(prog: str) -> argparse.ArgumentParser:
    """The flags of the service."""
    parser = _Parser(
        prog=prog,
        description="Live pages and REST over a folder of runs: list, watch, compare, start, stop, "
        "resume, download. Runs go on when the service ends, and it finds them again.",
        epilog="Words after -- are added to the command of every run that it starts, such as "
        "-- --data_dir DIR. See docs/service.md.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folder", nargs="?", type=Path, default=Path("runs"), help="run directories (default runs)")
    add("--port", type=int, default=8400, help="0 takes a free one (default 8400)")
    add("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    add("--expose", action="store_true", help="allow a --host that others can reach")
    add(
        "--allow_host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name of this service in browsers, such as one of a proxy; host or host:port",
    )
    add("--token_file", type=Path, metavar="FILE", help="a token to use instead of a new one")
    add(
        "--experiment",
        action="append",
        default=[],
        metavar="NAME",
        help="an experiment that may be started: a bundled one or a file; repeat it for more",
    )
    add("--max_runs", type=int, default=2, metavar="N", help="runs started at a time (default 2)")
    return parser


def main(argv: Sequence[str] | None = None, *, prog: str = "ws-learner serve") -> int:
    """Serve until interrupted; return the exit code, 2 after bad input."""
    words = list(sys.argv[1:] if argv is None else argv)
    with message_style(lambda text: text.replace("`token_file`", "--token_file")):
        try:
            return _main(words, prog=prog)
        except UserError as error:
            say(f"error: {error}")
            return 2


def _main(words: Sequence[str], *, prog: str) -> int:
    refuse_without_extra()
    own, extra = split_words(serve_parser(prog), words)
    starter = ProcessStarter(own.folder, own.experiment, extra=extra, most=own.max_runs)
    return serve(own, starter)


def split_words(
    parser: argparse.ArgumentParser, words: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """The parsed flags of the service, and the words after -- for the runs.

    Raises:
        UserError: A flag is none, or makes no sense.
    """
    cut = list(words).index("--") if "--" in words else len(words)
    own = parser.parse_args([underscored(word) for word in words[:cut]])
    if own.max_runs < 1:
        raise UserError(f"--max_runs {own.max_runs}: must be at least 1")
    return own, list(words[cut + 1 :])


def refuse_without_extra() -> None:
    """Refuse to start without the packages of the extra `serve`.

    Raises:
        UserError: One is not installed.
    """
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"serve: needs {', '.join(missing)}; install them with "
            "pip install 'weight-sparse-learner[serve]'"
        )


def serve(own: argparse.Namespace, starter: Starter, *, elsewhere: Elsewhere | None = None) -> int:
    """Listen and answer until interrupted.

    Args:
        own: The parsed flags.
        starter: Starts runs.
        elsewhere: Knows the runs of a cluster.

    Raises:
        UserError: The folder, host, port or token file does not do.
    """
    if own.folder.exists() and not own.folder.is_dir():
        raise UserError(f"folder {own.folder}: is no folder")
    if not _is_loopback(own.host) and not own.expose:
        raise UserError(EXPOSED.format(host=own.host, port=own.port))
    token = new_token() if own.token_file is None else read_token(own.token_file)
    _check_names(own.allow_host)
    listening = _listen(own.host, own.port)
    port = listening.getsockname()[1]
    names = _hosts(own.host, port, own.allow_host)

    import uvicorn

    from ws_learner.service import create_app

    app = create_app(
        own.folder,
        token=token,
        hosts=names,
        starter=starter,
        elsewhere=elsewhere,
        cookie=f"ws_learner_{port}",
    )
    config = uvicorn.Config(
        app,
        access_log=False,  # it would hold the token
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=500,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    shown = f"http://{names[0]}/"
    if not own.folder.exists():
        warn(f"{own.folder.absolute()}: no such folder yet, so no run is listed until one is there")
    print(f"serving {own.folder} at {shown}", flush=True)
    print(f"open {shown}?token={token}" if own.token_file is None else
          f"the token is that of {own.token_file}", flush=True)  # fmt: skip
    for name in starter.experiments:
        say(f"may start {name}")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    say("the service has ended; runs that it has started go on")
    return 0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: must be from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise UserError(f"--host {host}: no such address ({error.strerror})") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # whoever reads the address may ask at once
    except OSError as error:
        listening.close()
        raise UserError(
            f"--port {port}: cannot listen on {host} ({error.strerror}); --port 0 takes a free one"
        ) from error
    return listening


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", name):
            raise UserError(f"--allow_host {name}: give a host name, or host:port")


def _hosts(host: str, port: int, more: Sequence[str]) -> list[str]:
    """Values of the Host header that are this service; the first one is shown."""
    local = ["127.0.0.1", "localhost", "[::1]"]
    literal = f"[{host}]" if ":" in host else host
    names = ([] if literal in ("0.0.0.0", "[::]") else [literal]) + local
    found = [f"{name}:{port}" for name in names]
    found += [
        one for name in more for one in ((name,) if ":" in name else (name, f"{name}:{port}"))
    ]
    return list(dict.fromkeys(one.lower() for one in found))


if __name__ == "__main__":
    sys.exit(main())
