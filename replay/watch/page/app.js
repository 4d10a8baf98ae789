// The page: which view is shown, how the run goes, and what is asked again when the run has moved on. Reads only.
import { ask, clock, count, h, number, percent, said, shown, table } from "./dom.js";
import { findView, promptView, rolloutView } from "./rollouts.js";

const STATE_EVERY_MS = 2000;
const VIEWS = { learning: "Learning", time: "Time", staleness: "Staleness and lag", beliefs: "Budgets and beliefs", rollouts: "Rollouts", runs: "Runs" };
const WITH_PLOTS = ["learning", "time", "staleness", "beliefs"];
const PARENT = { prompt: "rollouts", rollout: "rollouts" };
const KEYS = [["1 to 6", "views"], ["/", "find a prompt"], ["j, k", "next and previous row"], ["Enter", "open it"], ["u", "up: from a rollout to its prompt, to all prompts"], ["t", "light or dark"], ["?", "these keys"]];

const main = document.getElementById("main");
let state = null, drawn = { view: "", changes: -1 }, plotly = null, shownNumber = 0;

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const view = path in VIEWS || path in PARENT ? path : "learning";
  return { view, query: Object.fromEntries(new URLSearchParams(query || "")) };
}

function loadPlotly() {
  plotly ||= new Promise((resolve, reject) => document.head.append(h("script", { src: "/plotly.js", onload: resolve, onerror: () => { plotly = null; reject(new Error("plotly.js did not come")); } })));
  return plotly;
}

// -- the head -------------------------------------------------------------------------------------------------------

function showHead() {
  const first = state.runs[0];
  document.title = `${first.run} - Rucksack`;
  document.getElementById("name").replaceChildren(...shown(state.runs.map(run => run.run).join(" / ").slice(0, 200)));
  const pill = document.getElementById("progress");
  const words = { connecting: "connecting to the broker", reading: `reading the topics: ${percent(first.total ? first.passed / first.total : 0)}`, live: first.finished ? "finished" : "live", away: "the broker does not answer", over: first.finished ? "finished" : "not up" };
  pill.textContent = words[first.state] || first.state;
  pill.className = "state " + first.state;
  const alarms = state.runs.flatMap(run => run.alarms.map(alarm => h("div", { class: "alarm", "data-kind": alarm.kind }, h("b", null, shown((state.runs.length > 1 ? run.run + ": " : "") + alarm.text)), h("p", null, shown(alarm.remedy)))));
  replaceIfChanged(document.getElementById("alarms"), alarms);
  replaceIfChanged(document.getElementById("notice"), notices());
}

function notices() {
  return state.runs.flatMap(run => {
    if (run.state === "away") return [h("div", { class: "notice" }, shown(`${run.run}: the broker does not answer. What is shown is what was read before; the page goes on by itself once it is back. ${run.error}`.slice(0, 600)))];
    if (run.silent_s > 15 && (run.state === "live" || run.state === "reading")) return [h("div", { class: "notice" }, shown(`${run.run}: nothing was heard from the broker for ${count(run.silent_s)} s. The page goes on by itself once it answers.`))];
    if (run.state === "over" && !run.finished) return [h("div", { class: "notice" }, shown(`${run.run} is not up: this is all that its topics hold. \`rucksack up\` with the same recipe resumes it, and the page goes on.`))];
    return [];
  });
}

/** Replace only what differs, so that a screen reader does not read the same again. */
function replaceIfChanged(element, children) {
  const fresh = h("div", null, children);
  if (fresh.innerHTML !== element.dataset.was) { element.dataset.was = fresh.innerHTML; element.replaceChildren(...fresh.childNodes); }
}

function showNav(view) {
  const current = PARENT[view] || view;
  document.getElementById("nav").replaceChildren(...Object.entries(VIEWS).filter(([name]) => name !== "runs" || state?.runs.length > 1)
    .map(([name, title]) => h("a", { href: "#/" + name, "aria-current": name === current ? "page" : null }, title)));
}

function tiles() {
  const run = state.runs[0], t = run.tiles;
  const gain = t.accuracy_before === null ? "" : `before ${percent(t.accuracy_before)}, ${t.accuracy >= t.accuracy_before ? "+" : ""}${(100 * (t.accuracy - t.accuracy_before)).toFixed(1)} points`;
  const cells = [["held-out accuracy", percent(t.accuracy), t.accuracy === null ? "not evaluated yet" : gain], ["reward", number(t.reward), "mean of the newest update"], ["updates", count(t.step), run.num_rolled_back ? `${count(run.num_rolled_back)} rolled back` : "none rolled back"],
    ["training rollouts", count(t.num_rollouts), `${count(t.num_tokens)} tokens`], ["effective samples", percent(t.ratio_samples), "of rollouts have a gradient"], ["effective prompts", percent(t.ratio_prompts), "of groups have a gradient"],
    ["staleness", number(t.staleness_mean, 2), t.staleness_max === null ? "versions" : `versions, at most ${count(t.staleness_max)}`], ["groups open", count(t.num_groups - t.num_ended), `of ${count(t.num_groups)} admitted`]];
  return h("div", { class: "tiles", id: "tiles" }, cells.map(([name, value, note]) => h("div", { class: "tile" }, h("span", null, name), h("b", null, value), h("i", null, note))));
}

// -- views ----------------------------------------------------------------------------------------------------------

async function show({ keep }) {
  const { view, query } = route(), mine = ++shownNumber, changes = state.runs.reduce((sum, run) => sum + run.changes, 0);
  const context = { bands: state.bands, orders: state.orders, runs: state.runs.map(run => run.run), again: ms => setTimeout(() => { if (mine === shownNumber) show({ keep: true }); }, ms) };
  showNav(view);
  const began = performance.now();
  try {
    if (WITH_PLOTS.includes(view)) await showPlots(view, keep, mine);
    else {
      const children = await { rollouts: findView, prompt: promptView, rollout: rolloutView, runs: runsView }[view](query, context);
      if (mine !== shownNumber) return;
      main.replaceChildren(...children.filter(Boolean).flat());
    }
  } catch (error) {
    if (mine !== shownNumber) return;
    if (!keep) main.replaceChildren(h("div", { class: "panel" }, h("p", { class: "empty" }, shown(error.message))));
  }
  if (mine !== shownNumber) return;
  drawn = { view: location.hash, changes, at: performance.now() };
  document.documentElement.dataset.view = view;
  document.documentElement.dataset.viewMs = (performance.now() - began).toFixed(1);
  if (!keep) window.scrollTo(0, 0);
}

async function showPlots(view, keep, mine) {
  if (!keep || !main.querySelector("#plots")) main.replaceChildren(tiles(), extra(view), h("div", { class: "grid", id: "plots" }, h("p", { class: "empty" }, "drawing")));
  const [figures] = await Promise.all([ask("/api/plots/" + view), loadPlotly()]);
  if (mine !== shownNumber) return;
  main.querySelector("#tiles")?.replaceWith(tiles());
  main.querySelector("#extra")?.replaceWith(extra(view));
  const grid = main.querySelector("#plots");
  if (grid.children.length !== figures.length || !grid.querySelector(".card")) grid.replaceChildren(...figures.map(card));
  seen.disconnect();
  figures.forEach((figure, i) => { waiting.set(grid.children[i], figure); seen.observe(grid.children[i]); });
  await drawSeen([...grid.children].filter(isNear));
}

// A plot is drawn once it is on the screen, or nearly: what is far below does not hold up what is seen.
const waiting = new WeakMap();
const seen = new IntersectionObserver(entries => drawSeen(entries.filter(entry => entry.isIntersecting).map(entry => entry.target)), { rootMargin: "200px" });
function isNear(element) { const box = element.getBoundingClientRect(); return box.top < innerHeight + 200 && box.bottom > -200; }

async function drawSeen(cards) {
  for (const element of cards) {
    const figure = waiting.get(element);
    waiting.delete(element);
    seen.unobserve(element);
    if (figure && element.isConnected) drawCard(element, figure);
  }
}

function card(figure) {
  return h("section", { class: "card" + (figure.layout.height ? " wide" : "") }, h("h3", null, shown(figure.title)), h("p", { class: "note" }, shown(figure.note)), h("div", { class: "plot" }));
}

function drawCard(element, figure) {
  const box = element.lastElementChild;
  if (!figure.data.length) { if (!box.querySelector(".empty")) { if (box.data) Plotly.purge(box); box.replaceChildren(h("p", { class: "empty" }, "no data yet")); } return; }
  if (box.querySelector(":scope > .empty")) box.replaceChildren();
  Plots.draw(box, figure);
}

function extra(view) {
  const box = h("div", { id: "extra" });
  if (view === "time") box.append(workersPanel());
  if (view === "staleness") box.append(lagPanel());
  return box;
}

function workersPanel() {
  const run = state.runs[0];
  const rows = run.workers.map(worker => {
    const idle = Object.entries(worker.metrics).find(([key]) => key.endsWith("/idle_share"));
    return { cells: [shown(worker.worker), shown(worker.state), shown(worker.host), String(worker.pid), idle ? percent(idle[1]) : "-", clock(worker.created_s)] };
  });
  const letters = run.letters ? h("p", { class: "note" }, `${count(run.letters)} dead letters: `, h("a", { href: "#", onclick: showLetters }, "show them")) : null;
  return h("div", { class: "panel" }, h("h3", null, "Workers"), table(["worker", "state", "machine", "#process", "#idle", "newest sign of life"], rows, "no worker has sent a sign of life yet"), letters);
}

async function showLetters(event) {
  event.preventDefault();
  const panel = event.target.closest(".panel"), found = await ask("/api/letters");
  const rows = found.letters.map(letter => ({ cells: [shown(letter.role), shown(`${letter.topic}[${letter.partition}]@${letter.record}`), said(letter.error, 0, "short"), clock(letter.created_s)] }));
  panel.querySelector(".letters")?.remove();
  panel.append(h("div", { class: "letters" }, table(["role", "record", "error", "when"], rows, "none")));
}

function lagPanel() {
  const run = state.runs[0], rows = Object.entries(run.lag).map(([topic, records]) => ({ cells: [shown(topic), topic === "jobs" ? "producers" : "verifiers", count(records)] }));
  return h("div", { class: "panel" }, h("h3", null, "Consumer lag"), h("p", { class: "note" }, "Records of a topic that its consumer group has not finished, now."), table(["topic", "waits for", "#records"], rows, "not known: the broker does not answer"));
}

async function runsView() {
  const found = await ask("/api/runs");
  const times = (value, ratio) => [number(value), ratio !== null && ratio !== 1 ? h("span", { class: "dim" }, ` (${number(ratio, 2)}x)`) : null];
  const rows = found.runs.map(run => ({ cells: [shown(run.run), shown(run.modes.join(", ")), count(run.updates), times(run.ratio_samples, run.ratio_samples_times), times(run.ratio_prompts, run.ratio_prompts_times), percent(run.heldout_before), h("b", null, percent(run.heldout)), percent(run.pool)] }));
  return [h("h2", null, "Runs side by side"), h("p", { class: "note" }, `All at ${count(found.rollouts)} rollouts, the most that every run has spent. The plots of the other views show all of them.`),
    h("div", { class: "panel" }, table(["run", "allocation", "#updates", "#effective samples", "#effective prompts", "#held-out before", "#held-out", "#pool"], rows))];
}

// -- what goes on ---------------------------------------------------------------------------------------------------

async function tick() {
  try {
    const fresh = await ask("/api/state");
    const first = state === null;
    state = fresh;
    showHead();
    const changes = state.runs.reduce((sum, run) => sum + run.changes, 0);
    if (first) await show({ keep: false });
    // Views that a person reads are left alone; the others follow the run.
    else if (!document.hidden && changes !== drawn.changes && WITH_PLOTS.includes(route().view)) await show({ keep: true });
  } catch (error) {
    document.getElementById("progress").textContent = "rucksack watch does not answer";
    document.getElementById("progress").className = "state away";
    if (state === null) main.replaceChildren(h("p", { class: "empty" }, shown(error.message)));
  }
  setTimeout(tick, STATE_EVERY_MS);
}

function toggleTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("rucksack-theme", root.dataset.theme); } catch { /* storage may be forbidden */ }
  if (state) show({ keep: true });
}

function toggleKeys() {
  const dialog = document.getElementById("keys");
  if (dialog.open) { dialog.close(); return; }
  dialog.replaceChildren(h("h3", null, "Keys"), table(["key", "does"], KEYS.map(([key, does]) => ({ cells: [h("kbd", null, key), does] }))), h("p", null, h("button", { type: "button", onclick: () => dialog.close() }, "close")));
  dialog.showModal();
}

function moveRow(by) {
  const rows = [...main.querySelectorAll("tr[data-href]")];
  if (!rows.length) return;
  const at = rows.findIndex(row => row.classList.contains("chosen"));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  rows[at]?.classList.remove("chosen");
  next.classList.add("chosen");
  next.querySelector("a")?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const view = Object.keys(VIEWS)[Number(event.key) - 1];
  if (view) location.hash = "#/" + view;
  else if (event.key === "/") { event.preventDefault(); if (route().view !== "rollouts") location.hash = "#/rollouts"; focusSearch(20); }
  else if (event.key === "j" || event.key === "k") moveRow(event.key === "j" ? 1 : -1);
  else if (event.key === "u") main.querySelector(".note a")?.click();
  else if (event.key === "t") toggleTheme();
  else if (event.key === "?") toggleKeys();
});

function focusSearch(tries) {
  const box = document.getElementById("search");
  if (box) box.focus(); else if (tries) setTimeout(() => focusSearch(tries - 1), 50);
}

main.addEventListener("click", event => {
  const row = event.target.closest("tr[data-href]");
  if (row && !event.target.closest("a, button") && !getSelection().toString()) location.hash = row.dataset.href;
});
window.addEventListener("hashchange", () => { if (state) show({ keep: false }); });
document.getElementById("theme").addEventListener("click", toggleTheme);
document.getElementById("help").addEventListener("click", toggleKeys);
showNav(route().view);
tick();
