"""The producer against a memory broker and an engine that the tests finish by hand: jobs, trajectories, progress."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
from factories import make_job
from msgspec.structs import replace
from producer_bench import Bench, make_completion

from producers import role
from producers.engine import EngineDied, Refused
from producers.role import MAX_SLICE
from stream.codec import SCHEMA_VERSION, decode, encode
from stream.messages import Job, Policy, Sampling, Span
from stream.topics import JOBS, TRAJECTORIES, partition_of
from stream.worker import run_loop

# -- trajectories -----------------------------------------------------------------------------------------------------


def test_a_trajectory_says_what_was_sampled_and_for_which_job(bench):
    bench.serve()
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=5, max_tokens=17)
    job = make_job("p0.0000", num_rollouts=9, start=4, stop=6, sampling=sampling)
    bench.ask(job)
    bench.until(lambda: len(bench.engine.requests) == 2)
    assert bench.engine.settings["p0.0000/4"] == {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "max_tokens": 17}
    assert bench.engine.prompts["p0.0000/5"] == [1, 2, 3]
    bench.finish("p0.0000/5", make_completion((4, 3, 1), version=2, logprob=-0.25))
    (trajectory,) = bench.trajectories()
    assert (trajectory.rollout_index, trajectory.job.group_id, trajectory.producer) == (5, "p0.0000", "producer-0")
    assert trajectory.job.sampling == sampling
    assert trajectory.token_ids.tolist() == [4, 3, 1]
    assert trajectory.behavior_logprobs.tolist() == [-0.25, -0.25, -0.25]
    assert trajectory.spans == (Span(policy_version=2, start=0, stop=3),)
    assert trajectory.text == "c b"  # WordLevel without a decoder; the end token is left out
    assert (trajectory.timing.queued_s, trajectory.timing.generated_s) == (0.5, 1.5)


def test_all_of_a_group_share_a_partition_whichever_partition_its_jobs_came_from(bench):
    bench.serve()
    for start in range(4):
        bench.ask(make_job("p7.0003", 4, start=start, stop=start + 1), partition=start % 2)
    bench.until(lambda: len(bench.engine.requests) == 4)
    for rollout in range(4):
        bench.finish(f"p7.0003/{rollout}")
    topic = bench.broker.logs[TRAJECTORIES.of("r")]
    assert [len(log) for log in topic] == [4 * (partition_of("p7.0003", 2) == number) for number in range(2)]
    assert len({trajectory.trajectory_id for trajectory in bench.trajectories()}) == 4


def test_no_job_is_taken_before_there_is_a_policy_nor_while_the_engine_is_full(bench):
    bench.ask(make_job("p0.0000", 4))
    bench.turn()
    bench.barrier()
    assert (bench.role.wants_input, bench.engine.requests) == (False, {})
    bench.serve()
    assert bench.role.wants_input
    bench.until(lambda: len(bench.engine.requests) == 4)
    assert bench.role.wants_input
    bench.ask(make_job("p1.0000", 6))
    bench.until(lambda: len(bench.engine.requests) == 10)
    assert bench.role.wants_input  # 6 are sampled, and fewer wait
    bench.ask(make_job("p2.0000", 4))
    bench.until(lambda: len(bench.engine.requests) == 14)
    assert not bench.role.wants_input
    for rollout in range(3):
        bench.finish(f"p0.0000/{rollout}")
    assert bench.role.wants_input


def test_a_job_waits_for_weights_as_new_as_it_wants_them(bench):
    bench.serve(3)
    bench.ask(replace(make_job("p0.0000", 2), min_policy_version=5))
    bench.until(lambda: bench.role.metrics()["producer/held_jobs"] == 1)
    bench.serve(4)
    assert bench.engine.requests == {}
    assert bench.progress() == 0
    bench.serve(5)
    bench.until(lambda: len(bench.engine.requests) == 2)
    assert bench.role.metrics()["producer/held_jobs"] == 0


def test_jobs_that_wait_for_weights_that_never_come_do_not_fill_the_producer_for_ever(bench, monkeypatch):
    bench.serve(3)
    bench.ask(replace(make_job("p0.0000", 12), min_policy_version=10**9))
    bench.until(lambda: bench.role.metrics()["producer/held_jobs"] == 1)
    bench.ask(make_job("p1.0000", 1))
    bench.turn()
    assert not bench.role.wants_input
    now = time.monotonic()
    monkeypatch.setattr(role.time, "monotonic", lambda: now + bench.config.allocator.lease_s + 1)
    bench.turn()
    monkeypatch.undo()
    (letter,) = bench.letters()
    assert "job of group p0.0000 wants policy 1000000000; 3 is the newest" in letter.error
    bench.until(lambda: list(bench.engine.requests) == ["p1.0000/0"])
    bench.finish("p1.0000/0")
    bench.acknowledge()
    assert bench.progress() == 2


# -- progress ---------------------------------------------------------------------------------------------------------


def test_progress_waits_for_every_trajectory_of_a_job_to_be_durable(bench):
    bench.serve()
    bench.ask(make_job("p0.0000", 2))
    bench.until(lambda: len(bench.engine.requests) == 2)
    bench.finish("p0.0000/1")
    bench.acknowledge()
    assert bench.progress() == 0
    bench.finish("p0.0000/0")
    assert len(bench.trajectories()) == 2
    assert bench.progress() == 0  # written, but not acknowledged
    bench.acknowledge()
    assert bench.progress() == 1


def test_what_is_issued_again_while_it_is_sampled_is_sampled_once(bench):
    bench.serve()
    job = make_job("p0.0000", 2)
    bench.ask(job)
    bench.until(lambda: len(bench.engine.requests) == 2)
    first = dict(bench.engine.requests)
    bench.ask(replace(job, start=1, attempt=1))
    bench.until(lambda: bench.role.metrics()["producer/in_flight"] == 3)
    assert bench.engine.requests == first
    bench.finish("p0.0000/1")
    bench.acknowledge()
    assert [trajectory.rollout_index for trajectory in bench.trajectories()] == [1]
    assert (bench.progress(), bench.watermark.num_pending) == (0, 1)  # the second job is done, the first is not
    bench.finish("p0.0000/0")
    bench.acknowledge()
    assert [trajectory.rollout_index for trajectory in bench.trajectories()] == [1, 0]
    assert (bench.progress(), bench.role.metrics()["producer/in_flight"]) == (2, 0)


def test_progress_is_the_lowest_unfinished_job_when_jobs_end_out_of_order(bench):
    bench.serve()
    for number in range(3):
        bench.ask(make_job(f"p{number}.0000", 2))
    bench.until(lambda: len(bench.engine.requests) == 6)
    for name in ("p2.0000/0", "p2.0000/1", "p1.0000/1", "p1.0000/0", "p0.0000/0"):
        bench.finish(name)
        bench.acknowledge()
        assert bench.progress() == 0
    bench.finish("p0.0000/1")
    bench.acknowledge()
    assert bench.progress() == 3


@contextmanager
def running(bench: Bench) -> Iterator[None]:
    """The worker loop in a thread of its own; stopped at the end."""
    stop, reader = threading.Event(), bench.topics.reader(JOBS, consumer_group="producers")
    thread = threading.Thread(
        target=run_loop, args=(bench.role, bench.topics, reader, stop), kwargs={"commits": True, "poll_s": 0.001}
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_job_that_was_not_finished_is_there_for_the_next_producer(bench):
    bench.publish(0)
    bench.ask(make_job("p0.0000", 1))
    bench.ask(make_job("p1.0000", 1))
    with running(bench):
        wait_for(lambda: len(bench.engine.requests) == 2)
        bench.loop.call_soon_threadsafe(lambda: bench.engine.requests["p0.0000/0"].set_result(make_completion()))
        wait_for(lambda: len(bench.trajectories()) == 1)
        bench.acknowledge()
    assert bench.broker.group_offsets("r.producers")[JOBS.of("r"), 0] == 1
    (record,) = bench.topics.reader(JOBS, consumer_group="producers").poll(0)
    assert decode(record.value, Job).group_id == "p1.0000"


# -- what must not stop a producer, and what must ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "error"),
    [
        pytest.param(
            make_job("p0.0000", 1, sampling=Sampling(max_tokens=62)),
            "may reach 65 tokens; producer.max_model_len is 64",
            id="too long",
        ),
        pytest.param(
            make_job("p0.0000", 1, prompt_token_ids=np.zeros(5000, np.int32)), "may reach 5008 tokens", id="long prompt"
        ),
        pytest.param(make_job("p0.0000", MAX_SLICE + 1), f"asks for {MAX_SLICE + 1} rollouts at once", id="too many"),
    ],
)
def test_jobs_that_no_producer_can_do_go_to_deadletters(bench, job, error):
    bench.serve()
    bench.ask(job)
    bench.ask(make_job("p9.0000", 1))
    bench.until(lambda: len(bench.engine.requests) == 1)
    (letter,) = bench.letters()
    assert error in letter.error
    assert decode(letter.value, Job).group_id == "p0.0000"
    bench.finish("p9.0000/0")
    bench.acknowledge()
    assert bench.progress() == 2


def test_garbage_other_messages_and_newer_major_schemas_go_to_deadletters_and_newer_minors_are_read(bench):
    bench.serve()
    major, minor = SCHEMA_VERSION
    job = make_job("p0.0000", 1)
    header, body = msgspec.msgpack.decode(encode(job), type=tuple[int, int, str, msgspec.Raw])[2:]
    bench.ask_raw(b"\xc1garbage")
    bench.ask_raw(encode(Policy(version=1, uri="x", digest="y", step=1)))
    bench.ask_raw(msgspec.msgpack.encode((major + 1, 0, header, body)))
    fields = msgspec.msgpack.decode(body) | {"a_field_of_tomorrow": [1, {"a": None}]}
    bench.ask_raw(msgspec.msgpack.encode((major, minor + 7, header, fields)))
    bench.until(lambda: len(bench.engine.requests) == 1)
    bench.finish("p0.0000/0")
    assert [trajectory.job.group_id for trajectory in bench.trajectories()] == ["p0.0000"]
    errors = [letter.error for letter in bench.letters()]
    assert len(errors) == 3
    assert "not a Rucksack record" in errors[0]
    assert "record holds a Policy; this topic carries Job" in errors[1]
    assert f"schema version is {major + 1}; this program reads {major}" in errors[2]
    bench.acknowledge()
    assert bench.progress() == 4


def test_a_job_that_the_engine_refuses_is_one_dead_letter_and_the_rest_goes_on(bench):
    bench.serve()
    bench.ask(make_job("p0.0000", 3, sampling=Sampling(temperature=-1.0, max_tokens=8)))
    bench.ask(make_job("p1.0000", 1))
    bench.until(lambda: len(bench.engine.requests) == 4)
    for rollout in range(3):
        bench.finish(f"p0.0000/{rollout}", Refused("vLLM refuses request: temperature must be non-negative"))
    bench.finish("p1.0000/0")
    assert [letter.error for letter in bench.letters()] == ["vLLM refuses request: temperature must be non-negative"]
    assert bench.progress() == 0  # the dead letter is not durable yet
    bench.acknowledge()
    assert bench.progress() == 2
    assert len(bench.trajectories()) == 1


def test_logprobs_that_are_not_numbers_go_to_deadletters(bench):
    bench.serve()
    bench.ask(make_job("p0.0000", 1))
    bench.until(lambda: len(bench.engine.requests) == 1)
    bench.finish("p0.0000/0", make_completion(logprob=float("nan")))
    assert bench.trajectories() == []
    (letter,) = bench.letters()
    assert "behavior_logprobs are not all finite" in letter.error


def test_a_dead_engine_ends_the_producer_even_when_nothing_is_in_flight(bench):
    bench.serve()
    bench.engine.alive = False
    with pytest.raises(EngineDied):
        bench.turn()


def test_an_engine_that_dies_in_a_rollout_or_a_swap_ends_the_producer(bench):
    bench.serve()
    bench.ask(make_job("p0.0000", 1))
    bench.until(lambda: len(bench.engine.requests) == 1)
    with pytest.raises(EngineDied):
        bench.finish("p0.0000/0", EngineDied("killed in flight"))
    assert bench.progress() == 0
    bench.engine.swap_error = EngineDied("killed while loading")
    bench.publish(1)
    with pytest.raises(EngineDied):
        bench.until(lambda: False)


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_the_producer_wakes_when_the_engine_has_nothing_more_to_do_and_when_weights_are_loaded(bench):
    bench.serve()
    bench.settle()
    bench.ask(make_job("p0.0000", 2))
    bench.until(lambda: len(bench.engine.requests) == 2)
    bench.role._wake.clear()
    bench.finish("p0.0000/0")
    bench.role._read.exception(60)
    bench.role._wake.clear()
    bench.finish("p0.0000/1")
    bench.role.rest(3600.0)
    bench.engine.swap_gate.clear()
    bench.publish(1)
    bench.until(lambda: bench.role._swap is not None)
    swap = bench.role._swap[1]
    bench.role._read.exception(60)
    bench.role._wake.clear()
    bench.loop.call_soon_threadsafe(bench.engine.swap_gate.set)
    bench.role.rest(3600.0)
    assert swap.result(60) == 0.25
    assert bench.version == 0
    bench.role.work()
    assert bench.version == 1
