// Makes elements. Text goes in as text nodes only: nothing that a model, a prompt or an error wrote is ever parsed as HTML.

const SELDOM = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]|\p{M}{5,}/gu;

/** An element; strings among its children become text. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

/** Untrusted text as nodes: what cannot be seen, or turns the direction of text, is shown by its number, piles of marks by theirs. */
export function shown(text) {
  const nodes = [];
  let last = 0;
  for (const match of text.matchAll(SELDOM)) {
    if (match[0] === "\n" || match[0] === "\t") continue;
    if (match.index > last) nodes.push(text.slice(last, match.index));
    const marks = [...match[0]].length, code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    nodes.push(h("span", { class: "control" }, marks > 1 ? `${marks} marks` : "U+" + code));
    last = match.index + match[0].length;
  }
  if (last < text.length) nodes.push(text.slice(last));
  return nodes;
}

/** A box of untrusted text. */
export function said(text, more = 0, kind = "") {
  return h("pre", { class: "said " + kind, dir: "auto" }, shown(text), more > 0 ? h("span", { class: "dim" }, ` ... ${count(more)} more characters`) : null);
}

export function count(value) { return value === null || value === undefined ? "-" : Math.round(value).toLocaleString("en"); }
export function number(value, digits = 3) { return value === null || value === undefined ? "-" : value.toFixed(digits); }
export function percent(value) { return value === null || value === undefined ? "-" : (100 * value).toFixed(1) + " %"; }
export function clock(seconds) { return seconds > 0 ? new Date(1000 * seconds).toISOString().slice(0, 19).replace("T", " ") + " UTC" : "-"; }

/** A table; a head that begins with # is of numbers. */
export function table(heads, rows, empty = "no data yet") {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const kind = heads.map(head => head.startsWith("#") ? "number" : "");
  const line = rows.map(row => h("tr", row.properties, row.cells.map((cell, i) => h("td", { class: kind[i] }, cell))));
  const head = h("tr", null, heads.map((text, i) => h("th", { class: kind[i], scope: "col" }, text.replace("#", ""))));
  return h("div", { class: "scroll" }, h("table", null, h("thead", null, head), h("tbody", null, line)));
}

/** The answer to a question; an Error in plain words if there is none. */
export async function ask(path, query = {}) {
  const url = new URL(path, location.origin);
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
  let response;
  try { response = await fetch(url); } catch { throw new Error("rucksack watch does not answer: was it stopped? This page goes on by itself once it is back."); }
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) throw new Error(answer?.error || `rucksack watch answered ${response.status}`);
  return answer;
}
