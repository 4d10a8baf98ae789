import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from producer_bench import Bench
from tiny_models import make_model, make_tokenizer


def pytest_configure(config: pytest.Config) -> None:
    # vLLM leaves its ZeroMQ context to the garbage collector; terminating it ourselves hangs on sockets it keeps.
    config.addinivalue_line("filterwarnings", r"ignore:Unclosed context <zmq\.Context:ResourceWarning")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    folder = make_model(tmp_path_factory.mktemp("model"), seed=0)
    make_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture
def bench(model_folder: Path, tmp_path: Path) -> Iterator[Bench]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    bench = Bench(model_folder, tmp_path, loop)
    yield bench

    async def cancel_all() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await loop.shutdown_default_executor()

    asyncio.run_coroutine_threadsafe(cancel_all(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
