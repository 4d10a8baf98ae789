"""A prompt that kills its producer kills it three times, is a dead letter then, and the rest of the run goes on."""

import time
from pathlib import Path

from factories import make_prompt
from pains_shop import Shop
from pains_victim import POISON

from producers.suspects import GIVEN_UP_AFTER
from stream.codec import decode
from stream.messages import DeadLetter, Job
from stream.topics import DEADLETTERS


def is_reported(shop: Shop) -> bool:
    """Whether the newest group of the poisonous prompt is a dead letter."""
    newest = max(group_id for group_id, _ in shop.open)
    return any(newest in letter.error for letter in shop.world.read_all(DEADLETTERS))


def test_a_poisonous_prompt_costs_three_deaths_and_is_reported_and_the_rest_is_trained(
    kafka: str, tmp_path: Path
) -> None:
    tokens = {make_prompt(f"p{n:02d}"): [1, POISON if n == 5 else 2] for n in range(36)}
    run = {"num_updates": 6, "rollouts_per_update": 12, "max_staleness": 2}
    shop = Shop(kafka, tmp_path, tokens, run, mode="uniform", lease_s=1000)
    try:
        deadline = time.monotonic() + 300
        while not shop.finished:
            shop.turn()
            assert time.monotonic() < deadline, (shop.version, shop.num_deaths)
            if shop.open and {group_id.partition(".")[0] for group_id, _ in shop.open} == {"p05"} and is_reported(shop):
                shop.let_leases_run_out()
        letters: list[DeadLetter] = shop.world.read_all(DEADLETTERS)
    finally:
        shop.close()
    assert shop.num_deaths == GIVEN_UP_AFTER
    poisoned = {job.group_id for job in shop.jobs if job.prompt.prompt_id == "p05"}
    assert len(poisoned) >= 2  # its turn comes again, and costs no death any more
    assert {decode(letter.value, Job).prompt.prompt_id for letter in letters} == {"p05"}
    assert letters[0].error.endswith("prompt p05 was being sampled at 3 deaths in a row: it is given up")
    endings = {end.group_id: end.ending for end in shop.ends}
    assert {group_id for group_id, ending in endings.items() if ending == "abandoned"} == poisoned & set(endings)
    assert set(endings.values()) == {"trained", "abandoned"}
    assert sum(end.num_rollouts for end in shop.ends) == 6 * 12
