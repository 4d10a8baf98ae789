// The views of prompts and rollouts: find a prompt, its history, one rollout token by token, two versions beside each other.
import { ask, clock, count, h, number, percent, said, shown, table } from "./dom.js";

const VERSION_COLOURS = ["blue", "orange", "teal", "violet", "yellow", "pink"];

function link(view, query, ...children) { return h("a", { href: address(view, query) }, ...children); }
export function address(view, query) { return "#/" + view + "?" + new URLSearchParams(query); }

function pages(view, query, total, offset, size) {
  if (total <= size) return null;
  const to = at => link(view, { ...query, offset: at }, at < offset ? "previous" : "next");
  const last = Math.min(total, offset + size);
  return h("div", { class: "pages" }, offset > 0 ? to(Math.max(0, offset - size)) : null, h("span", { class: "dim" }, `${count(offset + 1)} to ${count(last)} of ${count(total)}`), last < total ? to(offset + size) : null);
}

function choice(name, label, options, chosen) {
  return h("select", { name, "aria-label": label, onchange: event => event.target.form.requestSubmit() }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
}

export async function findView(query, context) {
  const asked = { q: query.q || "", band: query.band || "", order: query.order || "newest", offset: query.offset || 0, run: query.run || "" };
  const found = await ask("/api/prompts", asked);
  const form = h("form", { class: "search", role: "search", onsubmit: event => { event.preventDefault(); const data = Object.fromEntries(new FormData(event.target)); location.hash = address("rollouts", data); } },
    h("input", { name: "q", id: "search", type: "search", value: asked.q, placeholder: "find a prompt: id, words of its text, answer, level (press /)", "aria-label": "find a prompt" }),
    choice("band", "band of the believed success rate", [["", "any success rate"], ...context.bands.map(band => [band, band === "unseen" ? "nothing believed" : "believed " + band])], asked.band),
    choice("order", "order", context.orders.map(order => [order, order]), asked.order),
    context.runs.length > 1 ? choice("run", "run", context.runs.map(name => [name, name]), asked.run || context.runs[0]) : null,
    h("button", { type: "submit" }, "find"));
  const rows = found.prompts.map(prompt => {
    const to = { no: prompt.no, run: asked.run };
    const mean = prompt.num_graded ? prompt.reward_sum / prompt.num_graded : null;
    return { properties: { "data-href": address("prompt", to) }, cells: [
      link("prompt", to, shown(prompt.prompt_id)), said(prompt.text, 0, "short"), said(prompt.answer, 0, "short"),
      h("span", { class: "dim" }, shown([prompt.task, prompt.level, prompt.purpose === "train" ? "" : prompt.purpose].filter(Boolean).join(", "))),
      count(prompt.num_rollouts), percent(mean), percent(prompt.believed)] };
  });
  return [form, h("p", { class: "note" }, `${count(found.total)} prompts`),
    h("div", { class: "panel" }, table(["prompt", "text", "answer", "of", "#rollouts", "#right", "#believed"], rows, asked.q || asked.band ? "nothing found: try fewer words, or any success rate" : "no rollouts yet")),
    pages("rollouts", asked, found.total, found.offset, found.page)];
}

export async function promptView(query, context) {
  const asked = { no: query.no || 0, offset: query.offset || 0, run: query.run || "" };
  const found = await ask("/api/prompt", asked);
  const prompt = found.prompt, mean = prompt.num_graded ? prompt.reward_sum / prompt.num_graded : null;
  const about = [["rollouts", count(prompt.num_rollouts)], ["groups", count(prompt.num_groups)], ["right", percent(mean)], ["believed now", percent(prompt.believed)]];
  return [
    h("p", { class: "note" }, link("rollouts", { run: asked.run }, "all prompts")),
    h("h2", null, shown(prompt.prompt_id)),
    h("p", { class: "note" }, shown([prompt.task && "task " + prompt.task, prompt.level && "level " + prompt.level, "grader " + prompt.grader, prompt.purpose === "train" ? "training" : prompt.purpose].filter(Boolean).join(", "))),
    h("div", { class: "tiles" }, about.map(([name, value]) => h("div", { class: "tile" }, h("span", null, name), h("b", null, value)))),
    h("div", { class: "panel" }, h("h4", null, "prompt"), said(prompt.text, 0, "box"), h("h4", null, "reference answer"), said(prompt.answer, 0, "box")),
    versionsPanel(found, asked),
    h("h2", null, "History, newest first"),
    found.groups.length ? history(found.groups, asked) : h("p", { class: "empty" }, "no group yet"),
    pages("prompt", asked, prompt.num_groups, found.offset, found.page)];
}

/** Groups one by one; single rollouts that follow one another in one table. */
function history(groups, asked) {
  const panels = [];
  let singles = [];
  const flush = () => { if (singles.length) panels.push(singlesPanel(singles, asked)); singles = []; };
  for (const group of groups) {
    if (group.size === 1 && group.rollouts.length === 1) singles.push(group);
    else { flush(); panels.push(groupPanel(group, asked)); }
  }
  flush();
  return panels;
}

const HEADS = ["##", "completion", "verdict", "#reward", "#advantage", "#tokens", "#logprob", "version"];

function rowOf(rollout, asked, ...more) {
  return { properties: { "data-href": address("rollout", { no: rollout.no, run: asked.run }) }, cells: [...rolloutCells(rollout, asked), ...more] };
}

function singlesPanel(groups, asked) {
  const dim = text => h("span", { class: "dim" }, text);
  const rows = groups.map(group => {
    const rollout = group.rollouts[0], row = rowOf(rollout, asked, dim(shortWhy(group)), dim(shortEnding(group)), dim(clock(group.created_s)));
    row.cells[0] = link("rollout", { no: rollout.no, run: asked.run }, "tokens");
    return row;
  });
  return h("section", { class: "panel group" }, h("p", { class: "note" }, rows.length === 1 ? "single rollout" : `${count(rows.length)} single rollouts`), table(["", ...HEADS.slice(1), "why it was sampled", "what came of it", "when"], rows));
}

function shortWhy(group) {
  if (!group.mode) return why(group);
  const belief = group.success_rate >= 0 ? `believed ${number(group.success_rate, 2)} after ${number(group.num_observed, 0)}` : "nothing seen before";
  return shown(`${group.mode}, round ${count(group.round)}: ${belief}` + (group.a ? `, Beta(${number(group.a, 2)}, ${number(group.b, 2)})` : "") + `; worth ${number(group.value, 4)}, price ${number(group.price, 4)}`);
}

function shortEnding(group) {
  if (!group.train || !group.end) return ending(group);
  return `${group.end.ending === "trained" ? "trained" : group.end.ending.replace("_", " ")} in update ${count(group.end.step)}, ${old(group.end.staleness)}`;
}

function old(staleness) { return `${count(staleness)} version${staleness === 1 ? "" : "s"} old`; }

function groupPanel(group, asked) {
  const missing = group.size - group.rollouts.length;
  return h("section", { class: "panel group" },
    h("header", null, h("b", null, group.size === 1 ? "single rollout " : `group of ${count(group.size)} `), h("span", { class: "dim" }, shown(group.group_id.slice(0, 120)), ", ", clock(group.created_s))),
    h("p", { class: "note" }, "why: ", why(group)), h("p", { class: "note" }, "what came of it: ", ending(group)),
    table(HEADS, group.rollouts.map(rollout => rowOf(rollout, asked)), "no verdict yet"),
    missing > 0 && group.rollouts.length ? h("p", { class: "note" }, `${count(missing)} without a verdict so far`) : null);
}

function why(group) {
  if (!group.mode) return `sampled at temperature ${number(group.temperature, 2)} for an evaluation`;
  const parts = [`mode ${group.mode}, round ${count(group.round)}`];
  if (group.success_rate >= 0) parts.push(`believed success rate ${number(group.success_rate, 2)} after ${number(group.num_observed, 1)} rollouts`);
  else parts.push("nothing seen of this prompt before");
  if (group.a) parts.push(`belief Beta(${number(group.a, 2)}, ${number(group.b, 2)})`);
  parts.push(`worth ${number(group.value, 4)} at a price of ${number(group.price, 4)} a ${group.cost ? "token" : "rollout"}`);
  if (group.cost) parts.push(`${number(group.cost, 0)} tokens expected of one rollout`);
  if (group.attempt) parts.push(`issued ${group.attempt + 1} times`);
  return shown(parts.join("; "));
}

function ending(group) {
  if (!group.train) return "not trained on";
  if (!group.end) return "not ended yet";
  const how = { trained: "trained", zero_variance: "no gradient: all rewards are the same", stale: "too old to train on", abandoned: "abandoned" }[group.end.ending] || group.end.ending;
  return `${how}, in update ${count(group.end.step)}, which made version ${count(group.end.version)}; its oldest token was ${old(group.end.staleness)}`;
}

function versionText(rollout) { return rollout.min_version === rollout.max_version ? String(rollout.max_version) : `${rollout.min_version} to ${rollout.max_version}`; }

function verdictCell(rollout) {
  const details = [rollout.reason, rollout.answer && "found: " + rollout.answer, rollout.found_by && "in: " + rollout.found_by, rollout.rule && "rule: " + rollout.rule].filter(Boolean).join("; ");
  return [h("span", { class: "outcome " + rollout.outcome }, rollout.outcome), " ", details ? h("span", { class: "dim said" }, shown(details)) : null];
}

function rolloutCells(rollout, asked) {
  const sign = rollout.advantage > 0 ? "+" : "";
  return [link("rollout", { no: rollout.no, run: asked.run }, String(rollout.rollout_index)), said(rollout.text, rollout.more, "short"), verdictCell(rollout),
    rollout.graded ? number(rollout.reward, 2) : "-", rollout.advantage === null || rollout.advantage === undefined ? "-" : sign + number(rollout.advantage, 2),
    [count(rollout.num_tokens), rollout.finish_reason === "stop" ? "" : " (" + rollout.finish_reason + ")"], number(rollout.logprob, 2), versionText(rollout)];
}

function versionsPanel(found, asked) {
  const versions = found.versions;
  if (versions.length < 2) return null;
  const options = versions.map(v => [String(v.version), `version ${v.version}: ${v.graded ? percent(v.reward_sum / v.graded) + " right" : "no grade"}, ${count(v.num)} rollouts`]);
  const left = h("div"), right = h("div");
  async function fill(box, version) {
    try {
      const answers = await ask("/api/answers", { no: asked.no, version, run: asked.run });
      box.replaceChildren(...answers.rollouts.map(rollout => h("div", { class: "group" }, h("p", { class: "note" }, verdictCell(rollout), " ", link("rollout", { no: rollout.no, run: asked.run }, "tokens")), said(rollout.text, rollout.more, "box"))));
    } catch (error) { box.replaceChildren(h("p", { class: "empty" }, error.message)); }
  }
  const chooser = (box, version, label) => h("select", { "aria-label": label, onchange: event => fill(box, event.target.value) }, options.map(([value, text]) => h("option", { value, selected: value === String(version) }, text)));
  const first = versions[0].version, last = versions[versions.length - 1].version;
  const details = h("details", { ontoggle: event => { if (event.target.open && !left.hasChildNodes()) { fill(left, first); fill(right, last); } } },
    h("summary", null, "Compare the answers of two policy versions"),
    h("div", { class: "beside" }, h("div", null, h("p", null, chooser(left, first, "first version")), left), h("div", null, h("p", null, chooser(right, last, "second version")), right)));
  return h("div", { class: "panel" }, details);
}

export async function rolloutView(query, context) {
  const asked = { no: query.no || 0, run: query.run || "" };
  const rollout = await ask("/api/rollout", asked);
  if (rollout.tokenizer === "loading") context.again(1500);
  const by = query.by === "version" ? "version" : "logprob";
  const other = by === "version" ? "logprob" : "version";
  const box = h("pre", { class: "said box", id: "tokens", dir: "auto" });
  const about = h("p", { class: "note", role: "status", id: "about" }, "Point at a token, or walk with the arrow keys, to see its probability.");
  box.append(...(rollout.pieces ? tokenNodes(rollout, by, about) : [...shown(rollout.text)]));
  return [
    h("p", { class: "note" }, link("prompt", { no: rollout.prompt, run: asked.run }, "the prompt and all its rollouts")),
    h("h2", null, "Rollout ", String(rollout.rollout_index), " of ", shown(rollout.group_id.slice(0, 120))),
    h("p", null, verdictCell(rollout)),
    h("p", { class: "note" }, shown(`reward ${rollout.graded ? number(rollout.reward, 2) : "-"}; ${count(rollout.num_tokens)} tokens (${rollout.finish_reason}) at temperature ${number(rollout.temperature, 2)}; sampled by ${rollout.producer} in ${number(rollout.generated_s, 2)} s, `
      + `${clock(rollout.sampled_at_s)}; graded by ${rollout.grader} in ${number(rollout.graded_s, 3)} s; policy version ${versionText(rollout)}; mean logprob ${number(rollout.logprob, 3)}`)),
    h("div", { class: "legend" }, legend(rollout, by), link("rollout", { ...asked, by: other }, `colour by ${other === "version" ? "policy version" : "logprob"}`)),
    h("div", { class: "panel" }, about, box, rollout.pieces ? null : strip(rollout, by, about),
      rollout.tokenizer === "none" ? h("p", { class: "note" }, "There is no tokenizer of this run on this machine (--tokenizer FOLDER), so the tokens are shown without their text.") : null,
      rollout.tokens_more ? h("p", { class: "note" }, `${count(rollout.tokens_more)} more tokens`) : null)];
}

function legend(rollout, by) {
  if (by === "logprob") return [0.9, 0.5, 0.1, 0.01].map(p => h("span", null, h("i", { style: { background: shade(Math.log(p)) } }), `p = ${p}`));
  return [...new Set(rollout.versions)].map(version => h("span", null, h("i", { style: { background: tint(version, rollout) } }), `version ${version}`));
}

/** Red the less likely the token was: nothing at p = 1, full at p = 0.01. */
function shade(logprob) { return `rgba(${getComputedStyle(document.documentElement).getPropertyValue("--unlikely")}, ${(0.6 * Math.min(1, -logprob / 4.6)).toFixed(3)})`; }
function tint(version, rollout) {
  const colour = VERSION_COLOURS[[...new Set(rollout.versions)].indexOf(version) % VERSION_COLOURS.length];
  return `color-mix(in srgb, var(--${colour}) 30%, transparent)`;
}

function tell(rollout, start, stop) {
  const logprobs = rollout.logprobs.slice(start, stop), total = logprobs.reduce((a, b) => a + b, 0);
  const tokens = stop - start === 1 ? `token ${start}, id ${rollout.token_ids[start]}` : `tokens ${start} to ${stop - 1}`;
  return `${tokens}: logprob ${total.toFixed(3)}, p = ${Math.exp(total).toPrecision(3)}, policy version ${rollout.versions[start]}`;
}

function tokenNodes(rollout, by, about) {
  const nodes = [];
  let start = 0;
  for (const [text, size] of rollout.pieces) {
    const from = start, to = start + size, worst = Math.min(...rollout.logprobs.slice(from, to));
    const colour = by === "version" ? tint(rollout.versions[from], rollout) : shade(worst);
    const point = () => { about.textContent = tell(rollout, from, to); };
    nodes.push(h("span", { class: "token", tabindex: nodes.length ? -1 : 0, style: { background: colour }, onmouseenter: point, onfocus: point, onkeydown: walk }, shown(text)));
    start = to;
  }
  return nodes;
}

function walk(event) {
  const next = { ArrowRight: event.target.nextElementSibling, ArrowLeft: event.target.previousElementSibling }[event.key];
  if (next) { event.preventDefault(); event.target.tabIndex = -1; next.tabIndex = 0; next.focus(); }
}

function strip(rollout, by, about) {
  const cells = rollout.token_ids.slice(0, 4000).map((id, t) => h("i", { style: { background: by === "version" ? tint(rollout.versions[t], rollout) : shade(rollout.logprobs[t]) }, onmouseenter: () => { about.textContent = tell(rollout, t, t + 1); } }));
  return h("div", { class: "strip", "aria-hidden": true }, cells);
}
