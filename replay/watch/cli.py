"""Runs `rucksack watch RUN`: reads the run's topics into an index and shows it as a web page until it is stopped."""

import argparse
import fcntl
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from replay.cli import add_location, location_of
from replay.source import Location, open_run
from replay.watch.follow import Follower
from replay.watch.index import Index
from replay.watch.tokens import Tokens, tokenizer_folder
from stream.broker import Broker
from stream.console import make_console
from stream.errors import BrokerUnavailable, UserError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORT = 8600
INDEX_FOLDER = ".watch"
"""In the folder that holds the runs: their indexes. They can be removed at any time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; returns 0."""
    arguments = parser().parse_args(argv)
    location = location_of(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Its reconnects are no news: the page says itself whether the broker answers.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        listener = stack.enter_context(listening(arguments.host, arguments.port))
        serve(location, (arguments.run, *arguments.compare), arguments.tokenizer, listener, stack)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="rucksack watch",
        description="Show a run as a web page: live while it goes on, and what its topics hold when it is over. Only reads.",
    )
    add_location(top)
    top.add_argument("--compare", nargs="+", default=[], metavar="RUN", help="other runs, side by side in the plots")
    top.add_argument("--port", type=int, default=PORT, help=f"port of the page, 0 for any free one (default: {PORT})")
    top.add_argument(
        "--host", default=HOST, help=f"address to listen on (default: {HOST}, this machine alone; there is no password)"
    )
    top.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="model folder whose tokenizer tells tokens apart (default: the run's)",
    )
    return top


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Raises:
        UserError: the port is in use, or there is no such address here.

    """
    if not 0 <= port < 65536:
        raise UserError(f"--port is {port}; want 0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another --port (0: any free one) or --host"
        ) from None
    with listener:
        yield listener


def serve(
    location: Location, runs: Sequence[str], tokenizer: Path | None, listener: socket.socket, stack: ExitStack
) -> None:
    """Follow the runs and answer until a signal comes."""
    import uvicorn

    from replay.watch.server import Watched, app_of

    watched = []
    for run in dict.fromkeys(runs):
        path = location.path_of(run)
        index = Index(location.folder / INDEX_FOLDER / f"{_safe_name(path.resolve().name)}.sqlite", path.resolve().name)
        stack.callback(index.close)
        if not index.offsets():
            check_is_there(location, run)
        follower = Follower(index, lambda start, run=run: opened(location, run, start=start))  # type: ignore[misc]
        follower.start()
        stack.callback(follower.close)
        watched.append(Watched(index, follower.following, Tokens(tokenizer or tokenizer_folder(path))))
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    make_console().print(f"watching {', '.join(w.index.run for w in watched)} at http://{name}:{port}", markup=False)
    config = uvicorn.Config(app_of(watched), log_level="warning", access_log=False, server_header=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


def check_is_there(location: Location, run: str) -> None:
    """Say at once if there is no such run, where nothing of it is known yet.

    Raises:
        UserError: there is none.
        BrokerUnavailable: the broker that was named does not answer.

    """
    try:
        with open_run(location, run, start=False):
            pass
    except BrokerUnavailable:
        if location.bootstrap_servers:
            raise


@contextmanager
def opened(location: Location, run: str, *, start: bool) -> Iterator[Broker]:
    """The run's broker; its own is not started beside a `rucksack up`, which does that itself.

    Raises:
        BrokerUnavailable: none answers, and none is to be started.

    """
    if start and is_up(location.path_of(run)):
        raise BrokerUnavailable(f"the broker of run {run} does not answer; `rucksack up` starts it again")
    with open_run(location, run, start=start) as (broker, _name, _path):
        yield broker


def is_up(folder: Path) -> bool:
    """Whether a `rucksack up` holds the run's folder."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _safe_name(run: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in run)[:100] or "_"
