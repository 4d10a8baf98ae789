"""Writes small files as the public datasets have them: the very keys, types and file names, with problems of our own."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Problems = Sequence[tuple[str, str]]
"""Text and answer."""
PROBLEMS = [(f"What is {n} plus 1?", str(n + 1)) for n in range(24)]


def parquet(file: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def jsonl(file: Path, rows: Sequence[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def user(text: str) -> list[dict[str, str]]:
    return [{"content": text, "role": "user"}]


def _gsm8k_rows(problems: Problems) -> list[dict[str, Any]]:
    return [
        {"question": text, "answer": f"We add.\nThe sum is <<1+1={answer}>>{answer}.\n#### {answer}"}
        for text, answer in problems
    ]


def gsm8k(folder: Path, problems: Problems) -> str:
    """As `hf download openai/gsm8k` makes it; the test split has one problem of its own."""
    parquet(folder / "main" / "train-00000-of-00001.parquet", _gsm8k_rows(problems))
    parquet(folder / "main" / "test-00000-of-00001.parquet", _gsm8k_rows([(problems[0][0] + " 0", "0")]))
    (folder / "README.md").write_text("# GSM8K")
    return str(folder / "main")


def gsm8k_jsonl(folder: Path, problems: Problems) -> str:
    return str(jsonl(folder / "train.jsonl", _gsm8k_rows(problems)))


def math(folder: Path, problems: Problems) -> str:
    """One file per problem, in a folder per subject."""
    for number, (text, answer) in enumerate(problems):
        file = folder / "train" / ("algebra" if number % 2 else "geometry") / f"{number:03d}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        solution = f"Then \\boxed{{0}} is wrong, so the sum is $\\boxed{{{answer}}}$."
        row = {"problem": text, "level": f"Level {number % 5 + 1}", "type": "Algebra", "solution": solution}
        file.write_text(json.dumps(row, indent=4))
    return str(folder)


def math_500(folder: Path, problems: Problems) -> str:
    rows = [
        {
            "problem": text,
            "solution": f"Clearly $\\boxed{{{answer}}}$.",
            "answer": answer,
            "subject": "Algebra",
            "level": number % 5 + 1,
            "unique_id": f"test/algebra/{number}.json",
        }
        for number, (text, answer) in enumerate(problems)
    ]
    return str(jsonl(folder / "test.jsonl", rows))


def _verl(problems: Problems, source: str, style: str, ability: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "data_source": source,
            "prompt": user(text),
            "ability": ability,
            "reward_model": {"ground_truth": answer, "style": style},
            "extra_info": {"index": f"00000000-0000-0000-0000-{number:012d}", **more},
        }
        for number, (text, answer) in enumerate(problems)
    ]


def dapo(folder: Path, problems: Problems) -> str:
    """DAPO-Math-17k: every problem comes many times, under another index."""
    rows = _verl([*problems] * 3, "math_dapo", "rule-lighteval/MATH_v2", "MATH")
    return str(parquet(folder / "data" / "dapo-math-17k.parquet", rows))


def dapo_processed(folder: Path, problems: Problems) -> str:
    """open-r1's cleaned copy: the text alone in `prompt`, the answer in `solution`, the chat in `source_prompt`."""
    rows = [
        {"prompt": text, "solution": answer, "source_prompt": user(f"Solve. {text}"), **row}
        for (text, answer), row in zip(problems, _verl(problems, "math_dapo", "rule", "MATH"), strict=True)
    ]
    for row, (text, _) in zip(rows, problems, strict=True):
        row["prompt"] = text
    return str(parquet(folder / "train.parquet", rows))


def verl(folder: Path, problems: Problems) -> str:
    """As verl's script prepares GSM8K."""
    rows = _verl(problems, "openai/gsm8k", "rule", "math", answer="#### 1", question="raw", split="train")
    return str(parquet(folder / "train.parquet", rows))


def skywork(folder: Path, problems: Problems) -> str:
    """Skywork-OR1: the answer is a list in JSON."""
    rows = _verl([(text, json.dumps([answer])) for text, answer in problems], "train-math-deepscaler", "rule", "math")
    return str(jsonl(folder / "skywork.jsonl", rows))


def openr1(folder: Path, problems: Problems) -> str:
    rows = [
        {
            "problem": text,
            "solution": f"It is $\\boxed{{{answer}}}$.",
            "answer": answer,
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "source": "olympiads",
            "uuid": f"{number:08d}",
            "is_reasoning_complete": [True, True],
            "generations": ["<think>...</think>", "<think></think>"],
            "correctness_math_verify": [True, False],
            "finish_reasons": None,
            "messages": [*user(text), {"content": "<think>...</think>", "role": "assistant"}],
        }
        for number, (text, answer) in enumerate(problems)
    ]
    return str(parquet(folder / "data" / "train-00000-of-00010.parquet", rows))


def numina(folder: Path, problems: Problems) -> str:
    """NuminaMath-CoT, whose proofs have no box."""
    solutions = [(text, f"So it is $\\boxed{{{answer}}}$.") for text, answer in problems]
    solutions.insert(3, ("Prove that 1 = 1.", "By reflexivity."))
    rows = [
        {
            "source": "cn_k12",
            "problem": text,
            "solution": solution,
            "messages": [*user(text), {"content": solution, "role": "assistant"}],
        }
        for text, solution in solutions
    ]
    return str(parquet(folder / "data" / "train-00000-of-00005.parquet", rows))


def numina_15(folder: Path, problems: Problems) -> str:
    rows = [
        {
            "problem": text,
            "solution": "Think.",
            "answer": answer,
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "problem_is_valid": "Yes",
            "solution_is_valid": "Yes",
            "source": "olympiads",
            "synthetic": False,
        }
        for text, answer in [*problems[:2], ("Prove it.", "proof"), ("What?", "notfound"), *problems[2:]]
    ]
    return str(parquet(folder / "train.parquet", rows))


def big_math(folder: Path, problems: Problems) -> str:
    rows = [
        {"problem": text, "answer": answer, "source": "orca_math", "domain": ["Algebra"], "llama8b_solve_rate": 0.25}
        for text, answer in problems
    ]
    return str(parquet(folder / "train.parquet", rows))


def _orz_rows(problems: Problems) -> list[list[dict[str, Any]]]:
    return [
        [{"from": "human", "value": text}, {"from": "assistant", "ground_truth": {"value": answer}}]
        for text, answer in problems
    ]


def orz(folder: Path, problems: Problems) -> str:
    (folder / "orz_math_57k_collected.json").write_text(json.dumps(_orz_rows(problems)))
    return str(folder / "orz_math_57k_collected.json")


def orz_hub(folder: Path, problems: Problems) -> str:
    return str(parquet(folder / "train.parquet", [{"0": first, "1": then} for first, then in _orz_rows(problems)]))


def deepscaler(folder: Path, problems: Problems) -> str:
    rows = [{"problem": text, "answer": answer, "solution": "Long."} for text, answer in problems]
    (folder / "deepscaler.json").write_text(json.dumps(rows))
    return str(folder / "deepscaler.json")


def saved(folder: Path, problems: Problems) -> str:
    from datasets import Dataset, DatasetDict

    rows = [{"query": text, "expected_answer": answer} for text, answer in problems]
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(folder / "saved"))
    return str(folder / "saved")


def aime(folder: Path, problems: Problems) -> str:
    """Keys with capitals, answers as numbers."""
    rows = [
        {"ID": f"2024-I-{n}", "Problem": text, "Solution": "Long.", "Answer": int(answer)}
        for n, (text, answer) in enumerate(problems)
    ]
    return str(jsonl(folder / "aime.jsonl", rows))


def chats(folder: Path, problems: Problems, system: str = "Be brief.", example: str = "What is 1 plus 1?") -> str:
    """Messages with a system turn, an example and the question."""
    before = [
        {"role": "system", "content": system},
        {"role": "user", "content": example},
        {"role": "assistant", "content": "2"},
    ]
    rows = [{"messages": [*before, {"role": "user", "content": text}], "answer": answer} for text, answer in problems]
    return str(jsonl(folder / "chats.jsonl", rows))


LAYOUTS: dict[str, Callable[[Path, Problems], str]] = {
    function.__name__: function
    for function in (
        gsm8k, gsm8k_jsonl, math, math_500, dapo, dapo_processed, verl, skywork, openr1, numina, numina_15, big_math, orz,
        orz_hub, deepscaler, saved, aime, chats,
    )
}  # fmt: skip
