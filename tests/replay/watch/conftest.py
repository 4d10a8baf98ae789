"""An index of the made-up run of tests/replay, filled as the follower fills it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from replay.watch.follow import SHOWN, Following
from replay.watch.index import Index
from replay.watch.server import Watched, app_of
from replay.watch.tokens import Tokens
from stream.memory import MemoryBroker


def read_all(broker: MemoryBroker, index: Index) -> None:
    """Read what the topics hold and the index does not."""
    reader = broker.reader([topic.of(index.run) for topic in SHOWN])
    reader.seek(index.offsets())
    while records := reader.poll(0.0, 100):
        index.take(records)


@pytest.fixture
def fill(tmp_path: Path, broker: MemoryBroker) -> Iterator[Callable[..., Index]]:
    """`fill("made")` reads a run's topics into an index."""
    opened: list[Index] = []

    def filled(run: str = "made", **options: Any) -> Index:
        index = Index(tmp_path / f"{run}.sqlite", run, **options)
        opened.append(index)
        read_all(broker, index)
        return index

    yield filled
    for index in opened:
        index.close()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address at which an application answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """`until(condition)` returns once the condition holds."""
    return wait_until


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Return once the condition holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def page(make_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page of the made-up run, hostile completions among its answers."""
    broker = MemoryBroker()
    make_run(broker)
    index = Index(tmp_path_factory.mktemp("watch") / "made.sqlite", "made")
    read_all(broker, index)
    following = Following(state="live", answered_s=time.monotonic(), passed=1, total=1)
    with serving(app_of([Watched(index, following, Tokens(None))])) as address:
        yield address
    index.close()
