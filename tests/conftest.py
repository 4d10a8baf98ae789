"""What all tests share: one real local broker, started when the first test asks for it."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# A slow machine is no failure, and a test that passed passes again: `pytest --hypothesis-profile=search` looks further.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a broker that all tests share: let topics and groups carry names of their own."""
    from localkafka.local import LocalKafka

    with LocalKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap_servers
