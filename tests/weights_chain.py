"""A made-up chain of states, as a learner publishes them: what the tests of its readers are fed with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stream.messages import WeightsPart
from stream.patches import TensorPatch, cut, elements_of
from stream.weights import HostTensor, State

SIZES = {"embed": (7, 5), "norm": (), "layer.0": (40,)}


def random_state(rng: np.random.Generator) -> State:
    return State(
        {
            name: HostTensor("bfloat16", shape, rng.integers(0, 1 << 16, int(np.prod(shape)), dtype=np.uint16))
            for name, shape in SIZES.items()
        }
    )


def random_patches(rng: np.random.Generator) -> list[TensorPatch]:
    """A few elements of some tensors, or all of one."""
    patches = []
    for name, shape in SIZES.items():
        numel = int(np.prod(shape))
        count = int(rng.integers(0, numel + 1))
        indices = np.sort(rng.choice(numel, count, replace=False)).astype(np.uint32)
        if count:
            values = rng.integers(0, 1 << 16, count, dtype=np.uint16)
            dense = None if count == numel else indices
            patches.append(TensorPatch(name=name, shape=shape, dtype="bfloat16", values=values, indices=dense))
    return patches


@dataclass
class Chain:
    """States by version, and the parts that were sent, publication by publication."""

    seed: int = 0
    name: str = "learner"
    part_bytes: int = 40
    digests: dict[int, str] = field(default_factory=dict)
    states: dict[int, dict[str, bytes]] = field(default_factory=dict)
    sent: list[list[WeightsPart]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.state = random_state(self.rng)
        self.version = -1

    def anchor(self, version: int | None = None) -> list[WeightsPart]:
        """The whole state now, as this version's (0 at first)."""
        if version is not None or self.version < 0:
            self.version = version or 0
            self._note()
        return self._send(self.state.whole(), -1, "")

    def patch(self, version: int | None = None) -> list[WeightsPart]:
        """The next version."""
        parent, before = self.version, self.digests[self.version]
        patches = random_patches(self.rng)
        self.state.apply(patches)
        self.version = self.version + 1 if version is None else version
        self._note()
        return self._send(patches, parent, before)

    def _note(self) -> None:
        self.digests[self.version] = self.state.digest()
        self.states[self.version] = bits_of(self.state)

    def _send(self, patches: Sequence[TensorPatch], parent: int, parent_digest: str) -> list[WeightsPart]:
        slices = cut(patches, self.part_bytes)
        parts = [
            WeightsPart(
                version=self.version,
                parent_version=parent,
                digest=self.digests[self.version],
                parent_digest=parent_digest,
                publication=f"{self.name}.{len(self.sent)}",
                part=number,
                num_parts=len(slices),
                elements=tuple(map(elements_of, part)),
            )
            for number, part in enumerate(slices)
        ]
        self.sent.append(parts)
        return parts


def bits_of(state: State) -> dict[str, bytes]:
    return {name: tensor.bits.tobytes() for name, tensor in state.tensors.items()}
