"""Producers are killed while long rollouts are in flight: what is trained is as long as what was admitted, rollout by rollout."""

import json
import random
import time
from collections import Counter
from pathlib import Path

from factories import make_prompt
from pains_shop import Shop

MOST_KILLS = 4
SHARE = 0.1
"""Of the turns in which a kill may come, those in which it does: a turn takes up to 50 ms."""
SHORT, LONG = 1, 30
"""Eighths of an answer's tokens: .08 and 2.4 s."""


def is_grown(shop: Shop, num_lives: int) -> bool:
    """Whether the newest life samples, and has written down that its end would not be blamed on what it samples."""
    if len(shop.lives) < num_lives:
        return False
    memory = shop.config.run.path / "producers" / "producer-0.json"
    return not json.loads(memory.read_text())["is_fatal"]


def test_killed_producers_lose_no_rollout_and_least_of_all_the_long_ones(kafka: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    tokens = {make_prompt(f"p{n:02d}"): [LONG if n % 8 == 0 else SHORT, 2] for n in range(96)}
    run = {"num_updates": 9, "rollouts_per_update": 24, "max_staleness": 2}
    shop = Shop(kafka, tmp_path, tokens, run, mode="uniform", lease_s=60)
    lengths = {prompt.prompt_id: 8 * of[0] for prompt, of in tokens.items()}
    try:
        kills, deadline = 0, time.monotonic() + 500
        while not shop.finished:
            shop.turn()
            assert time.monotonic() < deadline, (shop.version, kills)
            in_flight = [group_id for group_id, _ in shop.open if lengths[group_id.partition(".")[0]] == 8 * LONG]
            may_kill = kills < MOST_KILLS and not shop.finished and in_flight and is_grown(shop, kills + 1)
            if may_kill and chance.random() < SHARE:
                shop.producer.kill()
                shop.producer.join()
                kills += 1
    finally:
        shop.close()
    assert shop.num_deaths == kills >= 2  # a quick machine is done before the others
    admitted = Counter(
        lengths[job.prompt.prompt_id] for job in shop.jobs if job.attempt == 0 for _ in range(job.start, job.stop)
    )
    assert Counter(shop.lengths) == admitted
    assert admitted[8 * LONG] > 0.08 * admitted.total()
    assert {end.ending for end in shop.ends} == {"trained"}
    assert sorted(end.group_id for end in shop.ends) == sorted({job.group_id for job in shop.jobs})
