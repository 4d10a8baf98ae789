"""A learner's publications on a broker in memory, with weights that the test sets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from learner.changes import ChangeFinder
from learner.publications import Publications
from learner.publisher import LogPublisher, Publisher
from stream.config import Config
from stream.memory import MemoryBroker
from stream.messages import Policy, Update, WeightsPart
from stream.rebuild import rebuild
from stream.run_topics import RunTopics
from stream.topics import POLICIES, TOPICS, WEIGHTS
from stream.weights import State


class Model:
    """Weights that the test sets; as a trainer, and as what `take` reads."""

    def __init__(self, size: int = 4000) -> None:
        self.tensors = {"embed": torch.zeros(size, 2), "norm": torch.tensor(1.0), "steps": torch.tensor(3)}

    def each_weight(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.tensors.items()

    def nudge(self, number: int, count: int = 3) -> None:
        self.tensors["embed"].view(-1)[number : number + count] += 1.0

    def expected(self, dtype: torch.dtype) -> dict[str, bytes]:
        bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
        return {
            name: tensor.to(dtype).view(bits).numpy().tobytes()
            for name, tensor in self.tensors.items()
            if tensor.is_floating_point()
        }


class World:
    """A learner's publications on a broker in memory, one after the other unless a test holds the publisher."""

    def __init__(self, folder: Path, broker: MemoryBroker | None = None, **learner: Any) -> None:
        self.broker = broker or MemoryBroker()
        self.broker.create_topics("r", TOPICS, 2)
        self.topics = RunTopics(self.broker, "r", "learner-0")
        self.config = Config(run={"name": "r", "dir": folder}, producer={"dtype": "bfloat16"}, learner=learner)
        self.training = ThreadPoolExecutor(max_workers=1)
        self.model = Model()
        self.version = -1
        self.start()

    def start(self, publisher: Publisher | None = None) -> None:
        """A learner (again): it knows nothing of what was published."""
        writer = self.broker.writer(name="r.learner.lineage", transactional=True)
        self.lineage = RunTopics(self.broker, "r", "learner-0", writer)
        publisher = publisher or LogPublisher(self.config, self.topics)
        self.publications = Publications(self.model, ChangeFinder("bfloat16"), publisher, self.lineage)

    def add(self, parent: int | None = None) -> None:
        parent, self.version = self.version if parent is None else parent, self.version + 1
        update = Update(step=self.version, version=self.version, parent_version=max(parent, 0), groups=())
        self.publications.add(update)

    def publish(self) -> dict[str, bytes]:
        self.add()
        self.settle()
        return self.model.expected(torch.bfloat16)

    def settle(self) -> None:
        self.publications.settle(self.training, lambda: None)
        tidied = self.publications._tidied
        assert tidied is not None
        tidied.result()

    def parts(self) -> list[WeightsPart]:
        return self.topics.read_all(WEIGHTS)

    def policies(self) -> list[Policy]:
        return self.topics.read_all(POLICIES)

    def rebuilt(self, version: int) -> dict[str, bytes]:
        return bits_of(rebuild(self.broker, "r", version))


def bits_of(state: State) -> dict[str, bytes]:
    return {name: tensor.bits.tobytes() for name, tensor in state.tensors.items()}
