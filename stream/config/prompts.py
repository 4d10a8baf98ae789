"""Says which problems are trained on and which are held out."""

from typing import Any

from stream.config.table import NonNegative, Positive, Table


class PromptsTable(Table):
    """Which problems are trained on and which are held out."""

    source: str = "codes"
    """`codes` (the demo's generator), `gym:TASK[,TASK...]` (reasoning-gym), a path ending in .jsonl, or `hf:DATASET`."""
    num_prompts: Positive = 640
    """Size of the pool (generators); files and datasets are cut to it."""
    num_heldout: NonNegative = 512
    """Size of the held-out set."""
    heldout_source: str = ""
    """Like source, for the held-out set; empty takes the generator's held-out split or the end of the file."""
    options: dict[str, Any] = {}
    """Arguments of the generator, e.g. {max_digits = 2}."""
    grader: str = "math"
    """Grader of prompts that name none: `rucksack verify --help` lists them."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    text_key: str = "prompt"
    """Key (or column) of the problem's text."""
    answer_key: str = "answer"
    """Key (or column) of the reference answer."""
    chat_template: bool = False
    """Wrap the text as a user's message in the tokenizer's chat template."""
    system: str = ""
    """System message of the chat template; empty for none."""
    suffix: str = ""
    """Appended to every text, e.g. an instruction on how to write the answer."""
    max_prompt_tokens: Positive = 1024
    """Longer prompts are left out, and counted."""
