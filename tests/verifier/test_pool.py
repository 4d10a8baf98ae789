import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from verifier_helpers import collect

from verifier.pool import MAX_TEXT, Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(2, timeout_s=20)
    yield pool
    pool.close()


def test_every_answer_gets_its_own_grade(pool: Pool) -> None:
    for number in range(500):
        pool.submit(f"{number}", "string", f"{number:03d}", f" {number:03d}\n" if number % 2 else f"{number}")
    grades = collect(pool)
    assert len(grades) == 500
    # 1- and 2-digit even numbers lack their leading zeros
    assert {int(key) for key, grade in grades.items() if grade.outcome != "correct"} == set(range(0, 100, 2))


def test_what_cannot_be_graded_is_an_outcome(pool: Pool) -> None:
    pool.submit("unknown", "nonesuch", "1", "1")
    pool.submit("gold", "integer", "one", "1")
    pool.submit("empty", "string", "1", " ")
    pool.submit("long", "string", "1", "1" * (MAX_TEXT + 1))
    pool.submit("surrogate", "string", "1", "\ud800\x00")
    grades = collect(pool)
    assert {key: grade.outcome for key, grade in grades.items()} == {
        "unknown": "error",
        "gold": "error",
        "empty": "unparsable",
        "long": "unparsable",
        "surrogate": "wrong",
    }
    assert "no grader 'nonesuch'; known: " in grades["unknown"].reason


def test_a_killed_worker_costs_at_most_the_answer_it_was_at(pool: Pool) -> None:
    pool.submit("warm", "string", "1", "1")
    collect(pool)
    for number in range(2000):
        pool.submit(f"{number}", "integer", "7", "7")
    victims = list(pool.worker_pids)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    grades = collect(pool)
    assert len(grades) == 2000
    assert [grade.outcome for grade in grades.values()].count("error") <= len(victims)
    assert not set(victims) & set(pool.worker_pids)


def test_a_stopped_worker_is_killed_and_its_answer_times_out() -> None:
    pool = Pool(1, timeout_s=1)
    pool.submit("warm", "string", "1", "1")
    collect(pool)
    (pid,) = pool.worker_pids
    os.kill(pid, signal.SIGSTOP)
    for number in range(3):
        pool.submit(f"{number}", "string", "1", "1")
    grades = collect(pool)
    assert [grades[f"{number}"].outcome for number in range(3)] == ["timeout", "correct", "correct"]
    pool.close()


def test_waiting_for_all_ends_when_all_are_graded_or_the_time_is_over(pool: Pool) -> None:
    for number in range(300):
        pool.submit(f"{number}", "string", "1", "1")
    pool.wait_for_all(3600.0)
    assert pool.num_pending == 300
    assert len(pool.results(0.0)) == 300
    for pid in pool.worker_pids:
        os.kill(pid, signal.SIGSTOP)
    pool.submit("late", "string", "1", "1")
    pool.wait_for_all(0.01)
    assert pool.results(0.0) == []
    for pid in pool.worker_pids:
        os.kill(pid, signal.SIGCONT)
    pool.wait_for_all(3600.0)
    assert [key for key, _grade, _elapsed_s in pool.results(0.0)] == ["late"]


def test_the_forkserver_may_die_too(pool: Pool) -> None:
    pool.submit("warm", "string", "1", "1")
    collect(pool)
    os.kill(pool.forkserver_pid, signal.SIGKILL)
    for number in range(100):
        pool.submit(f"{number}", "string", "1", "1")
    grades = collect(pool)
    assert [grade.outcome for grade in grades.values()].count("correct") >= 98


PARENT = """
import sys, time
from verifier.pool import Pool
pool = Pool(2)
for number in range(50):
    pool.submit(str(number), "string", "1", "1")
while pool.num_pending or len(pool.worker_pids) < 2:
    pool.results(0.1)
print(pool.forkserver_pid, *pool.worker_pids, flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_verifier_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        pids = [int(word) for word in parent.stdout.readline().split()]
        processes = [psutil.Process(pid) for pid in pids]
        parent.kill()
    gone, alive = psutil.wait_procs(processes, timeout=60)
    assert (len(gone), alive) == (3, [])


def test_sympy_is_loaded_when_it_is_first_needed_and_nothing_waiting_is_lost() -> None:
    pool = Pool(2, timeout_s=20)
    for number in range(300):
        pool.submit(f"light {number}", "integer", "7", "7")
    before = set(pool.worker_pids) | {
        pid for _ in range(50) if pool.results(0.05) is not None for pid in pool.worker_pids
    }
    for number in range(100):
        pool.submit(f"heavy {number}", "math", "x+1", "1+x")
        pool.submit(f"more {number}", "integer", "7", "8")
    grades = {key: grade for key, grade in collect(pool).items() if not key.startswith("light")}
    assert {key.split()[0]: grade.outcome for key, grade in grades.items()} == {"heavy": "correct", "more": "wrong"}
    assert len(grades) == 200
    assert not before & set(pool.worker_pids)
    os.kill(pool.forkserver_pid, signal.SIGKILL)  # the next one has sympy from the start
    for number in range(20):
        pool.submit(f"{number}", "math", "x+1", "1+x")
    assert [grade.outcome for grade in collect(pool).values()].count("correct") >= 18
    pool.close()
