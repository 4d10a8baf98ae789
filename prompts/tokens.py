"""Turns prompts into token ids with the model's tokenizer and chat template. Needs no torch.

Prompts enter, token ids leave, the same for every role. A prompt is rendered once: from there on there are token ids only.
What the tokenizer has no token for is never asked in part: such prompts are left out, counted and named, as are long ones.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.config import Config
from stream.errors import UserError
from stream.messages import Prompt, Turn

log = logging.getLogger(__name__)

CHECKED = 64
"""Prompts that `check_renders` tries."""


def tokenize(prompts: Iterable[Prompt], config: Config) -> dict[str, NDArray[np.int32]]:
    """Token ids of every prompt, by id; prompts that do not fit are left out, and counted in the log.

    Too long is more than prompts.max_prompt_tokens, or than producer.max_model_len leaves beside sampling.max_tokens.

    Raises:
        UserError: a chat template is needed that the model has not, or no prompt is left.

    """
    tokenizer = load_tokenizer(config.run.model)
    most = most_tokens(config)
    ids: dict[str, NDArray[np.int32]] = {}
    num_long, unknown = 0, list[str]()
    for prompt in prompts:
        tokens, missing = encode(prompt, tokenizer, config)
        if missing:
            unknown.append(f"prompt {prompt.prompt_id!r} has {missing!r}")
        elif len(tokens) > most:
            num_long += 1
        else:
            ids[prompt.prompt_id] = np.asarray(tokens, dtype=np.int32)
    if num_long:
        log.warning("prompts left out over tokens=%d num=%d", most, num_long)
    if unknown:
        log.warning(
            "prompts left out num=%d: %s, for which %s has no token", len(unknown), unknown[0], config.run.model
        )
    if not ids and unknown:
        raise UserError(
            f"no prompt is left: {num_long} are longer than {most} tokens, and {len(unknown)} have what the tokenizer of "
            f"{config.run.model} has no token for ({unknown[0]}); choose another model or prompts.source"
        )
    if not ids:
        raise UserError(
            f"all {num_long} prompts are longer than {most} tokens, the least of prompts.max_prompt_tokens and "
            "producer.max_model_len - sampling.max_tokens; raise what is too low, or choose another prompts.source"
        )
    return ids


def check_renders(prompts: Sequence[Prompt], config: Config) -> None:
    """Raise UserError if none of the first prompts can be asked, as `tokenize` would of all."""
    if prompts:
        tokenize(islice(prompts, CHECKED), config)


def most_tokens(config: Config) -> int:
    """The most tokens that a prompt may have."""
    return min(config.prompts.max_prompt_tokens, config.producer.max_model_len - config.sampling.max_tokens)


def load_tokenizer(model: str) -> Any:
    """The model's tokenizer; needs no torch.

    Raises:
        UserError: no such model.

    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that there is no torch, where it is hidden
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"run.model is {model!r}, which has no tokenizer that loads ({first}); give a model folder"
        ) from None


# -- one prompt -------------------------------------------------------------------------------------------------------


def render(prompt: Prompt, tokenizer: Any, config: Config) -> str:
    """The text that the model reads: plain with its suffix, or by the chat template with the generation prompt.

    Raises:
        UserError: the model has no chat template, or its template refuses the chat.

    """
    table = config.prompts
    if not _is_rendered(prompt, config):
        if len(prompt.messages) > 1:
            raise UserError(
                f"prompt {prompt.prompt_id!r} is a chat of {len(prompt.messages)} messages, and prompts.chat_template is false; "
                "leave it out, so that the model's chat template renders them"
            )
        return prompt.text + table.suffix
    if getattr(tokenizer, "chat_template", None) is None:
        why = "prompts.chat_template is true" if table.chat_template else "the prompts are lists of chat messages"
        raise UserError(
            f"run.model is {config.run.model!r}, which has no chat template, and {why}; use an instruct model, or set "
            "prompts.chat_template = false, which takes a lone user's message as plain text"
        )
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            _chat(prompt, config), add_generation_prompt=True, tokenize=False, **table.chat_template_kwargs
        )
    except (TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(turn.role for turn in prompt.messages) or "user"
        raise UserError(
            f"the chat template of {config.run.model} refuses prompt {prompt.prompt_id!r} ({roles}): {error}"
        ) from None
    return text


def encode(prompt: Prompt, tokenizer: Any, config: Config) -> tuple[list[int], str]:
    """Token ids of the rendered prompt, and the first piece that the tokenizer has no token for ("" if there is none)."""
    text = render(prompt, tokenizer, config)
    has_offsets = bool(tokenizer.is_fast)
    encoded = tokenizer(text, add_special_tokens=not _is_rendered(prompt, config), return_offsets_mapping=has_offsets)
    ids = list(encoded["input_ids"])
    return ids, _missing(text, ids, encoded["offset_mapping"], tokenizer) if has_offsets else ""


def _is_rendered(prompt: Prompt, config: Config) -> bool:
    chosen = config.prompts.chat_template
    return bool(prompt.messages) if chosen is None else chosen


def _chat(prompt: Prompt, config: Config) -> list[dict[str, str]]:
    """The messages with the suffix behind the last; the recipe's system message goes before a chat that has none."""
    turns = prompt.messages or (Turn(role="user", content=prompt.text),)
    chat = [{"role": turn.role, "content": turn.content} for turn in turns]
    chat[-1]["content"] += config.prompts.suffix
    if config.prompts.system and chat[0]["role"] != "system":
        chat.insert(0, {"role": "system", "content": config.prompts.system})
    return chat


def _missing(text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], tokenizer: Any) -> str:
    """The first piece of the text that became the unknown token, or none at all."""
    unknown = _unknown_id(tokenizer)
    if unknown is not None and unknown in ids:
        name = tokenizer.convert_ids_to_tokens(unknown)
        pieces = (text[start:end] for token, (start, end) in zip(ids, offsets, strict=True) if token == unknown)
        for piece in pieces:
            if piece.strip() and piece.strip() != name:  # a template may write it on purpose, as GPT-2's
                return piece[:20]
    end = 0
    for start, stop in [*sorted(offsets), (len(text), len(text))]:
        if start > end:
            gap = "".join(filter(str.isprintable, text[end:start])).strip()  # normalizers may drop what nobody sees
            if gap:
                return gap[:20]
        end = max(end, stop)
    return ""


def _unknown_id(tokenizer: Any) -> int | None:
    """The id of what stands for anything unknown, also where only the tokenizer's own model names it."""
    backend = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    name = getattr(backend, "unk_token", None)
    found = tokenizer.convert_tokens_to_ids(name) if name else tokenizer.unk_token_id
    return None if found is None else int(found)
