import pytest
from rich.console import Console

from infra.board import Board
from infra.screen import one_line, render, spark, time_text
from infra.supervisor import WorkerRow
from stream.messages import Evaluation, GroupEnd, Heartbeat, Update


def heartbeat(worker: str, at: float, pid: int = 1, state: str = "running", **metrics: float) -> Heartbeat:
    named = {key.replace("__", "/"): value for key, value in metrics.items()}
    return Heartbeat(worker=worker, pid=pid, host="h", state=state, metrics=named, created_s=at)


def update(step: int, at: float, groups: bool = True, **metrics: float) -> Update:
    end = GroupEnd(group_id="g", ending="trained", num_rollouts=8, num_graded=8, reward_sum=4.0, staleness=0)
    named = {f"learner/{key.replace('__', '/')}": value for key, value in metrics.items()}
    ends = (end,) if groups else ()
    return Update(step=step, version=step, parent_version=step - 1, groups=ends, metrics=named, created_s=at)


def evaluation(version: int, accuracy: float, name: str = "heldout") -> Evaluation:
    return Evaluation(
        name=name, policy_version=version, min_policy_version=version, max_policy_version=version, accuracy=accuracy,
        temperature=0.0, scores=(),
    )  # fmt: skip


@pytest.fixture
def board() -> Board:
    return Board("demo", num_updates=100)


def test_rates_add_up_over_workers_and_survive_a_restart(board):
    board.note(heartbeat("producer-0", 0, pid=1, producer__rollouts=1000, producer__tokens=5000))
    board.note(heartbeat("producer-1", 0, pid=2, producer__rollouts=0, producer__tokens=0))
    board.note(heartbeat("producer-0", 5, pid=1, producer__rollouts=1100, producer__tokens=5500))
    board.note(heartbeat("producer-0", 10, pid=3, producer__rollouts=30, producer__tokens=100))
    board.note(heartbeat("producer-1", 10, pid=2, producer__rollouts=70, producer__tokens=400))
    assert board.totals == {"producer/rollouts": 200, "producer/tokens": 1000}
    assert board.rate("producer/rollouts") == 20.0
    assert board.rate("producer/tokens") == 100.0


def test_time_left_follows_the_pace_of_the_updates(board):
    assert board.time_left_s() is None
    for step in range(1, 11):
        board.note(update(step, at=2.0 * step))
    assert board.time_left_s() == 180.0


def test_a_resumed_learner_moves_the_step_and_no_figure(board):
    board.note(update(7, 0, reward__mean=0.5))
    board.note(update(5, 1, groups=False, resumed=1.0))
    assert (board.step, board.figure("learner/reward/mean"), board.rewards) == (5, 0.5, [0.5])


def test_ungraded_answers_are_counted_over_verifiers(board):
    board.note(heartbeat("verifier-0", 0, verifier__outcome__correct=90, verifier__outcome__timeout=10))
    board.note(heartbeat("verifier-1", 0, verifier__outcome__wrong=95, verifier__outcome__error=5, verifier__alarms=1))
    share = board.ungraded()
    assert (share.num_ungraded, share.num_verdicts, board.alarmed_tasks) == (15, 200, 1)


def test_status_has_first_and_last_accuracy(board):
    for version, accuracy in ((0, 0.3), (20, 0.5)):
        board.note(evaluation(version, accuracy))
    board.note(evaluation(20, 0.9, name="pool"))
    board.note(evaluation(0, 0.1, name="base"))
    status = board.status()
    assert (status["heldout_accuracy_base"], status["heldout_accuracy"]) == (0.3, 0.5)
    assert board.pool == [(20, 0.9)]


def text_of(board: Board, rows: list[WorkerRow], width: int = 130) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render(board, rows, elapsed_s=75, width=width))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 130])
def test_the_screen_shows_the_figures_and_fits(board, width):
    rows = [WorkerRow("producer-0", "running", 12, 70.0, 0), WorkerRow("learner-0", "waiting", None, 0.0, 2)]
    board.note(evaluation(0, 0.345))
    board.note(evaluation(20, 0.55))
    board.note(heartbeat("producer-0", 1, pid=12, producer__in_flight=64, producer__idle_share=0.25))
    figures = {"reward__mean": 0.4, "staleness__min": 0.0, "staleness__mean": 0.5, "staleness__max": 1.0}
    board.note(update(40, 1, **figures, effective_gradient_ratio__samples=0.61, effective_gradient_ratio__prompts=0.42))
    board.lag = {"jobs": 3, "trajectories": 0}
    text = text_of(board, rows, width)
    for part in ("effective-gradient ratio, samples", "staleness, versions (min/mean/max)", "0.345 -> 0.550 (+0.205)", "update 40/100", "0.610", "0.420", "0.0 / 0.5 / 1.0", "jobs 3, trajectories 0",
                 "64 in flight", "25%", "1 min 15 s elapsed", "waiting"):  # fmt: skip
        assert part in text
    assert max(map(len, text.splitlines())) <= width
    assert "ALARM" not in text


@pytest.mark.parametrize("width", [80, 130])
def test_the_screen_shows_how_good_the_beliefs_are_and_fits(board, width):
    assert "-, -" in text_of(board, [], width)
    board.note(update(1, 1, belief__skill=0.6312, belief__calibration_error=0.0287))
    text = text_of(board, [], width)
    assert "belief: skill, calibration error" in text
    assert "0.631, 0.029" in text
    assert max(map(len, text.splitlines())) <= width


def test_an_alarm_is_loud_on_the_screen_and_in_the_line(board):
    board.note(
        heartbeat("verifier-0", 0, verifier__outcome__timeout=60, verifier__outcome__wrong=140, verifier__alarms=1)
    )
    board.note(update(1, 0))
    assert "ALARM: 60 of 200 answers got no grade" in text_of(board, [])
    assert "ALARM: 60 of 200 answers got no grade" in one_line(board, [])


def test_before_the_first_update_the_line_tells_what_is_starting(board):
    assert one_line(board, [WorkerRow("producer-0", "running", 1, 1.0, 0)]) == "no update yet: producer-0 running"


def test_small_texts():
    assert spark([0, 0.5, 1]) == "▁▅█"
    assert [time_text(s) for s in (None, 5.4, 65, 3720)] == ["-", "5 s", "1 min 05 s", "1 h 02 min"]


def beats(board: Board, worker: str, pid: int, start: int, stop: int) -> None:
    for second in range(start, stop):
        board.note(heartbeat(worker, second, pid=pid))


def test_a_worker_is_silent_by_the_clock_of_the_others(board):
    board.note(heartbeat("learner-0", 100, pid=1))
    board.note(heartbeat("producer-0", 100, pid=2))
    assert board.silent_s("learner-0", 1) == 0.0  # as when the broker is away: nobody's heartbeats come
    beats(board, "producer-0", 2, 101, 131)
    assert board.silent_s("learner-0", 1) == 30.0
    assert board.silent_s("learner-0", 9) == 0.0  # a new process that has sent none yet
    assert board.silent_s("verifier-0", 3) == 0.0


def test_heartbeats_kept_through_an_outage_make_nobody_silent_who_is_back_later(board):
    for second in (100, 101, 102):
        board.note(heartbeat("learner-0", second, pid=1))
        board.note(heartbeat("producer-0", second, pid=2))
    for second in (112, 122, 132, 133):  # one each `stream.worker.UNHEARD_S`, and one when the broker is back
        board.note(heartbeat("producer-0", second, pid=2))
    assert board.silent_s("learner-0", 1) == 1.0
    board.note(heartbeat("learner-0", 136, pid=1))
    assert board.silent_s("learner-0", 1) == 0.0


@pytest.mark.parametrize("state", ["closing", "saving"])
def test_who_writes_a_large_model_may_be_silent(board, state):
    board.note(heartbeat("learner-0", 100, pid=1, state=state))
    beats(board, "producer-0", 2, 100, 900)
    assert board.silent_s("learner-0", 1) == 0.0


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_is_set_makes_nobody_silent(board, jump):
    board.note(heartbeat("learner-0", 1_000_000))
    board.note(heartbeat("producer-0", 1_000_000))
    beats(board, "producer-0", 1, 1_000_000 + jump, 1_000_030 + jump)
    assert board.silent_s("learner-0", 1) == 29.0  # as many as the producer was heard of since
    assert board.silent_s("producer-0", 1) == 0.0
    board.note(heartbeat("learner-0", 1_000_030 + jump))
    assert board.silent_s("learner-0", 1) == 0.0


def test_machines_whose_clocks_differ_are_one_run(board):
    for second in range(1_000_000, 1_000_060):
        board.note(heartbeat("producer-0", second, pid=1, producer__rollouts=10 * (second - 1_000_000)))
        board.note(heartbeat("producer-1", second + 300, pid=2, producer__rollouts=20 * (second - 1_000_000)))
    assert (board.silent_s("producer-0", 1), board.silent_s("producer-1", 2)) == (0.0, 0.0)
    assert board.rate("producer/rollouts") == pytest.approx(30.0, rel=0.1)
