"""Orders the prompts that wait for a group: beliefs in, prompt ids out, those admitted least often first.

Ties are broken by an order that the seed draws anew for each pass over the pool: epochs, without an epoch counter. It
follows from the beliefs alone, so a queue that is built again after a crash hands out the same prompts.
"""

import hashlib
import heapq
from collections.abc import Container, Mapping

from stream.messages import Belief

_Item = tuple[int, bytes, str]
"""Groups admitted before, drawn number, prompt id."""


class PromptQueue:
    """The prompts without an open group."""

    def __init__(self, beliefs: Mapping[str, Belief], seed: int) -> None:
        self._beliefs = beliefs
        self._seed = seed
        self._heap = self._waiting()

    def put(self, belief: Belief) -> None:
        """A prompt's group is over."""
        heapq.heappush(self._heap, self._item(belief))
        if len(self._heap) > 2 * len(self._beliefs):  # where prompts are drawn, nobody takes them from here
            self._heap = self._waiting()

    def _waiting(self) -> list[_Item]:
        heap = [self._item(belief) for belief in self._beliefs.values() if belief.open_group is None]
        heapq.heapify(heap)
        return heap

    def take(self, num: int, without: Container[str] = ()) -> list[str]:
        """The next `num` prompts but those in `without`; none at all if there are not as many."""
        taken = self._pop(num, without)
        if len(taken) < num:
            for item in taken:
                heapq.heappush(self._heap, item)
            return []
        return [prompt_id for _, _, prompt_id in taken]

    def take_up_to(self, num: int, without: Container[str] = ()) -> list[str]:
        """The next prompts but those in `without`, at most `num`."""
        return [prompt_id for _, _, prompt_id in self._pop(num, without)]

    def _pop(self, num: int, without: Container[str]) -> list[_Item]:
        popped: list[_Item] = []
        while self._heap and len(popped) < num:
            item = heapq.heappop(self._heap)
            belief = self._beliefs[item[2]]
            is_current = belief.open_group is None and belief.num_groups == item[0]
            if is_current and item[2] not in without:
                popped.append(item)
        return popped

    def _item(self, belief: Belief) -> _Item:
        drawn = f"{self._seed}/{belief.num_groups}/{belief.prompt_id}".encode()
        return belief.num_groups, hashlib.blake2b(drawn, digest_size=8).digest(), belief.prompt_id
