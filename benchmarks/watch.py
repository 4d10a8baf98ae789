"""Measures the live page over many recorded rollouts: filling the index, first paint, and every view.

python -m benchmarks.watch --rollouts 100000 --out watch.json

A made-up run of single rollouts with beliefs is written to a broker in memory and read into an index by the follower; then the
page is served and asked as a browser asks it. `server_s` is one answer that nothing was kept for, as wall time and as CPU time of
this process; `browser` needs a Chromium: milliseconds from a click to the view, with the plots that are on the screen drawn.
The machine's load is noted beside the figures: on a shared machine only CPU time says something.
"""

import argparse
import gc
import json
import shutil
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from benchmarks.results import as_line, load, machine
from replay.watch.follow import Follower
from replay.watch.index import Index
from replay.watch.plots import VIEWS
from replay.watch.server import Watched, app_of
from replay.watch.tokens import Tokens
from stream.codec import encode
from stream.memory import MemoryBroker
from stream.messages import (
    Budgeting,
    Evaluation,
    GroupEnd,
    Heartbeat,
    Job,
    Prompt,
    Sampling,
    Span,
    Timing,
    Trajectory,
    Update,
    Verdict,
)
from stream.topics import EVALUATIONS, HEARTBEATS, JOBS, TOPICS, UPDATES, VERDICTS, partition_of

RUN = "recorded"
PARTITIONS = 4
PER_UPDATE = 500
NUM_PROMPTS = 5000
START_S = 1.7e9
WORDS = [
    "so",
    "we",
    "add",
    "the",
    "two",
    "numbers",
    "and",
    "carry",
    "one",
    "which",
    "gives",
    "the",
    "next",
    "digit",
    "of",
    "the",
    "answer",
]


def record(broker: MemoryBroker, num_rollouts: int, num_tokens: int, seed: int = 0) -> None:
    """Write a run of single rollouts to a broker, as its roles would."""
    random = np.random.default_rng(seed)
    rates = random.beta(0.7, 0.7, NUM_PROMPTS)
    broker.create_topics(RUN, TOPICS, PARTITIONS)
    ends: list[GroupEnd] = []
    for number in range(num_rollouts):
        now_s = START_S + number / 20
        verdict = _verdict(number, number % NUM_PROMPTS, rates, num_tokens, now_s, random)
        job = verdict.trajectory.job
        broker.append(JOBS.of(RUN), job.group_id.encode(), encode(job), None)
        partition = partition_of(job.group_id, PARTITIONS)
        broker.append(VERDICTS.of(RUN), job.group_id.encode(), encode(verdict), partition)
        reward = verdict.reward
        ends.append(
            GroupEnd(
                group_id=job.group_id, ending="trained", num_rollouts=1, num_graded=1, reward_sum=reward, staleness=1
            )
        )
        if len(ends) == PER_UPDATE or number == num_rollouts - 1:
            _write_update(broker, number // PER_UPDATE + 1, tuple(ends), now_s, num_rollouts)
            ends.clear()


def _verdict(
    number: int, which: int, rates: np.ndarray[Any, Any], num_tokens: int, now_s: float, random: np.random.Generator
) -> Verdict:
    version = number // PER_UPDATE
    text = " ".join(random.choice(WORDS, num_tokens))
    job = Job(
        group_id=f"p{which}.{number // NUM_PROMPTS}",
        start=0,
        stop=1,
        num_rollouts=1,
        prompt=Prompt(
            prompt_id=f"p{which}",
            text=f"What is {which} + {which * 7}?",
            answer=str(which * 8),
            grader="math",
            task="sums",
        ),
        prompt_token_ids=np.arange(1, 20, dtype=np.int32),
        sampling=Sampling(max_tokens=num_tokens),
        budgeting=Budgeting(
            mode="learnability",
            success_rate=float(rates[which]),
            num_observed=float(version),
            value=0.1,
            price=0.01,
            a=1 + 8 * float(rates[which]),
            b=1 + 8 * float(1 - rates[which]),
        ),
        created_s=now_s,
    )
    trajectory = Trajectory(
        job=job,
        rollout_index=0,
        trajectory_id=str(number),
        token_ids=random.integers(0, 50_000, num_tokens, dtype=np.int32),
        behavior_logprobs=-random.exponential(0.5, num_tokens).astype(np.float32),
        spans=(Span(policy_version=version, start=0, stop=num_tokens),),
        text=text,
        finish_reason="stop",
        timing=Timing(queued_s=0.1, generated_s=2.0),
        producer="producer-0",
        created_s=now_s + 3,
    )
    reward = float(random.random() < rates[which])
    outcome: Any = "correct" if reward else "wrong"
    return Verdict(
        trajectory=trajectory, outcome=outcome, reward=reward, grader="math", elapsed_s=0.01, created_s=now_s + 3.1
    )


def _write_update(broker: MemoryBroker, step: int, ends: tuple[GroupEnd, ...], now_s: float, num_rollouts: int) -> None:
    metrics = {"learner/update_s": 8.0, "learner/idle_share": 0.3, "learner/ess": 0.97, "learner/grad_norm": 0.4}
    metrics |= {
        "learner/importance_ratio/min": 0.5,
        "learner/importance_ratio/mean": 1.0,
        "learner/importance_ratio/max": 2.0,
    }
    update = Update(
        step=step,
        version=step,
        parent_version=step - 1,
        groups=ends,
        metrics=metrics,
        created_s=now_s + 10,
        final=step * PER_UPDATE >= num_rollouts,
    )
    broker.append(UPDATES.of(RUN), b"update", encode(update), 0)
    evaluation = Evaluation(
        name="heldout",
        policy_version=step - 1,
        min_policy_version=step - 1,
        max_policy_version=step - 1,
        accuracy=1 - 0.6 * 0.98**step,
        temperature=0.0,
        scores=(),
        created_s=now_s,
    )
    if step % 10 == 1:
        broker.append(EVALUATIONS.of(RUN), b"heldout", encode(evaluation), 0)
    for beat in range(int(PER_UPDATE / 20)):
        for worker in ("allocator-0", "producer-0", "producer-1", "verifier-0", "learner-0"):
            role = worker.rpartition("-")[0]
            heartbeat = Heartbeat(
                worker=worker,
                pid=1,
                host="here",
                state="running",
                metrics={f"{role}/idle_share": 0.2, f"{role}/swaps": float(step)},
                created_s=now_s - PER_UPDATE / 20 + beat,
            )
            broker.append(HEARTBEATS.of(RUN), worker.encode(), encode(heartbeat), 0)


def filled(broker: MemoryBroker, file: Path) -> tuple[Follower, dict[str, float]]:
    """A follower that has read everything, and how long it took."""
    follower = Follower(Index(file, RUN), lambda start: nullcontext(broker))
    began = time.monotonic(), time.process_time()
    follower.start()
    while follower.following.state != "live":
        time.sleep(0.005)
    took = {"s": round(time.monotonic() - began[0], 2), "cpu_s": round(time.process_time() - began[1], 2)}
    follower.close()  # a broker in memory never lets a poll wait: it would take a core
    return follower, took


@contextmanager
def serving(follower: Follower) -> Iterator[str]:
    """The address of a page that has answered nothing yet."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = app_of([Watched(follower.index, follower.following, Tokens(None))])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def questions() -> dict[str, str]:
    """What each view asks."""
    views = {view: f"/api/plots/{view}" for view in VIEWS}
    rollouts = {
        "find all": "/api/prompts",
        "find words": "/api/prompts?q=what+4711",
        "find band": "/api/prompts?band=0.4-0.5&order=hardest",
        "prompt": "/api/prompt?no=17",
        "answers of a version": "/api/answers?no=17&version=0",
        "rollout": "/api/rollout?no=17",
    }
    return {"page": "/", "state": "/api/state", **views, **rollouts}


def ask_all(follower: Follower) -> dict[str, dict[str, float]]:
    """Wall and CPU time of each answer, made anew."""
    found = {}
    with serving(follower) as address:
        for name, path in questions().items():
            began = time.monotonic(), time.process_time()
            with urllib.request.urlopen(address + path) as response:
                size = len(response.read())
            wall_s, cpu_s = time.monotonic() - began[0], time.process_time() - began[1]
            found[name] = {"s": round(wall_s, 3), "cpu_s": round(cpu_s, 3), "bytes": size}
    return found


def browse(follower: Follower) -> dict[str, float] | str:
    """First paint and every view in a real browser, ms; or why there is none."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "playwright is not installed"
    if chromium is None:
        return "no Chromium in the PATH"
    found: dict[str, float] = {}
    with serving(follower) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(address)
        tab.wait_for_selector("html[data-view=learning]", state="attached")
        paint = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
        found["first paint"] = round(tab.evaluate(paint))
        found["learning, plotly.js loaded with it"] = _view_ms(tab)
        for view in (*list(VIEWS)[1:], "learning", "rollouts", "prompt?no=17", "rollout?no=17"):
            tab.evaluate("view => { delete document.documentElement.dataset.view; location.hash = '#/' + view; }", view)
            tab.wait_for_selector(f"html[data-view={view.partition('?')[0]}]", state="attached")
            found[view.partition("?")[0]] = _view_ms(tab)
        browser.close()
    return found


def _view_ms(tab: Any) -> float:
    return round(float(tab.evaluate("() => document.documentElement.dataset.viewMs")))


def main() -> None:
    """Record, fill, ask, browse; print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=64, help="of each completion (default: 64)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    broker = MemoryBroker()
    record(broker, arguments.rollouts, arguments.tokens)
    gc.freeze()  # the page's process has no broker in memory, whose records the garbage collector would go through
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "index.sqlite"
        follower, fill = filled(broker, file)
        size = sum(part.stat().st_size for part in Path(folder).iterdir())
        answers = ask_all(follower)
        in_browser = browse(follower)
        follower.index.close()
        again, resume = filled(broker, file)
        again.index.close()
    result = {
        "machine": machine("starlette", "uvicorn", "plotly"),
        "load": load(),
        "rollouts": arguments.rollouts,
        "tokens": arguments.tokens,
        "fill": fill | {"rollouts_per_s": round(arguments.rollouts / fill["s"]), "index_mb": round(size / 1e6, 1)},
        "restart": resume,
        "server": answers,
        "browser_ms": in_browser,
    }
    print(as_line({"load": result["load"], "fill": fill, "index_mb": round(size / 1e6, 1), "restart": resume}))
    for name, answer in answers.items():
        print(f"{name:<22}{answer['s']:8.3f} s  {answer['cpu_s']:8.3f} s of CPU  {answer['bytes']:>10,} bytes")
    print(in_browser)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
