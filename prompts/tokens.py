"""Turns prompts into token ids with the model's tokenizer. Needs no torch."""

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.config import Config
from stream.errors import UserError
from stream.messages import Prompt

log = logging.getLogger(__name__)


def tokenize(prompts: Iterable[Prompt], config: Config) -> dict[str, NDArray[np.int32]]:
    """Token ids of every prompt, by id; prompts that are too long are left out, and counted in the log.

    Too long is more than prompts.max_prompt_tokens, or than producer.max_model_len leaves beside sampling.max_tokens.
    """
    tokenizer = load_tokenizer(config.run.model)
    most = min(config.prompts.max_prompt_tokens, config.producer.max_model_len - config.sampling.max_tokens)
    ids: dict[str, NDArray[np.int32]] = {}
    num_long = 0
    for prompt in prompts:
        tokens = _token_ids(tokenizer, prompt.text, config)
        if len(tokens) > most:
            num_long += 1
            continue
        ids[prompt.prompt_id] = np.asarray(tokens, dtype=np.int32)
    if num_long:
        log.warning("prompts left out over tokens=%d num=%d", most, num_long)
    if not ids:
        raise UserError(
            f"all {num_long} prompts are longer than {most} tokens, the least of prompts.max_prompt_tokens and "
            "producer.max_model_len - sampling.max_tokens; raise what is too low, or choose another prompts.source"
        )
    return ids


def load_tokenizer(model: str) -> Any:
    """The model's tokenizer; needs no torch.

    Raises:
        UserError: no such model.

    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"run.model is {model!r}, which has no tokenizer that loads ({first}); give a model folder"
        ) from None


def _token_ids(tokenizer: Any, text: str, config: Config) -> list[int]:
    table = config.prompts
    if not table.chat_template:
        return list(tokenizer(text + table.suffix)["input_ids"])
    messages = [{"role": "system", "content": table.system}] if table.system else []
    messages.append({"role": "user", "content": text + table.suffix})
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False))
