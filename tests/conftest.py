"""What all tests share: one real local broker, started when the first test asks for it."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# kafka-python 3.0.12 loads its schemas by functions that Python 3.11 and 3.12 deprecate, and leaves the socket of a
# connection that was refused, as by a broker that was killed, to the garbage collector.
KAFKA_PYTHON_WARNINGS = [
    r"ignore:(read|open)_text is deprecated:DeprecationWarning",
    r"ignore:unclosed <socket\.socket .*laddr=\('0\.0\.0\.0':ResourceWarning",
]


# A machine that others share is slow now and then: that is no failure.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


def pytest_configure(config: pytest.Config) -> None:
    for line in KAFKA_PYTHON_WARNINGS:
        config.addinivalue_line("filterwarnings", line)
    config.addinivalue_line("markers", "kafka: needs a real broker (set by itself where the fixture `kafka` is used)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a broker that all tests share: let topics and groups carry names of their own."""
    from infra.kafka.local import LocalKafka  # loads kafka-python, which needs the filters above

    with LocalKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap_servers
