"""Runs `rucksack up CONFIG` from its checks to its report: folder, broker, topics, the run itself (`infra.run`)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from infra.doctor import warnings_of
from infra.gpu_plan import plan_gpus
from infra.gpus import visible_gpus
from infra.model_facts import facts_of, require_model
from infra.placement import Placement
from infra.run import Run
from infra.run_folder import claimed
from infra.screen import screen_for
from infra.web import web_page
from localkafka.local import LocalKafka
from prompts.sources import Loaded, read_prompts
from prompts.tokens import check_renders
from stream.broker import Broker
from stream.config import Config, load
from stream.errors import RucksackError, UserError
from stream.launch import ADDRESS_FILE, KAFKA_FOLDER, connect, stop_on_signals
from stream.snapshot import messages
from stream.topics import EVALUATIONS, TOPICS, UPDATES, kept_for


def up(
    recipe: Path,
    overrides: Sequence[str],
    console: Console,
    *,
    web: bool = False,
    placement: type[Placement] = Placement,
) -> int:
    """Run a recipe to its end; returns the exit code (0 done, 1 given up, 130 or 143 stopped by a signal).

    Args:
        placement: says how workers are started; benchmarks start other producers.

    Raises:
        UserError: something that the recipe names is not there or not as it must be.
        BrokerUnavailable: the broker does not answer.

    """
    config = load(recipe, list(overrides))
    loaded = check(config)
    cards = visible_gpus()
    gpus = plan_gpus(config, cards, facts_of(config.run.model) if cards else None)
    warnings = [f"warning: {found.name}: {found.text}; {found.remedy}" for found in warnings_of(config)]
    for line in (*loaded.lines, *gpus.lines, *warnings):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    stop = stop_on_signals()
    with ExitStack() as stack:
        folder = stack.enter_context(claimed(config))
        stack.enter_context(logging_to(folder / "logs" / "up.log"))
        # Beside the broker's start, as the tokenizer's library takes seconds to import.
        rendering = stack.enter_context(ThreadPoolExecutor(1)).submit(
            check_renders, [*loaded.pool, *loaded.heldout], config
        )
        run = Run(config, placement(config, recipe, overrides, gpus), folder, screen_for(console))
        stack.callback(run.kill)
        kafka = stack.enter_context(local_broker(config, folder, console, meanwhile=run.start_producers))
        rendering.result()
        broker = connect(config)
        stack.callback(broker.close)
        broker.create_topics(config.run.name, kept_for(config.broker.answers_hours, TOPICS), config.broker.partitions)
        if is_done(config, broker):
            text = f"run {config.run.name} is done already: nothing is started; choose another run.name to train again"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            report(config, broker, folder, console)
            return 0
        if web:
            stack.enter_context(web_page(config, recipe, console))
        code = run.until_over(broker, kafka, stop)
        if code == 0:
            report(config, broker, folder, console)
        return code


def is_done(config: Config, broker: Broker) -> bool:
    """Whether the last update is made, the model saved, and, where there is an evaluator, its last evaluations there."""
    name = config.run.name
    if not (config.run.path / "model").is_dir() or not any(u.final for u in messages(broker, name, UPDATES)):
        return False
    wanted = {"heldout", "pool"} if config.evaluator.pool else {"heldout"}
    final = {evaluation.name for evaluation in messages(broker, name, EVALUATIONS) if evaluation.final}
    return not config.evaluator.enabled or wanted <= final


def check(config: Config) -> Loaded:
    """Find what is missing before anything is started; returns the prompts.

    Raises:
        UserError: no such model, no prompts, a prompt without an answer, ...

    """
    from tracker.sinks import require_packages
    from verifier.graders import check_name

    require_model(config.run.model)
    require_packages(config)
    if config.sampling.max_tokens >= config.producer.max_model_len:
        raise UserError(
            f"sampling.max_tokens is {config.sampling.max_tokens}, which leaves no room for a prompt in producer.max_model_len, "
            f"{config.producer.max_model_len}; lower the first, or raise the second"
        )
    loaded = read_prompts(config)
    pool, heldout = loaded.pool, loaded.heldout
    for grader in sorted({prompt.grader for prompt in (*pool, *heldout)}):
        check_name(grader)
    if config.evaluator.enabled and not heldout:
        raise UserError(
            f"there is no held-out prompt to evaluate on: prompts.num_heldout is {config.prompts.num_heldout}, and of a "
            "file no more than a fifth is held out; give more prompts, prompts.heldout_source, or evaluator.enabled = false"
        )
    return loaded


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Send our own log lines to a file while inside: the terminal is for the screen."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    before, level = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("kafka").setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers = before
        root.setLevel(level)
        handler.close()


@contextmanager
def local_broker(
    config: Config, folder: Path, console: Console, meanwhile: Callable[[], None]
) -> Iterator[LocalKafka | None]:
    """The run's own broker while inside, its address in the run's folder; None where the recipe names another one.

    Args:
        meanwhile: called once the address is known, before the broker answers.

    """
    if config.broker.bootstrap_servers:
        console.print(f"broker: {config.broker.bootstrap_servers} (given)", markup=False, highlight=False)
        meanwhile()
        yield None
        return
    address = folder / ADDRESS_FILE
    nodes = f"{config.broker.nodes} node" + ("s" if config.broker.nodes > 1 else "")
    kafka = LocalKafka(folder / KAFKA_FOLDER, config.broker.nodes)
    kafka.take_ports()
    try:
        address.write_text(kafka.bootstrap_servers)
        meanwhile()
        with console.status(f"starting a local Kafka broker ({nodes})"):
            kafka.start()
        console.print(
            f"broker: local Apache Kafka, {nodes}, at {kafka.bootstrap_servers}", markup=False, highlight=False
        )
        yield kafka
    finally:
        kafka.stop()
        address.unlink(missing_ok=True)


def report(config: Config, broker: Broker, folder: Path, console: Console) -> None:
    """The report and the summary of a run that is over."""
    from replay.load import read_run
    from replay.report import write_report
    from replay.summary import print_summary, summarize

    try:
        data = read_run(broker, config.run.name)
        if config.up.report:
            with console.status("writing the report"):
                write_report([data], folder / "report.html")
        print_summary(summarize(data, folder), console)
    except RucksackError as error:
        console.print(f"no report: {error}; try `rucksack replay report {config.run.name}`", markup=False)
