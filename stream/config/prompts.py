"""Says which problems are trained on and which are held out."""

from typing import Any

from stream.config.table import NonNegative, Positive, Table


class PromptsTable(Table):
    """Which problems are trained on and which are held out."""

    source: str = "codes"
    """`codes` (the demo's generator), `gym:TASK[,TASK...]` (reasoning-gym), a .jsonl, .json or .parquet file, a folder of
    them, or `hf:DATASET[:CONFIG]`; `@SPLIT` after a folder or dataset takes another split."""
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
    graders: dict[str, str] = {}
    """Graders by task (in verl's layout `data_source`), e.g. {"openai/gsm8k" = "integer"}; "" leaves the task's rows out."""
    split: str = "train"
    """Split of a Hugging Face dataset, or of a folder whose files are named by split."""
    text_key: str = ""
    """Key (or column) of the problem, a text or a list of chat messages, also inside: `a.b`, `a.0`; empty finds it."""
    answer_key: str = ""
    """Key (or column) of the reference answer; empty finds it."""
    chat_template: bool | None = None
    """Render plain texts too by the model's chat template, as the user's turn; unset renders lists of messages only."""
    chat_template_kwargs: dict[str, Any] = {}
    """Arguments of the chat template, e.g. {enable_thinking = false}."""
    system: str = ""
    """System message of chats that have none; empty for none."""
    suffix: str = ""
    """Appended to every text, e.g. an instruction on how to write the answer."""
    max_prompt_tokens: Positive = 1024
    """Longer prompts are left out, and counted."""
