"""Writes the example groups as HTML: prompt, completions, verdicts, rewards, advantages, policy versions."""

from collections.abc import Sequence

from replay.examples import example_rows
from replay.load import RunData
from replay.markup import safe, table
from stream.messages import Verdict


def examples(data: RunData) -> str:
    """The example groups, the first one open."""
    parts = [_example(data, group_id, verdicts) for group_id, verdicts in data.examples.items()]
    return "".join(parts).replace("<details>", "<details open>", 1) or '<p class="empty">no data yet</p>'


def _example(data: RunData, group_id: str, verdicts: Sequence[Verdict]) -> str:
    ended = {end.group_id: (update, end) for update in data.lineage.steps for end in update.groups}
    prompt, ending = verdicts[0].trajectory.job.prompt, ended.get(group_id)
    how = f"{ending[1].ending} in update {ending[0].step}" if ending else "not ended yet"
    about = f"group {safe(group_id, 120)}: {len(verdicts)} rollouts, {how}"
    title = f'{safe(prompt.prompt_id, 80)} <span class="dim">{about}</span>'
    budget = verdicts[0].trajectory.job.budgeting
    believed = f", believed success rate {budget.success_rate:.2f}" if budget else ""
    task = f"task {safe(prompt.task, 80) or '-'}, level {safe(prompt.level, 80) or '-'}{believed}"
    return (
        f"<details><summary>{title}</summary><p class='dim'>{task}</p>"
        f"<h4>prompt</h4><pre>{safe(prompt.text)}</pre><h4>answer</h4><pre>{safe(prompt.answer)}</pre>"
        f"{_rollouts_table(verdicts)}</details>"
    )


def _rollouts_table(verdicts: Sequence[Verdict]) -> str:
    rows = [
        (
            str(row.verdict.trajectory.rollout_index),
            f"<pre>{safe(row.verdict.trajectory.text)}</pre>",
            f'<span class="outcome {row.verdict.outcome}">{row.verdict.outcome}</span> {safe(row.verdict.reason, 200)}',
            f"{row.verdict.reward:g}" if row.verdict.graded else "-",
            "-" if row.advantage is None else f"{row.advantage:+.2f}",
            str(row.verdict.trajectory.token_ids.size),
            row.versions,
        )
        for row in example_rows(verdicts)
    ]
    return table(
        ("#", "completion", "verdict", "reward", "advantage", "tokens", "policy version"), rows, "rollouts", most=500
    )
