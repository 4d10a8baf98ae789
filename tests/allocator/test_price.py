"""Prices: streams within their budget, shards at the joint optimum."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.budget import Floats, Ints, Marginal, solve
from allocator.exchange import Exchange
from allocator.price import Pacer, Split, _number, _order
from allocator.values import Expected, PlugIn, Value, VarianceRemoved
from stream.errors import BadRecord
from stream.messages import Quote

NUM_PROMPTS, MEAN, LOW, HIGH = 4000, 8.0, 2, 128


def drifting() -> tuple[Floats, np.random.Generator]:
    """Success rates that rise from Beta(.3, 1.8) to Beta(1.8, .3) along the stream."""
    chance = np.random.default_rng(4)
    at = np.arange(NUM_PROMPTS) / NUM_PROMPTS
    return chance.beta(0.3 + 1.5 * at, 1.8 - 1.5 * at), chance


def believed() -> Value:
    p, chance = drifting()
    trials = chance.integers(0, 33, NUM_PROMPTS)
    successes = chance.binomial(trials, p)
    return Expected(0.5 + successes, 0.5 + trials - successes)


def plug_in_of_eight() -> Value:
    p, chance = drifting()
    return PlugIn(chance.binomial(8, p) / 8)


def unseen() -> Value:
    return Expected(np.full(NUM_PROMPTS, 1.0), np.full(NUM_PROMPTS, 2.0))


def least_variance() -> Value:
    p, _ = drifting()
    return VarianceRemoved(0.5 + 10 * p, 10.5 - 10 * p)


def worthless() -> Value:
    return PlugIn(np.zeros(NUM_PROMPTS))


@pytest.mark.parametrize(
    ("make", "start"),
    [(believed, 1e-9), (plug_in_of_eight, 0.01), (unseen, 0.01), (least_variance, 1e9), (worthless, 0.01)],
)
def test_any_10_000_rollouts_of_a_drifting_stream_are_within_two_percent_of_the_budget(
    make: Callable[[], Value], start: float
) -> None:
    value = make()
    pacer = Pacer(MEAN, start)
    rollouts = np.array([pacer.decide(value.marginal, i, LOW, HIGH) for i in range(NUM_PROMPTS)])
    assert rollouts.min() >= LOW and rollouts.max() <= HIGH
    spent = np.concatenate([[0], np.cumsum(rollouts)])
    window = round(10_000 / MEAN)
    off = np.abs(spent[window:] - spent[:-window] - MEAN * window) / (MEAN * window)
    assert off.max() < 0.02
    assert pacer.debt == spent[-1] - MEAN * NUM_PROMPTS


def test_a_stream_reaches_nearly_the_value_of_a_solver_that_sees_all_of_it() -> None:
    value, everyone = believed(), np.arange(NUM_PROMPTS)
    pacer = Pacer(MEAN, 0.01)
    rollouts = np.array([pacer.decide(value.marginal, i, LOW, HIGH) for i in range(NUM_PROMPTS)])
    bounds = np.full(NUM_PROMPTS, LOW), np.full(NUM_PROMPTS, HIGH)
    best = value.value(everyone, solve(value.marginal, int(rollouts.sum()), *bounds).num_rollouts).sum()
    found = value.value(everyone, rollouts).sum()
    uniform = value.value(everyone, np.full(NUM_PROMPTS, int(MEAN))).sum()
    assert uniform < 0.975 * best
    assert 0.985 * best < found <= best


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.floats(2, 20), st.floats(1e-12, 1e12))
def test_the_debt_never_passes_the_most_whatever_the_prompts_are_worth(
    worths: list[float], mean: float, start: float
) -> None:
    pacer = Pacer(mean, start, most_debt=10.0)
    for worth in worths:
        pacer.decide(lambda prompts, n, worth=worth: worth * 0.5**n, 0, 2, 20)
        assert -10.0 - 1e-9 <= pacer.debt <= 10.0 + 1e-9


def test_a_pacer_that_is_made_anew_from_its_debt_and_base_decides_alike() -> None:
    value = believed()
    pacer = Pacer(MEAN, 0.01)
    first = [pacer.decide(value.marginal, i, LOW, HIGH) for i in range(300)]
    again = Pacer(MEAN, 0.01)
    for i in range(200):
        assert again.decide(value.marginal, i, LOW, HIGH) == first[i]
    resumed = Pacer(MEAN, again.base, debt=again.debt)
    assert [resumed.decide(value.marginal, i, LOW, HIGH) for i in range(200, 300)] == first[200:]


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"mean": 1.5, "price": 1.0}, "mean is 1.5; want a finite number >= 2"),
        ({"mean": math.inf, "price": 1.0}, "mean is inf"),
        ({"mean": 8.0, "price": 0.0}, "price is 0.0; want a finite number > 0"),
        ({"mean": 8.0, "price": math.nan}, "price is nan"),
        ({"mean": 8.0, "price": 1.0, "most_debt": -1.0}, "most_debt is -1.0"),
    ],
)
def test_a_pacer_refuses_what_cannot_be(settings: dict[str, float], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Pacer(**settings)


def test_a_pacer_refuses_a_value_that_is_not_a_number_and_a_group_of_one() -> None:
    with pytest.raises(ValueError, match="value of prompt 3 is not a number"):
        Pacer(8.0, 1.0).decide(lambda prompts, n: np.full(n.size, np.nan), 3, 2, 8)
    with pytest.raises(ValueError, match="lower bound is 1; want >= 2"):
        Pacer(8.0, 1.0).decide(lambda prompts, n: 0.5**n, 0, 1, 8)


# -- shards -----------------------------------------------------------------------------------------------------------


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_the_order_of_doubles_is_the_order_of_their_places(a: float, b: float) -> None:
    assert (_order(a) < _order(b)) == (a < b)
    assert _number(_order(a)) == a


def talk(tables: list[Floats], budget: int, bounds: list[tuple[Ints, Ints]]) -> tuple[list[int], int]:
    """The shards' shares and the steps that they took; a shard's table holds its increments. [prompts, rollouts]"""

    def marginal_of(table: Floats) -> Marginal:
        return lambda prompts, n: table[prompts, n - 2]

    splits = [
        Split(marginal_of(table), budget, *ends, shard)
        for shard, (table, ends) in enumerate(zip(tables, bounds, strict=True))
    ]
    while any(split.share is None for split in splits):
        quotes = [split.quote() for split in splits]
        for split in splits:
            split.take(quotes)
        assert splits[0].step < 12
    return [split.share for split in splits if split.share is not None], splits[0].step + 1


@given(st.data())
def test_shares_sum_up_to_the_budget_and_reach_the_optimum_of_all_prompts(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    worth = st.sampled_from([-1.0, 0.0, 1e-300, 0.25, 0.5]) | st.floats(-2, 2)
    tables, bounds = [], []
    for size in sizes:
        rows = [sorted(data.draw(st.lists(worth, min_size=9, max_size=9)), reverse=True) for _ in range(size)]
        tables.append(np.array(rows))
        low = np.array(data.draw(st.lists(st.integers(2, 6), min_size=size, max_size=size)))
        bounds.append((low, low + np.array(data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)))))
    low, high = (np.concatenate(ends) for ends in zip(*bounds, strict=True))
    budget = data.draw(st.integers(int(low.sum()), int(high.sum())))
    shares, _ = talk(tables, budget, bounds)
    assert sum(shares) == budget

    def worth_of(table: Floats, share: int, ends: tuple[Ints, Ints]) -> float:
        found = solve(lambda prompts, n: table[prompts, n - 2], share, *ends).num_rollouts
        return sum(float(row[low_ - 2 : n - 2].sum()) for row, low_, n in zip(table, ends[0], found, strict=True))

    together = worth_of(np.concatenate(tables), budget, (low, high))
    apart = sum(worth_of(*of) for of in zip(tables, shares, bounds, strict=True))
    assert apart == pytest.approx(together, abs=1e-12)


def test_equal_prompts_share_a_tie_in_the_order_of_the_shards() -> None:
    table, bounds = np.full((5, 9), 0.5), (np.full(5, 2), np.full(5, 10))
    shares, steps = talk([table, table, table], 53, [bounds] * 3)
    assert shares == [33, 10, 10]
    assert steps <= 11


def test_budgets_that_the_shards_cannot_meet_together_are_refused() -> None:
    table, bounds = np.full((2, 9), 0.5), (np.full(2, 2), np.full(2, 8))
    for budget in (7, 33):
        with pytest.raises(ValueError, match=rf"budget is {budget} rollouts; want 8 to 32, .* 2 shards"):
            talk([table, table], budget, [bounds] * 2)


def test_a_shard_that_forgets_its_talks_is_bound_by_its_quotes_in_the_log() -> None:
    """Killed after each of its quotes, and back with other beliefs: the shares still sum up to the budget."""
    chance = np.random.default_rng(0)
    bounds = np.full(20, 2), np.full(20, 66)

    def a_split(shard: int) -> Split:
        a, b = chance.uniform(0.1, 9, 20), chance.uniform(0.1, 9, 20)
        return Split(Expected(a, b).marginal, 333, *bounds, shard)

    shards = [Exchange(shard, 3) for shard in range(3)]
    for shard, exchange in enumerate(shards):
        exchange.begin(5, a_split(shard))
    log: list[Quote] = []
    while any(exchange.share is None for exchange in shards):
        for shard in range(3):
            quote = shards[shard].advance()
            if quote is None:
                continue
            log.append(quote)
            for exchange in shards:
                exchange.note(quote)
            if shard == 1:
                shards[1] = Exchange(1, 3)
                shards[1].begin(5, a_split(1))
                for old in log:
                    shards[1].note(old)
    assert sum(exchange.share or 0 for exchange in shards) == 333
    assert all((exchange.share or 0) >= 40 for exchange in shards)


def test_the_first_quote_of_a_shard_counts_and_unknown_shards_are_refused() -> None:
    exchange = Exchange(0, 2)
    exchange.begin(0, Split(lambda prompts, n: 0.5**n, 8, np.full(1, 2), np.full(1, 8), 0))
    mine = exchange.advance()
    assert mine is not None and mine.amounts[0] == 8 and mine.amounts[-1] == 2
    assert exchange.advance() is None
    exchange.note(mine)
    exchange.note(Quote(shard=1, num_shards=2, round=0, step=0, amounts=(*[6] * (len(mine.amounts) - 1), 2)))
    exchange.note(Quote(shard=1, num_shards=2, round=0, step=0, amounts=(99,) * len(mine.amounts)))
    assert exchange.advance() is None or exchange.share is None
    with pytest.raises(BadRecord, match="quote of shard 2; want 0 to 1"):
        exchange.note(Quote(shard=2, num_shards=2, round=0, step=0, amounts=()))
    with pytest.raises(ValueError, match="the shard is 2 of 2"):
        Exchange(2, 2)
