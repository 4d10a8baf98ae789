"""Measures how weights travel: bytes, and seconds to find, send, fetch, check and apply, through the log and by files.

    python -m benchmarks.weights [--case demo|smollm2|0.5b|1.5b ...] [--engine] [--updates 6] [--out FILE.json]

One process plays learner and producer, a real local Kafka (or, with --memory, the broker in memory) is between them. A case
is a model, a learning rate and the precision that is published. Its steps are those of Adam in a steady state where noise
rules: a normal number with the standard deviation lr sqrt((1 - beta1) / (1 + beta1)) = .23 lr for every weight; where there
is no model on disk the weights are normal with standard deviation .02. With --engine a vLLM samples meanwhile, and
what pauses and what waits is measured there.

take: find what has changed, on the device.  send: digest, encode, send, acknowledged.  fetch: read, decode, apply on the
host, check the digest.  cpu: CPU time of these three, both sides, which also holds on a machine that others use.
apply: until the engine samples from the new weights.  first: until a request that comes then has its first token, which
the engine says the new weights have sampled.  total: all of them, from the end of an update to a first token under the
new weights.  whole: the same for the first publication.  join: what a new producer takes to read and check the newest state.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.results import as_line, load, machine, write_rows
from learner.changes import ChangeFinder
from learner.publisher import FolderPublisher, LogPublisher, Place, Publisher
from localkafka.local import LocalKafka
from producers.follower import Offer, PolicyFollower
from stream.broker import Broker
from stream.config import Config
from stream.console import make_console
from stream.memory import MemoryBroker
from stream.messages import Dtype, Policy
from stream.run_topics import RunTopics
from stream.topics import POLICIES, TOPICS
from stream.weights import read_state

ADAM_NOISE = ((1 - 0.9) / (1 + 0.9)) ** 0.5
STEPS = ("take_s", "send_s", "fetch_s", "cpu_s", "apply_s", "first_s", "total_s")


@dataclass(frozen=True)
class Case:
    """A model, how it learns, and what is published of it."""

    name: str
    lr: float
    dtype: Dtype
    model: str = ""
    """A folder; empty takes random weights of `shape`."""
    shape: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Vocabulary, width, width of the feed-forward layers, layers."""


SMOLLM2 = "models/smollm2-135m-instruct"
CASES = {
    "demo": [Case("demo .8 M", 8e-4, "float32", "demo/base")],
    "smollm2": [Case(f"SmolLM2-135M, lr {lr:.0e}", lr, "bfloat16", SMOLLM2) for lr in (1e-6, 1e-5, 1e-4)],
    "0.5b": [Case("random .5 B, lr 1e-06", 1e-6, "bfloat16", shape=(151_936, 896, 4864, 24))],
    "1.5b": [Case("random 1.5 B, lr 1e-06", 1e-6, "bfloat16", shape=(151_936, 1536, 8960, 28))],
}


class Model:
    """Weights that change as training changes them."""

    def __init__(self, case: Case, folder: Path, device: str) -> None:
        self._lr, self._device = case.lr, device
        self._generator = torch.Generator(device).manual_seed(0)
        self.weights = dict(_stored(folder, device) if case.model else self._random(case.shape))
        self.num_weights = sum(tensor.numel() for tensor in self.weights.values())

    def step(self) -> None:
        """One update."""
        for tensor in self.weights.values():
            noise = torch.randn(tensor.shape, generator=self._generator, device=self._device)
            tensor.add_(noise, alpha=self._lr * ADAM_NOISE)

    def _random(self, shape: tuple[int, int, int, int]) -> Iterator[tuple[str, Tensor]]:
        vocabulary, width, inner, layers = shape
        yield "model.embed_tokens.weight", self._normal(vocabulary, width)
        for layer in range(layers):
            for name, size in (("self_attn.q_proj", width), ("self_attn.o_proj", width), ("mlp.gate_proj", inner),
                               ("mlp.up_proj", inner), ("mlp.down_proj", inner)):  # fmt: skip
                yield f"model.layers.{layer}.{name}.weight", self._normal(size, width)
            yield f"model.layers.{layer}.input_layernorm.weight", torch.ones(width, device=self._device)

    def _normal(self, rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=self._generator, device=self._device) * 0.02


def _stored(folder: Path, device: str) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in read_state(folder).tensors.items():
        bits = torch.from_numpy(tensor.bits.view(f"<i{tensor.bits.itemsize}"))
        yield name, bits.view(getattr(torch, tensor.dtype)).view(tensor.shape).float().to(device)


MAX_MODEL_LEN = 64
"""Of the engine: what the demo's model can do."""


class Served:
    """What the producer's side does with an offer: an engine that samples, or none. Its versions grow from run to run."""

    def __init__(self, folder: Path | None, dtype: Dtype) -> None:
        self._loop = asyncio.new_event_loop()
        self._engine: Any = self._loop.run_until_complete(self._start(folder, dtype)) if folder is not None else None
        self.version = 0

    async def _start(self, folder: Path, dtype: Dtype) -> Any:
        from producers.engine import Engine

        engine = await Engine.start(folder, max_model_len=MAX_MODEL_LEN, max_num_seqs=4, dtype=dtype, kv_cache_gib=0.25)
        await engine.warm_up()
        return engine

    def load(self, offer: Offer) -> dict[str, float]:
        """Seconds until the offered weights are sampled from, until a first token, and for which sampling was paused."""
        self.version = offer.version
        if self._engine is None:
            return {"apply_s": 0.0, "first_s": 0.0, "paused_s": 0.0}
        return self._loop.run_until_complete(self._load(offer))

    async def _load(self, offer: Offer) -> dict[str, float]:
        is_loaded = asyncio.Event()
        sampling = asyncio.create_task(self._keep_sampling(offer.version, is_loaded))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        if offer.folder:
            paused_s = await self._engine.swap(offer.folder, offer.version)
        else:
            paused_s = await self._engine.apply(offer.patches, offer.version)
        loaded = time.monotonic()
        completion = await self._sample(f"new/{offer.version}", 1)
        first_s = time.monotonic() - loaded
        is_loaded.set()
        if [span.policy_version for span in completion.spans] != [offer.version]:
            raise RuntimeError(f"the first token is labelled {completion.spans}; want version {offer.version}")
        await sampling
        return {"apply_s": loaded - started, "first_s": first_s, "paused_s": paused_s}

    async def _keep_sampling(self, version: int, is_loaded: asyncio.Event) -> None:
        """One completion after the other, so that weights are always put in while something is sampled."""
        for number in itertools.count():
            if is_loaded.is_set():
                return
            await self._sample(f"old/{version}/{number}", MAX_MODEL_LEN - 8)

    async def _sample(self, name: str, max_tokens: int) -> Any:
        return await self._engine.generate([1] * 8, request_id=f"bench/{name}", max_tokens=max_tokens)

    def close(self) -> None:
        """End the engine."""
        if self._engine is not None:
            self._loop.run_until_complete(self._engine.close())
        self._loop.close()


class Journey:
    """One way of the weights, from a model that changes to one that samples."""

    def __init__(
        self, model: Model, publisher: Publisher, finder: ChangeFinder, topics: RunTopics, served: Served
    ) -> None:
        self._model, self._publisher, self._finder = model, publisher, finder
        self._topics, self._served = topics, served
        self._follower = PolicyFollower(topics, poll_s=0.005)
        self._version = served.version

    def once(self) -> dict[str, float]:
        """Publish the model as it is, and take it over; returns seconds and bytes."""
        started, cpu_started = time.monotonic(), time.process_time()
        changes = self._finder.take(self._model.weights.items())
        taken = time.monotonic()
        version = self._version + 1
        place = self._publisher.publish(changes, version)
        self._announce(version, place)
        sent = time.monotonic()
        offer = None
        while offer is None:
            offer = self._follower.step(self._version, busy=False)
        fetched, cpu_s = time.monotonic(), time.process_time() - cpu_started
        loaded = self._served.load(offer)
        self._publisher.tidy(version)
        self._version = version
        return {
            "bytes": place.num_bytes,
            "changed_share": changes.num_changed / changes.num_elements,
            "take_s": taken - started,
            "send_s": sent - taken,
            "fetch_s": fetched - sent,
            "cpu_s": cpu_s,
            "total_s": fetched - started + loaded["apply_s"] + loaded["first_s"],
            **loaded,
        }

    def join(self) -> float:
        """Seconds in which a new producer comes to the newest state."""
        started = time.monotonic()
        follower = PolicyFollower(self._topics)
        while follower.step(-1, busy=False) is None:
            pass
        follower.close()
        return time.monotonic() - started

    def _announce(self, version: int, place: Place) -> None:
        policy = Policy(version=version, digest=place.digest, step=version, offset=place.offset, uri=place.uri)
        self._topics.send(POLICIES, "policy", policy)
        self._topics.writer.flush()

    def close(self) -> None:
        """Free the connections."""
        self._follower.close()
        self._publisher.close()


def measure(case: Case, way: str, broker: Broker, served: Served, options: argparse.Namespace) -> dict[str, Any]:
    """The first publication, and the medians of those after it."""
    folder = folder_of(case, options)
    model = Model(case, folder, options.device)
    run = f"w{time.time_ns()}"
    with tempfile.TemporaryDirectory() as temporary:
        config = Config.model_validate({"run": {"name": run, "dir": temporary}, "learner": {"weights": way}})
        broker.create_topics(run, TOPICS, 1)
        topics = RunTopics(broker, run, "bench")
        publisher: Publisher = LogPublisher(config, topics)
        if way == "files":
            publisher = FolderPublisher(Path(temporary) / "policies", 2, _model_config(folder))
        journey = Journey(model, publisher, ChangeFinder(case.dtype), topics, served)
        try:
            first = journey.once()
            rows = []
            for _ in range(options.updates):
                model.step()
                rows.append(journey.once())
            join_s = journey.join()
        finally:
            journey.close()
    dense = model.num_weights * (4 if case.dtype == "float32" else 2)
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return {
        "case": case.name, "way": way, "dtype": case.dtype, "num_weights": model.num_weights, "dense_bytes": dense,
        "share_of_dense": medians["bytes"] / dense, "whole_total_s": first["total_s"], "join_s": join_s, **medians,
    }  # fmt: skip


def folder_of(case: Case, options: argparse.Namespace) -> Path:
    """Where the case's model is."""
    return Path(options.model if case.model == SMOLLM2 else case.model or ".")


def measure_all(broker: Broker, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every case, both ways; cases of one model share an engine."""
    cases = [case for name in options.case for case in CASES[name]]
    for (model, dtype), some in itertools.groupby(cases, key=lambda case: (case.model, case.dtype)):
        group = list(some)
        served = Served(folder_of(group[0], options) if options.engine and model else None, dtype)
        try:
            for case, way in itertools.product(group, ("log", "files")):
                yield measure(case, way, broker, served, options)
        finally:
            served.close()


def _model_config(folder: Path) -> Any:
    from transformers import AutoConfig, LlamaConfig

    return AutoConfig.from_pretrained(folder) if (folder / "config.json").is_file() else LlamaConfig()


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """One line for each case and way."""
    table = Table(title="Weights on their way: medians of the updates after the first", title_justify="left")
    table.add_column("case")
    table.add_column("way")
    steps = [name.removesuffix("_s") + " s" for name in STEPS]
    for column in ("MB", "of dense", "changed", *steps, "paused ms", "whole s", "join s"):
        table.add_column(column, justify="right")
    for row in rows:
        figures = [f"{row['bytes'] / 1e6:,.2f}", f"{row['share_of_dense']:.2%}", f"{row['changed_share']:.2%}"]
        figures += [f"{row[name]:.3f}" for name in STEPS]
        figures += [f"{1000 * row['paused_s']:.0f}", f"{row['whole_total_s']:.2f}", f"{row['join_s']:.2f}"]
        table.add_row(row["case"], row["way"], *figures)
    console.print(table)


def main() -> None:
    """Measure every case both ways, in one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", default=["demo", "smollm2"], choices=CASES, metavar="CASE")
    parser.add_argument("--model", default=SMOLLM2, help="folder of SmolLM2-135M, as `rucksack smollm2` makes it")
    parser.add_argument("--updates", type=int, default=6, help="after the first, whole one (default: 6)")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of the learner's side"
    )
    parser.add_argument("--engine", action="store_true", help="a vLLM samples meanwhile; without it nothing is applied")
    parser.add_argument("--memory", action="store_true", help="a broker in memory instead of Kafka")
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    options = parser.parse_args()
    console = make_console()
    settings = {"machine": machine("torch"), "updates": options.updates, "device": options.device,
                "broker": "memory" if options.memory else "kafka", "load": load()}  # fmt: skip
    console.print(as_line(settings))
    rows = []
    with ExitStack() as stack:
        if options.memory:
            broker: Broker = MemoryBroker()
        else:
            from stream.kafka import KafkaBroker

            kafka = stack.enter_context(LocalKafka(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            broker = KafkaBroker(kafka.bootstrap_servers)
        for row in measure_all(broker, options):
            rows.append(row)
            console.print(as_line({"done": row["case"], "way": row["way"], "total_s": f"{row['total_s']:.3f}"}))
        broker.close()
    show(rows, console)
    if options.out:
        write_rows(options.out, settings, "rows", rows)


if __name__ == "__main__":
    main()
