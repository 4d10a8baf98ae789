import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prompts.sources import load_prompts
from prompts.tokens import load_tokenizer, tokenize
from stream.config import Config
from stream.errors import UserError
from stream.messages import Prompt, Turn

ROWS = [{"id": f"q{number}", "prompt": f"{number} + 1 =", "answer": number + 1} for number in range(30)]


def make_config(
    source: Any, model: Path | str = "demo/base", tables: Mapping[str, Any] | None = None, **prompts: Any
) -> Config:
    return Config(
        **(tables or {}),
        run={"prompts_per_update": 2, "max_staleness": 1, "model": str(model)},
        prompts={"source": str(source), "num_prompts": 20, "num_heldout": 4} | prompts,
    )


def write(file: Path, rows: list[Any]) -> Path:
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n\n")
    return file


def load(file: Path, rows: list[Any], **prompts: Any) -> tuple[list[Prompt], list[Prompt]]:
    return load_prompts(make_config(write(file, rows), **prompts))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "problems.jsonl"


# -- JSONL ------------------------------------------------------------------------------------------------------------


def test_a_file_is_cut_to_its_size_and_its_end_held_out(file):
    pool, heldout = load(file, ROWS)
    assert [prompt.prompt_id for prompt in pool] == [f"q{number}" for number in range(20)]
    assert [prompt.prompt_id for prompt in heldout] == ["q20", "q21", "q22", "q23"]
    assert pool[0] == Prompt(prompt_id="q0", text="0 + 1 =", answer="1", grader="math")


def test_at_most_a_fifth_of_a_small_file_is_held_out(file):
    pool, heldout = load(file, ROWS[:10], num_heldout=9)
    assert (len(pool), len(heldout)) == (8, 2)


def test_rows_may_name_task_level_and_grader_and_leave_out_the_id(file):
    row = {"text": "a", "answer": "0", "task": "t", "level": "3", "grader": "string"}
    pool, _ = load(file, [row, *ROWS])
    own = "ca978112ca1bbdca"  # how sha256 of "a" begins
    assert pool[0] == Prompt(prompt_id=own, text="a", answer="0", grader="string", task="t", level="3")
    assert pool[1].grader == "math"


def test_keys_may_be_named_also_inside_of_objects_and_lists(file):
    rows = [{"prompt": [{"content": f"What is {n}?"}], "reward_model": {"ground_truth": str(n)}} for n in range(10)]
    pool, _ = load(file, rows, text_key="prompt.0.content", answer_key="reward_model.ground_truth")
    assert [(prompt.text, prompt.answer) for prompt in pool[:2]] == [("What is 0?", "0"), ("What is 1?", "1")]


def test_a_text_that_stands_again_is_taken_once_so_that_nothing_held_out_is_trained_on(file):
    pool, heldout = load(file, [{"prompt": row["prompt"], "answer": row["answer"]} for row in ROWS * 3])
    texts = [prompt.text for prompt in (*pool, *heldout)]
    assert len(set(texts)) == len(texts) == 24


def test_a_heldout_source_of_its_own_wins_over_the_pool(file, tmp_path):
    bench = write(tmp_path / "bench.jsonl", [{"prompt": "5 + 1 =", "answer": 6}, {"prompt": "other", "answer": 1}])
    pool, heldout = load(file, ROWS, heldout_source=str(bench))
    assert [prompt.text for prompt in heldout] == ["5 + 1 =", "other"]
    assert "5 + 1 =" not in {prompt.text for prompt in pool}
    assert len(pool) == 19


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(["{not json"], r"problems\.jsonl:1 is not JSON", id="not JSON"),
        pytest.param(
            [ROWS[0], "[1, 2]"],
            r"problems\.jsonl:2 is a JSON array, not an object; want one JSON object per line",
            id="no object",
        ),
        pytest.param(
            [{"id": "q", "prompt": "1+1"}], r":1 has no answer at any usual key; it has id, prompt", id="no answer"
        ),
        pytest.param(
            [*ROWS, {"prompt": "1+1", "answer": "  "}], r":31 has no answer: 'answer' is '  '", id="blank answer"
        ),
        pytest.param([*ROWS, {"prompt": "1+1", "answer": None}], r":31 has no answer", id="null answer"),
        pytest.param(
            [{"answer": "2"}], r":1 has no text at any usual key; it has answer: set prompts\.text_key", id="no text"
        ),
        pytest.param(
            [*ROWS, {**ROWS[3], "prompt": "new"}], r":31 has the id 'q3' of .*:4; every prompt needs", id="id twice"
        ),
        pytest.param(ROWS[:3], r"the pool has 3 prompts; want at least 4 = run\.prompts_per_update x", id="too few"),
        pytest.param([], "the pool has 0 prompts", id="empty"),
        pytest.param(["[" * 100_000], r"problems\.jsonl:1 is not JSON", id="deep"),
        pytest.param(
            [{"id": "q", "prompt": "1+1", "answer": {"x": 1}}], r"has answer {'x': 1} at 'answer'; want a", id="object"
        ),
        pytest.param([*ROWS, {"prompt": ["1+1"], "answer": 2}], r"has text \['1\+1'\] at 'prompt'; want a", id="list"),
        pytest.param([{"id": "q", "prompt": "\ud800", "answer": 2}], "has half a character .* at 'prompt'", id="half"),
    ],
)
def test_mistakes_in_a_file_are_one_clear_line(file, rows, message):
    with pytest.raises(UserError, match=message):
        load(file, rows, num_prompts=50)


def test_bytes_that_are_no_text_are_named_by_their_line(file):
    file.write_bytes(b'{"prompt": "1+1", "answer": "2"}\n{"prompt": "\xe9", "answer": "2"}\n')
    with pytest.raises(UserError, match=r"problems\.jsonl:2 is not JSON .* in UTF-8"):
        load_prompts(make_config(file))


def test_a_missing_file_and_an_unknown_kind_of_source_are_named(tmp_path):
    with pytest.raises(UserError, match=r"prompts file .*nowhere\.jsonl does not exist"):
        load_prompts(make_config(tmp_path / "nowhere.jsonl"))
    with pytest.raises(UserError, match=r"prompts.source is 'problems.csv', which is no file .*; want codes, gym:TASK"):
        load_prompts(make_config("problems.csv"))
    with pytest.raises(UserError, match=r"prompts.source is 'hf:', which names no dataset; want hf:NAME"):
        load_prompts(make_config("hf:"))


# -- generators -------------------------------------------------------------------------------------------------------


def test_generators_make_pool_and_heldout_of_the_sizes_asked_for():
    for source in ("codes", "gym:chain_sum"):
        pool, heldout = load_prompts(make_config(source))
        assert (len(pool), len(heldout)) == (20, 4)
        assert load_prompts(make_config(source)) == (pool, heldout)
    assert pool[0].grader == "math"


def test_options_that_a_generator_does_not_know_are_refused():
    with pytest.raises(UserError, match="the source codes takes none"):
        load_prompts(make_config("codes", options={"max_digits": 2}))
    with pytest.raises(UserError, match="cannot make 'nothing'"):
        load_prompts(make_config("gym:nothing"))


# -- Hugging Face datasets --------------------------------------------------------------------------------------------


def save_dataset(folder: Path, *, splits: bool) -> Path:
    from datasets import Dataset, DatasetDict

    rows = [
        {"prompt": [{"role": "user", "content": f"What is {n}?"}], "reward_model": {"ground_truth": str(n)}}
        for n in range(40)
    ]
    dataset = Dataset.from_list(rows)
    (DatasetDict({"train": dataset}) if splits else dataset).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize("splits", [True, False])
def test_a_dataset_that_was_saved_to_disk_is_read(tmp_path, splits):
    folder = save_dataset(tmp_path / "saved", splits=splits)
    keys = {"text_key": "prompt.0.content", "answer_key": "reward_model.ground_truth"}
    pool, heldout = load_prompts(make_config(f"hf:{folder}", **keys))
    assert [prompt.answer for prompt in pool] == [str(n) for n in range(20)]
    assert heldout[0].text == "What is 20?"


def test_a_dataset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"dataset .*saved' \(split 'test'\) cannot be loaded"):
        load_prompts(make_config(f"hf:{save_dataset(tmp_path / 'saved', splits=True)}", split="test"))


# -- tokens -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import make_tokenizer

    folder = tmp_path_factory.mktemp("model")
    make_tokenizer(folder)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'][0] + message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}a{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


def tokens_of(model: Path, text: str, messages: tuple[Turn, ...] = (), **prompts: Any) -> list[int]:
    prompt = Prompt(prompt_id="p", text=text, answer="1", grader="math", messages=messages)
    ids = tokenize([prompt], make_config("codes", model, **prompts))["p"]
    assert ids.dtype == np.int32
    return ids.tolist()


def test_text_suffix_and_chat_template_become_token_ids(model):
    a = 2  # the tokenizer's vocabulary: <s>, </s>, then the letters
    assert tokens_of(model, "bc", suffix="d") == [a + 1, a + 2, a + 3]
    user, system = ord("u") - ord("a") + a, ord("s") - ord("a") + a
    assert tokens_of(model, "b", chat_template=True) == [user, a + 1, a]
    assert tokens_of(model, "b", chat_template=True, system="c") == [system, a + 2, user, a + 1, a]
    assert tokens_of(model, "b", system="c") == [a + 1]  # without a template there is no place for it


CHAT = (
    Turn(role="system", content="d"),
    Turn(role="user", content="e"),
    Turn(role="assistant", content="f"),
    Turn(role="user", content="b"),
)


def test_a_chat_is_rendered_as_it_is_with_the_suffix_behind_its_end(model):
    codes = [
        ord(letter) - ord("a") + 2 for letter in "sdueafubca"
    ]  # each role by its first letter, then a prompt to go on
    assert tokens_of(model, "b", CHAT, suffix="c") == codes
    assert tokens_of(model, "b", CHAT, suffix="c", system="z") == codes  # the chat's own system turn stays
    lone = (Turn(role="user", content="b"),)
    assert tokens_of(model, "b", lone) == tokens_of(model, "b", chat_template=True)
    assert tokens_of(model, "b", lone, system="c") == tokens_of(model, "b", chat_template=True, system="c")
    assert tokens_of(model, "b", lone, chat_template=False) == [3]


def test_arguments_reach_the_chat_template(model, tmp_path):
    tokenizer = load_tokenizer(str(model))
    tokenizer.chat_template += "{% if enable_thinking is false %}z{% endif %}"
    tokenizer.save_pretrained(tmp_path)
    thinking = tokens_of(tmp_path, "b", chat_template=True)
    assert tokens_of(tmp_path, "b", chat_template=True, chat_template_kwargs={"enable_thinking": False}) == [
        *thinking,
        27,
    ]


def test_a_chat_that_the_template_cannot_render_is_one_line(model, tmp_path):
    with pytest.raises(UserError, match=r"a chat of 4 messages, and prompts\.chat_template is false; leave it out"):
        tokens_of(model, "b", CHAT, chat_template=False)
    with pytest.raises(
        UserError, match=r"run\.model is 'demo/base', which has no chat template, and the prompts are lists"
    ):
        tokens_of(Path("demo/base"), "b", CHAT)
    with pytest.raises(UserError, match=r"no chat template, and prompts\.chat_template is true"):
        tokens_of(Path("demo/base"), "b", chat_template=True)
    tokenizer = load_tokenizer(str(model))
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"refuses prompt 'p' \(system, user, assistant, user\): System role not supported"
    ):
        tokens_of(tmp_path, "b", CHAT)


def test_prompts_that_the_tokenizer_has_no_token_for_are_left_out_and_named(caplog):
    prompts = [Prompt(prompt_id=text, text=text, answer="1", grader="math") for text in ("S 1 2 3 4 =", "S what =")]
    assert set(tokenize(prompts, make_config("codes"))) == {"S 1 2 3 4 ="}
    assert "left out num=1: prompt 'S what =' has 'what', for which demo/base has no token" in caplog.text
    with pytest.raises(
        UserError, match=r"no prompt is left: 0 are longer .*, and 1 have what the tokenizer of demo/base"
    ):
        tokenize(prompts[1:], make_config("codes"))


def test_prompts_that_are_too_long_are_left_out_and_none_left_is_an_error(model):
    prompts = [Prompt(prompt_id=text, text=text, answer="1", grader="math") for text in ("ab", "abcdef")]
    assert set(tokenize(prompts, make_config("codes", model, max_prompt_tokens=3))) == {"ab"}
    with pytest.raises(UserError, match=r"all 2 prompts are longer than 1 tokens, the least of prompts\.max_prompt"):
        tokenize(prompts, make_config("codes", model, max_prompt_tokens=1))
    tables = {"producer": {"max_model_len": 20}, "sampling": {"max_tokens": 17}}
    assert set(tokenize(prompts, make_config("codes", model, tables))) == {"ab"}


def test_a_model_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match="has no tokenizer that loads"):
        load_tokenizer(str(tmp_path))
