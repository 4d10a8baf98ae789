"""The producer follows the policies: which are loaded, in which order, and which go to deadletters."""

from stream.codec import decode
from stream.errors import UserError
from stream.messages import Policy
from stream.topics import POLICIES


def test_only_the_newest_of_several_policies_is_loaded(bench):
    bench.publish(3)
    bench.publish(4)
    folder = bench.publish(5)
    bench.until(lambda: bench.version == 5)
    bench.settle()
    assert bench.engine.swaps == [(str(folder), 5)]
    assert bench.role.metrics()["producer/swap_s"] == 0.25


def test_policies_that_arrive_during_a_swap_wait_and_are_skipped_but_for_the_newest(bench):
    bench.loop.call_soon_threadsafe(bench.engine.swap_gate.clear)
    bench.publish(0)
    bench.until(lambda: len(bench.engine.swaps) == 1)
    for version in (1, 2, 3):
        bench.publish(version)
    bench.settle()
    assert [version for _, version in bench.engine.swaps] == [0]
    bench.loop.call_soon_threadsafe(bench.engine.swap_gate.set)
    bench.until(lambda: bench.version == 3)
    assert [version for _, version in bench.engine.swaps] == [0, 3]


def test_an_older_policy_is_never_loaded_over_a_newer(bench):
    bench.serve(4)
    bench.publish(2)
    bench.serve(5)
    assert [version for _, version in bench.engine.swaps] == [4, 5]


def test_weights_that_are_not_the_announced_ones_are_never_loaded(bench):
    bench.serve(1)
    bench.publish(2, digest="0" * 64)
    bench.until(lambda: len(bench.letters()) == 1)
    assert [version for _, version in bench.engine.swaps] == [1]
    (letter,) = bench.letters()
    assert "weights of version 2 have digest " in letter.error
    assert letter.topic == POLICIES.of("r")
    assert decode(letter.value, Policy).version == 2
    bench.serve(3)


def test_a_policy_whose_folder_is_pruned_already_is_passed_over(bench):
    bench.serve(1)
    bench.publish(2, folder=str(bench.folder / "pruned"))
    bench.serve(3)
    assert [version for _, version in bench.engine.swaps] == [1, 3]
    assert bench.letters() == []


def test_a_fresh_producer_falls_back_to_the_policy_before_a_broken_one(bench):
    bench.publish(6)
    bench.publish(7, digest="0" * 64)
    bench.until(lambda: bench.version == 6)
    assert len(bench.letters()) == 1


def test_weights_that_do_not_fit_leave_the_producer_with_what_it_serves(bench):
    bench.serve(1)
    bench.engine.swap_error = UserError("weights do not fit the served model")
    bench.publish(2)
    bench.until(lambda: len(bench.letters()) == 1)
    assert bench.version == 1
    assert bench.role.wants_input


def test_a_policy_record_that_is_garbage_goes_to_deadletters(bench):
    bench.world.writer.send(POLICIES.of("r"), b"policy", b"\x00")
    bench.serve(1)
    (letter,) = bench.letters()
    assert letter.topic == POLICIES.of("r")
