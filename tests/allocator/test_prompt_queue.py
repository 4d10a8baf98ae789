from msgspec.structs import replace

from allocator.prompt_queue import PromptQueue
from stream.messages import Belief

BELIEFS = {name: Belief(prompt_id=name) for name in ("p", "q", "r", "s")}


def test_prompts_admitted_least_often_come_first() -> None:
    beliefs = BELIEFS | {"q": Belief(prompt_id="q", num_groups=1)}
    assert set(PromptQueue(beliefs, seed=0).take(3)) == {"p", "r", "s"}


def test_it_stays_small_where_nobody_takes_prompts_from_it() -> None:
    beliefs = dict(BELIEFS)
    queue = PromptQueue(beliefs, seed=0)
    for number in range(1, 1000):
        beliefs["p"] = replace(beliefs["p"], num_groups=number)
        queue.put(beliefs["p"])
    assert len(queue._heap) <= 2 * len(beliefs) + 1
    assert set(queue.take(3)) == {"q", "r", "s"}
    assert queue.take(1) == ["p"]
