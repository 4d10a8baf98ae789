"""Problems from reasoning-gym, by task name. Its answers are graded by the project's verifiers, never by its scorers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stream.errors import UserError

HELDOUT_SEED = 1_000_003
"""Added to the seed for the held-out split: the two splits draw from the same law with other random numbers."""


def generate_gym_prompts(
    tasks: Sequence[str], num_prompts: int, seed: int, split: str, options: Mapping[str, Any]
) -> Iterator[dict[str, str]]:
    """`num_prompts` different problems, the tasks taking turns; a held-out problem never stands in the pool.

    Raises:
        UserError: reasoning-gym is not installed, an unknown task, or an option it does not know.

    """
    pool_texts: set[str] = set()
    if split == "heldout":
        pool_texts = {row["text"] for row in _draw(tasks, 8 * num_prompts, seed, options)}
    drawn = _draw(tasks, 20 * num_prompts, seed + (HELDOUT_SEED if split == "heldout" else 0), options)
    seen: set[str] = set()
    for row in drawn:
        if len(seen) == num_prompts:
            return
        if row["text"] in seen or row["text"] in pool_texts:
            continue
        seen.add(row["text"])
        yield {**row, "prompt_id": f"{row['task']}-{split}-{len(seen):05d}"}


def _draw(tasks: Sequence[str], most: int, seed: int, options: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    try:
        import reasoning_gym
    except ImportError:
        raise UserError("prompts.source = gym:... needs reasoning-gym; run `make smollm2`") from None
    sets = []
    for task in tasks:
        try:
            sets.append(reasoning_gym.create_dataset(task, size=most, seed=seed, **options.get(task, {})))
        except (ValueError, TypeError, AssertionError) as error:
            raise UserError(f"reasoning-gym cannot make {task!r}: {error}") from None
    for number in range(most):
        task, problems = tasks[number % len(tasks)], sets[number % len(sets)]
        problem = problems[number // len(sets)]
        yield {"text": problem["question"], "answer": str(problem["answer"]), "task": task, "level": task}
