"""SIGKILL at any point: the surviving lineage has every group once, and the weights of a run that was never killed."""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import learner_killed
import numpy as np
import pytest
import torch
from factories import make_job, make_verdict
from forks import FORKS
from learner_groups import random_groups
from safetensors.torch import load_file
from tiny_models import make_model, make_tokenizer

from learner import checkpoint
from stream.kafka import KafkaBroker
from stream.messages import Update, Verdict
from stream.run_topics import RunTopics
from stream.topics import TOPICS, UPDATES, VERDICTS

pytestmark = pytest.mark.timeout(900)  # a dozen processes, one after the other, on a machine that others share


def start(target: Callable[..., None], *arguments: object) -> ForkServerProcess:
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    return process


def test_a_checkpoint_that_is_being_written_never_hides_the_last_whole_one(tiny_model: Path, tmp_path: Path) -> None:
    """Kills at the first file operation of a save, then the second, ...: what is loaded is before or after, bit for bit."""
    torch.set_num_threads(1)
    trainer = learner_killed.make_trainer(str(tiny_model))
    expected = {}
    for step in (1, 2):
        trainer.update(random_groups(step - 1), version=step - 1, step=step - 1)
        expected[step] = [{name: value.clone() for name, value in part.items()} for part in trainer.state()]
        learner_killed.save(tmp_path / f"{step}", trainer, step)
    loaded_steps: list[int] = []
    exitcode = -signal.SIGKILL
    while exitcode == -signal.SIGKILL:
        folder = tmp_path / f"killed{len(loaded_steps)}"
        shutil.copytree(tmp_path / "1", folder)
        process = start(learner_killed.one_update_killed_at, str(tiny_model), str(folder), len(loaded_steps) + 1)
        process.join()
        exitcode = process.exitcode
        loaded = learner_killed.make_trainer(str(tiny_model))
        progress = checkpoint.load_newest(folder, loaded)
        assert progress is not None
        loaded_steps.append(progress.step)
        for part, wanted in zip(loaded.state(), expected[progress.step], strict=True):
            assert part.keys() == wanted.keys()
            assert all(torch.equal(part[name], wanted[name]) for name in wanted)
    assert exitcode == 0
    assert loaded_steps == sorted(loaded_steps)
    assert loaded_steps.count(1) >= 5  # killed before the new one was published
    assert loaded_steps.count(2) >= 3  # killed after that, while the older one was dropped


NUM_UPDATES, PROMPTS_PER_UPDATE = 12, 4
MOST_MORE = 3
"""Updates after those that are waited for, at which a learner is killed at the latest: on a fast machine it would be done."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_model(folder, seed=0)
    make_tokenizer(folder)
    return folder


def recorded_verdicts() -> list[Verdict]:
    """Of 60 groups, shuffled, with some rollouts twice, some ungraded, some groups without variance or never complete."""
    rng = np.random.default_rng(0)
    verdicts = []
    for number in range(60):
        size = int(rng.integers(2, 5))
        job = make_job(f"g{number}", size, prompt_token_ids=rng.integers(2, 32, 3).astype(np.int32))
        for rollout in range(size - (number % 15 == 14)):
            tokens = rng.integers(2, 32, int(rng.integers(1, 6)))
            fields = {
                "job": job, "token_ids": tokens, "behavior_logprobs": rng.uniform(-4, -2, tokens.size).astype(np.float32)
            }  # fmt: skip
            if number % 7 == 6 and rollout == 0:
                fields["outcome"] = "timeout"
            verdicts.append(
                make_verdict(rollout_index=rollout, reward=float(rollout % 2 if number % 9 else 1), **fields)
            )
    verdicts += verdicts[::10]
    return [verdicts[i] for i in rng.permutation(len(verdicts))]


@contextmanager
def record(servers: str, run: str, num_partitions: int) -> Iterator[RunTopics]:
    """Topics of a run whose verdicts are all there from the start, a record among them that cannot be read."""
    broker = KafkaBroker(servers)
    broker.create_topics(run, TOPICS, num_partitions)
    topics = RunTopics(broker, run, "recorder")
    for number, verdict in enumerate(recorded_verdicts()):
        topics.send_of_group(VERDICTS, verdict.trajectory.job.group_id, verdict)
        if number == 40:
            topics.writer.send(VERDICTS.of(run), b"", b"not a record", partition=0)
    topics.writer.flush()
    yield topics
    topics.writer.close()
    broker.close()


def arguments(tmp_path: Path, servers: str, run: str, model: Path) -> list[str]:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
        [run]
        name = "{run}"
        dir = "{tmp_path}"
        model = "{model}"
        num_updates = {NUM_UPDATES}
        prompts_per_update = {PROMPTS_PER_UPDATE}
        [broker]
        bootstrap_servers = "{servers}"
        [learner]
        objective = "tis"
        lr = 1e-2
        checkpoint_every = 3
        stale_after = 1000000
        [evaluator]
        enabled = false
        """
    )
    return [str(recipe)]


def lineage(updates: list[Update]) -> list[Update]:
    """The updates that the final weights were made from, oldest first, by following the parents."""
    by_version = {update.version: update for update in updates}
    assert len(by_version) == len(updates)  # no version twice
    surviving = [next(update for update in updates if update.final)]
    while surviving[-1].parent_version in by_version:
        surviving.append(by_version[surviving[-1].parent_version])
    return surviving[::-1]


def check_exactly_once(updates: list[Update]) -> list[list[str]]:
    """Groups of each step of the surviving lineage; fails if one is there twice or a step is missing."""
    steps = [update for update in lineage(updates) if "learner/resumed" not in update.metrics]
    assert [update.step for update in steps] == list(range(1, NUM_UPDATES + 1))
    groups = [[end.group_id for end in update.groups] for update in steps]
    assert all(len(step) == PROMPTS_PER_UPDATE for step in groups)
    assert set(Counter(group for step in groups for group in step).values()) == {1}
    endings = {end.ending for update in steps for end in update.groups}
    assert endings == {"trained", "zero_variance"}
    return groups


def run_and_kill(topics: RunTopics, arguments: list[str], seed: int, num_kills: int) -> None:
    """Start the learner again and again, killed some random while after its next few updates, then let it end."""
    rng = np.random.default_rng(seed)

    def num_updates() -> int:
        return topics.broker.end_offsets(UPDATES.of(topics.run))[0]

    for _ in range(num_kills):
        wanted = num_updates() + int(rng.integers(0, 5))
        process = start(learner_killed.learner, arguments)
        while num_updates() < wanted and process.exitcode is None:
            process.join(timeout=0.005)
        dies_s = time.monotonic() + float(rng.uniform(0, 0.15))
        while time.monotonic() < dies_s and num_updates() < wanted + MOST_MORE and process.exitcode is None:
            process.join(timeout=0.005)
        process.kill()
        process.join()
    process = start(learner_killed.learner, arguments)
    process.join()
    assert process.exitcode == 0


def test_killed_at_random_points_it_ends_with_the_weights_of_a_run_that_was_not(
    kafka: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    with record(kafka, "straight", num_partitions=1) as topics:
        run_and_kill(topics, arguments(tmp_path / "a", kafka, "straight", model), seed=0, num_kills=0)
        straight = topics.read_all(UPDATES)
    with record(kafka, "killed", num_partitions=1) as topics:
        run_and_kill(topics, arguments(tmp_path, kafka, "killed", model), seed=1, num_kills=6)
        killed = topics.read_all(UPDATES)
    assert len(killed) > len(lineage(killed)) > NUM_UPDATES  # some were rolled back, some resumed from
    assert check_exactly_once(killed) == check_exactly_once(straight)
    one, other = (load_file(tmp_path / path / "model" / "model.safetensors") for path in ("a/straight", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    base = load_file(model / "model.safetensors")
    assert not any(torch.equal(one[name], base[name]) for name in one if "proj" in name)


def test_killed_over_many_partitions_every_group_is_trained_once(kafka: str, model: Path, tmp_path: Path) -> None:
    with record(kafka, "partitioned", num_partitions=4) as topics:
        run_and_kill(topics, arguments(tmp_path, kafka, "partitioned", model), seed=2, num_kills=4)
        check_exactly_once(topics.read_all(UPDATES))
