"""Finds prompts and rollouts in an index: which prompts there are, what became of one, what a rollout said token by token.

An `Index` and what is asked for enter, plain dicts for JSON leave. What a model or a prompt wrote is handed on as it is, cut to a
length: the page shows it as text and nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from replay.examples import advantages_of
from replay.watch.index import Index
from replay.watch.rows import unpack
from replay.watch.tokens import Tokens
from replay.watch.views import Steps, steps_of
from stream.errors import UserError

PAGE = 50
"""Prompts, or groups of a prompt, that are shown at once."""
PREVIEW_CHARACTERS = 400
MOST_CHARACTERS = 100_000
MOST_TOKENS = 20_000
ORDERS = {
    "newest": "last_s DESC, no DESC",
    "hardest": "reward_sum / max(1, num_graded), num_graded DESC, no",
    "easiest": "reward_sum / max(1, num_graded) DESC, num_graded DESC, no",
    "undecided": "abs(coalesce(believed, 9) - 0.5), no",
    "most rollouts": "num_rollouts DESC, no",
}
UNSEEN = "unseen"
BANDS = {UNSEEN: "believed IS NULL"} | {
    f"{i / 10:.1f}-{(i + 1) / 10:.1f}": f"believed >= {i / 10} AND believed {'<' if i < 9 else '<='} {(i + 1) / 10}"
    for i in range(10)
}
"""Bands of the success rate believed last, each with its condition."""


def find_prompts(index: Index, query: str, band: str, order: str, offset: int) -> dict[str, Any]:
    """A page of the prompts whose id, text, answer or level holds the words of the query.

    Raises:
        UserError: no such band or order.

    """
    conditions, values = [], dict[str, object]()
    for number, word in enumerate(query.split()[:8]):
        columns = ("prompt_id", "text", "answer", "task", "level", "purpose")
        conditions.append("(" + " OR ".join(f"{column} LIKE :w{number} ESCAPE '\\'" for column in columns) + ")")
        values[f"w{number}"] = "%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    if band:
        conditions.append(_known(BANDS, "band", band))
    where = " AND ".join(conditions) or "1"
    ((total,),) = index.rows(f"SELECT count(*) FROM prompts WHERE {where}", values)
    rows = index.dicts(
        "SELECT no, prompt_id, purpose, substr(text, 1, :preview) AS text, substr(answer, 1, 100) AS answer, task, level, "
        "num_groups, num_rollouts, num_graded, reward_sum, believed, last_s "
        f"FROM prompts WHERE {where} ORDER BY {_known(ORDERS, 'order', order)} LIMIT :page OFFSET :offset",
        values | {"preview": PREVIEW_CHARACTERS, "page": PAGE, "offset": offset},
    )
    return {"total": total, "offset": offset, "page": PAGE, "prompts": rows}


def _known(table: Mapping[str, str], what: str, name: str) -> str:
    if name not in table:
        raise UserError(f"{what} is {name[:40]!r}; want one of {', '.join(table)}")
    return table[name]


def prompt_history(index: Index, no: int, offset: int) -> dict[str, Any]:
    """One prompt, a page of its groups (newest first) with their rollouts, and its record by policy version.

    Raises:
        UserError: no such prompt.

    """
    prompt = _prompt(index, no)
    steps = steps_of(index)
    groups = index.dicts(
        "SELECT * FROM groups WHERE prompt = ? ORDER BY created_s DESC, no LIMIT ? OFFSET ?", (no, PAGE, offset)
    )
    for group in groups:
        group["rollouts"] = _rollouts(index, "r.group_no = ?", (group["no"],))
        group["end"] = _end(index, steps, group["no"])
        _give_advantages(group)
    return {"prompt": prompt, "offset": offset, "page": PAGE, "groups": groups, "versions": _versions(index, no)}


def _prompt(index: Index, no: int) -> dict[str, Any]:
    found = index.dicts("SELECT * FROM prompts WHERE no = ?", (no,))
    if not found:
        raise UserError(f"there is no prompt number {no} in run {index.run} (any more): search again")
    prompt = found[0]
    prompt["text"], prompt["answer"] = prompt["text"][:MOST_CHARACTERS], prompt["answer"][:MOST_CHARACTERS]
    return prompt


def _rollouts(index: Index, condition: str, values: Sequence[object], most: int = 500) -> list[dict[str, Any]]:
    """Rollouts with the beginning of what they said."""
    rows = index.dicts(
        "SELECT r.no, r.rollout_index, r.outcome, r.graded, r.reward, r.num_tokens, r.min_version, r.max_version, r.logprob, "
        "r.finish_reason, substr(r.reason, 1, 300) AS reason, r.found_by, substr(r.answer, 1, 200) AS answer, r.rule, "
        "r.created_s, c.packed FROM rollouts r LEFT JOIN completions c ON c.rollout = r.no JOIN groups g ON g.no = r.group_no "
        f"WHERE {condition} ORDER BY g.created_s DESC, r.rollout_index LIMIT {most}",
        values,
    )
    for row in rows:
        text = unpack(row["packed"]).text if row["packed"] else ""
        del row["packed"]
        row["text"], row["more"] = text[:PREVIEW_CHARACTERS], max(0, len(text) - PREVIEW_CHARACTERS)
    return rows


def _end(index: Index, steps: Steps, group_no: int) -> dict[str, Any] | None:
    """How a group ended in the lineage that survives, and in which update."""
    place = steps.position
    for version, ending, staleness in index.rows(
        "SELECT version, ending, staleness FROM ends WHERE group_no = ?", (group_no,)
    ):
        if version in place:
            step = steps.steps[place[version]].step
            return {"ending": ending, "staleness": staleness, "version": version, "step": step}
    return None


def _give_advantages(group: dict[str, Any]) -> None:
    """Note what each rollout was worth, as `replay.examples` recomputes it."""
    if not group["rollouts"] or not group["train"]:
        return
    alone = group["mode"] == "learnability" or group["size"] == 1
    belief = (group["a"], group["b"]) if group["a"] and alone else None
    rewards = [row["reward"] if row["graded"] else None for row in group["rollouts"]]
    for row, advantage in zip(group["rollouts"], advantages_of(rewards, belief), strict=True):
        row["advantage"] = advantage


def _versions(index: Index, no: int) -> list[dict[str, Any]]:
    """Rollouts and their rewards by the newest version that sampled a token, oldest version first."""
    return index.dicts(
        "SELECT r.max_version AS version, count(*) AS num, sum(r.graded) AS graded, sum(r.graded * r.reward) AS reward_sum "
        "FROM rollouts r JOIN groups g ON g.no = r.group_no WHERE g.prompt = ? GROUP BY version ORDER BY version",
        (no,),
    )


def answers_of_version(index: Index, no: int, version: int) -> dict[str, Any]:
    """What one policy version answered to a prompt, newest first."""
    rollouts = _rollouts(index, "g.prompt = ? AND r.max_version = ?", (no, version), most=PAGE)
    return {"version": version, "rollouts": rollouts}


def rollout_tokens(index: Index, no: int, tokens: Tokens) -> dict[str, Any]:
    """One rollout, token by token.

    Raises:
        UserError: no such rollout.

    """
    found = index.dicts(
        "SELECT r.*, c.packed, g.group_id, g.prompt, g.temperature, g.max_tokens FROM rollouts r "
        "JOIN completions c ON c.rollout = r.no JOIN groups g ON g.no = r.group_no WHERE r.no = ?",
        (no,),
    )
    if not found:
        raise UserError(f"there is no rollout number {no} in run {index.run} (any more): search again")
    rollout = found[0]
    completion = unpack(rollout.pop("packed"))
    ids = completion.token_ids[:MOST_TOKENS]
    versions = [version for version, start, stop in completion.spans for _ in range(start, stop)]
    return rollout | {
        "text": completion.text[:MOST_CHARACTERS],
        "text_more": max(0, len(completion.text) - MOST_CHARACTERS),
        "tokens_more": completion.token_ids.size - ids.size,
        "token_ids": ids.tolist(),
        "logprobs": [round(float(value), 3) for value in completion.logprobs[:MOST_TOKENS]],
        "versions": versions[:MOST_TOKENS],
        "pieces": tokens.pieces(ids.tolist()),
        "tokenizer": tokens.state,
    }
