from pathlib import Path

import pytest
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
