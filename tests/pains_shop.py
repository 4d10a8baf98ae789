"""A run on a real broker whose producer is a process of its own, to be killed; the real allocator and the learner's assembly beside it."""

import uuid
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from forks import FORKS
from pains_victim import produce

from allocator.admission import admission_of
from allocator.role import Allocator
from learner.groups import Assembler, group_end
from learner.order import TrainingOrder
from stream.codec import decode
from stream.config import Config
from stream.kafka import KafkaBroker
from stream.messages import GroupEnd, Heartbeat, Job, Policy, Prompt, Trajectory, Update, Verdict
from stream.run_topics import RunTopics
from stream.topics import HEARTBEATS, JOBS, POLICIES, TOPICS, TRAJECTORIES, UPDATES, VERDICTS
from stream.weights import WEIGHTS_FILE, HostTensor, State, digest_of, write_state
from stream.worker import hand_over

ROOT = Path(__file__).parent.parent


class Shop:
    """What is driven step by step, and a producer that runs by itself."""

    def __init__(
        self, servers: str, folder: Path, tokens: dict[Prompt, list[int]], run: dict[str, Any], **allocator: Any
    ) -> None:
        """`tokens` of each prompt of the pool."""
        name = f"pains-{uuid.uuid4().hex[:8]}"
        self.config = Config(
            run={"name": name, "dir": folder, "model": str(ROOT / "demo/base")} | run,
            learner={"objective": "belief"},
            evaluator={"enabled": False},
            sampling={"max_tokens": 512},
            producer={"max_model_len": 1024, "max_num_seqs": 256},
            allocator=allocator,
        )
        self._servers = servers
        self.broker = KafkaBroker(servers)
        self.broker.create_topics(name, TOPICS, 2)
        self.world = RunTopics(self.broker, name, "world")
        self._topics = RunTopics(self.broker, name, "allocator-0")
        ids = {prompt.prompt_id: np.array(of, np.int32) for prompt, of in tokens.items()}
        self.allocator = Allocator(self.config, self._topics, list(tokens), ids, admission_of(self.config))
        self._reader = self.world.reader(TRAJECTORIES, VERDICTS, JOBS)
        self.jobs: list[Job] = []
        self._assembler = Assembler()
        size = self.config.run.budget
        self._order = TrainingOrder(size, 1, counts_rollouts=True)
        self.ends: list[GroupEnd] = []
        self.lengths: list[int] = []
        """Tokens of each rollout that was trained."""
        self.lives: set[str] = set()
        """The producer's, of which trajectories were read."""
        self.version = 0
        self.num_deaths = 0
        self._announce(folder)
        self._start()

    def _announce(self, folder: Path) -> None:
        weights = folder / "weights"
        weights.mkdir()
        with (weights / WEIGHTS_FILE).open("wb") as file:
            write_state(State({"w": HostTensor("float32", (), np.array([0], np.uint32))}), file)
        self._policy = {"uri": str(weights), "digest": digest_of(weights)}
        self._publish()

    def _publish(self) -> None:
        self.world.send(POLICIES, "policy", Policy(version=self.version, step=self.version, **self._policy))

    def _start(self) -> None:
        self.producer: BaseProcess = FORKS.Process(target=produce, args=(self._servers, self.config))
        self.producer.start()

    @property
    def finished(self) -> bool:
        """All updates are made."""
        return self.version >= self.config.run.num_updates

    @property
    def open(self) -> set[tuple[str, int]]:
        """Rollouts that are asked for and not graded."""
        asked = {(job.group_id, rollout) for job in self.jobs for rollout in range(job.start, job.stop)}
        ended = {end.group_id for end in self.ends} | {group.group_id for group in self._assembler.ready}
        graded = {(g.group_id, rollout) for g in self._assembler.open.values() for rollout in g.verdicts}
        return {key for key in asked if key[0] not in ended} - graded

    def turn(self) -> None:
        """A step of everything but the producer, which is started again if it is dead."""
        self.world.send(HEARTBEATS, "verifier-0", Heartbeat(worker="verifier-0", pid=1, host="h", state="running"))
        for record in self.allocator.reader.poll(0):
            hand_over(self.allocator, self._topics, record, self.allocator.watermark)
        self.allocator.work()
        self._topics.writer.push()
        for record in self._reader.poll(0.05):
            self._read(record)
        self._update()
        self.world.writer.push()
        if not self.producer.is_alive():
            self.num_deaths += 1
            self._start()

    def _read(self, record: Any) -> None:
        match record.topic.rpartition(".")[2]:
            case "jobs":
                self.jobs.append(decode(record.value, Job))
            case "verdicts":
                self._assembler.add(decode(record.value, Verdict))
            case "trajectories":
                trajectory = decode(record.value, Trajectory)
                self.lives.add(trajectory.trajectory_id.partition(".")[0])
                verdict = Verdict(trajectory=trajectory, outcome="correct", reward=1.0)
                self.world.send_of_group(VERDICTS, trajectory.job.group_id, verdict)

    def _update(self) -> None:
        if self.finished or not self._order.arrange(self._assembler.ready):
            return
        batch = self._assembler.take_rollouts(self._order.num_wanted)
        if not batch:
            return
        self._order.note(batch)
        ends = tuple(group_end(group, self.version, 10**9, group_mean=False) for group in batch)
        self.ends += ends
        self.lengths += [verdict.trajectory.token_ids.size for group in batch for verdict in group.graded]
        self.version += 1
        update = Update(step=self.version, version=self.version, parent_version=self.version - 1, groups=ends)
        self.world.send(UPDATES, "update", update)
        self._publish()

    def let_leases_run_out(self) -> None:
        """All open rollouts are issued again, or given up."""
        self.allocator._clock.now_s += self.config.allocator.lease_s + 1

    def close(self) -> None:
        self.producer.kill()
        self.producer.join()
        self._reader.close()
        self.allocator.reader.close()
        for topics in (self.world, self._topics):
            topics.writer.close()
        self.allocator.transactions.writer.close()
        self.broker.close()
