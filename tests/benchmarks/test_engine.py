import asyncio

from benchmarks.engine import Prompts, Round, compare, take_turns


def test_arms_take_turns_on_the_same_prompts_and_the_first_round_of_each_does_not_count() -> None:
    asked: list[tuple[str, int]] = []
    numbers = iter(range(100))

    def arm(name: str):  # type: ignore[no-untyped-def]
        async def sample(prompts: Prompts, max_tokens: int) -> int:
            asked.append((name, prompts[0][0]))
            return 3 * max_tokens

        return sample

    rounds = asyncio.run(take_turns({"ours": arm("ours"), "bare": arm("bare")}, lambda: [[next(numbers)]], 8, 2))
    assert asked == [("bare", 0), ("ours", 0), ("ours", 1), ("bare", 1), ("bare", 2), ("ours", 2)]
    assert {name: [done.tokens for done in played] for name, played in rounds.items()} == {
        "ours": [24, 24],
        "bare": [24, 24],
    }


def test_rates_are_of_all_rounds_together_and_pairs_of_each() -> None:
    ours = [Round(tokens=100, seconds=1.0, cpu_s=2.0), Round(tokens=100, seconds=3.0, cpu_s=2.0)]
    bare = [Round(tokens=100, seconds=2.0, cpu_s=1.0), Round(tokens=100, seconds=2.0, cpu_s=2.0)]
    assert compare(ours, bare) == {
        "ours_tokens_per_s": 50.0, "bare_tokens_per_s": 50.0, "ratio": 1.0, "ratio_by_cpu_time": 0.75, "pairs": [2.0, 0.667],
    }  # fmt: skip
