"""Tiny random Llamas with a tokenizer, which transformers and vLLM load."""

from pathlib import Path

VOCABULARY = 32
END = 1


def make_model(folder: Path, seed: int, width: int = 32, *, context: int = 128, tied: bool = False) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=context, bos_token_id=0, eos_token_id=END, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # far from uniform: a wrong logprob must show
    model.save_pretrained(folder)
    return folder


def make_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<s>": 0, "</s>": END} | {chr(ord("a") + number): 2 + number for number in range(VOCABULARY - 2)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
