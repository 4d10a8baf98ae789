"""Generates problems from reasoning-gym, by task name. The project's own graders grade the answers, not its scorers."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stream.errors import UserError

HELDOUT_SHARE = 5
"""One problem in this many is held out."""


def is_heldout(text: str) -> bool:
    """Whether a problem is held out; a fixed hash, so pool and held-out set are disjoint whatever their sizes."""
    return zlib.crc32(text.encode()) % HELDOUT_SHARE == 0


def generate_gym_prompts(
    tasks: Sequence[str], num_prompts: int, seed: int, split: str, options: Mapping[str, Any]
) -> Iterator[dict[str, str]]:
    """`num_prompts` different problems of a split (`pool` or `heldout`), the tasks taking turns; fewer if there are no more.

    Args:
        options: arguments of each task, by its name.

    Raises:
        UserError: reasoning-gym is not installed, an unknown task, or an option it does not know.

    """
    unknown = sorted(options.keys() - set(tasks))
    if unknown:
        raise UserError(f"prompts.options has {unknown[0]!r}; want options by task, of {', '.join(tasks)}")
    seen: set[str] = set()
    for row in _draw(tasks, 20 * HELDOUT_SHARE * num_prompts, seed, options):
        if len(seen) == num_prompts:
            return
        if row["text"] in seen or is_heldout(row["text"]) != (split == "heldout"):
            continue
        seen.add(row["text"])
        yield {**row, "prompt_id": f"{row['task']}-{split}-{len(seen):05d}"}


def _draw(tasks: Sequence[str], most: int, seed: int, options: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    try:
        import reasoning_gym
    except ImportError as error:
        text = f"prompts.source = gym:... needs reasoning-gym, which does not import ({error}); run `make smollm2`"
        raise UserError(text) from None
    sets = []
    for task in tasks:
        try:
            sets.append(reasoning_gym.create_dataset(task, size=most, seed=seed, **options.get(task, {})))
        except (ValueError, TypeError, AssertionError) as error:
            raise UserError(
                f"reasoning-gym cannot make {task!r}: {error}; want a task that it has, such as chain_sum, and options of that task"
            ) from None
    for number in range(most):
        task, problems = tasks[number % len(tasks)], sets[number % len(sets)]
        problem = problems[number // len(sets)]
        yield {"text": problem["question"], "answer": str(problem["answer"]), "task": task, "level": task}
