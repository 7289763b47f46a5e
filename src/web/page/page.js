"use strict";
// Shows what the server tells. Every text goes in as text: nothing here makes markup of a string.

const BLOCKED = new Set(["refused", "prohibited", "unreachable", "filtered", "cut", "tls-refused", "proxy-denied"]);
const WORKED = new Set(["established", "answered"]);
const RANK = { high: 0, medium: 1, note: 2 };
const STATES = {
  "observed": ["✓", "works", "good"], "blocked": ["✕", "blocked", "high"], "intermittent": ["≈", "at times", "medium"],
  "not-observed": ["○", "not yet", "note"], "not-observable": ["?", "no host yet", "off"], "not-applicable": ["–", "not needed", "off"],
};
const STEP = matchMedia("(max-width: 62rem)").matches ? 10 : 40;
const CURVE_MS = 300000;

const $ = (id) => document.getElementById(id);
const state = fresh();

function fresh() {
  return { about: null, head: null, notices: [], rows: new Map(), lines: new Map(), findings: new Map(), samples: [] };
}

// --- Words ---

// What could steer, hide or turn text is shown as what it is.
const STEERS = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
const shown = (text) => String(text).replace(STEERS, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
const number = (n) => Number(n || 0).toLocaleString("en-US");
const plural = (n, word) => number(n) + " " + word + (n === 1 ? "" : "s");
const words = (text) => text.replaceAll("-", " ");
const moment = (ts) => ts ? ts.slice(0, 10) + " " + ts.slice(11, 19) : "–";
const clock = (ts) => !ts ? "–" : state.head && ts.slice(0, 10) === state.head.now.slice(0, 10) ? ts.slice(11, 19) : ts.slice(5, 10) + " " + ts.slice(11, 16);
const millis = (ts) => Date.parse(ts.slice(0, 23) + "Z");
function scaled(n, unit) {
  for (const prefix of ["", "k", "M", "G"]) {
    if (n < 1000 || prefix === "G") return (n < 10 && prefix ? n.toFixed(1) : Math.round(n).toString()) + " " + prefix + unit;
    n /= 1000;
  }
}
const device = (name) => name === "-" ? "standard input" : name;
const lasting = (s) => s < 60 ? Math.floor(s) + " s" : s < 3600 ? Math.floor(s / 60) + " min" : s < 172800 ? Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min" : Math.floor(s / 86400) + " days";
const sum = (counts, wanted) => Object.entries(counts || {}).reduce((all, [key, n]) => all + (wanted(key) ? n : 0), 0);
const quoted = (word) => /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'";

// --- Nodes ---

function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== "").map((child) => child instanceof Node ? child : document.createTextNode(shown(child))));
  return node;
}
function svg(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
function say(node, text) {
  text = shown(text);
  if (node.textContent !== text) node.textContent = text;
}
function dress(node, className) {
  if (node.className !== className) node.className = className;
}
// Puts nodes into a parent in this order, and moves none that stands right.
function arrange(parent, nodes) {
  let next = parent.firstChild;
  for (const node of nodes) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}
function fact(list, label, ...values) {
  const there = values.filter(Boolean);
  if (!there.length) return;
  const dd = el("dd", "");
  dd.append(...there.map((value) => value instanceof Node ? value : document.createTextNode(shown(value))));
  list.append(el("dt", "", label), dd);
}
const copy = (text) => el("code", "copy", text);

// Where frames can be looked at: in a file, or nowhere where none was written.
function evidence(frames) {
  const by = new Map();
  for (const { capture, frame } of frames) by.set(capture, [...(by.get(capture) || []), frame]);
  const list = el("ul", "");
  for (const [capture, all] of by) {
    const numbers = [...new Set(all)].sort((a, b) => a - b);
    const item = el("li", "", plural(numbers.length, "frame").replace(/^[\d,]+ /, "") + " " + numbers.join(", ") + " of " + capture);
    if (capture.startsWith("live:")) item.append(el("span", "soft", " (not kept: --save with --out keeps frames)"));
    else item.append(copy("tshark -r " + quoted(capture) + " -Y 'frame.number in {" + numbers.join(", ") + "}'"));
    list.append(item);
  }
  return by.size ? list : null;
}

function party(of) {
  const who = [(of.roles || []).join(" + "), of.name, of.ip].filter(Boolean).join(" · ");
  return who + (of.port ? " " + (of.proto || "").toUpperCase() + " " + of.port : "");
}

function linkTo(id, text, open) {
  const link = el("a", "", text);
  link.href = "#" + id;
  link.addEventListener("click", (event) => {
    event.preventDefault();
    open();
  });
  return link;
}

// --- What the server tells ---

const dirty = { rows: new Set(), lines: false, findings: new Set(), notices: false, all: false };
let loading = true;
let drawn = false;

function apply(told) {
  if (told.reset) {
    Object.assign(state, fresh());
    dirty.all = true;
    loading = true;
  }
  if (told.samples) state.samples = told.samples.map((one) => ({ at: millis(one.at), pps: one.frames_per_second, bps: one.bits_per_second, lost: one.lost }));
  if (told.about) state.about = told.about;
  if (told.head) {
    state.head = told.head;
    const at = millis(told.head.now);
    const last = state.samples.at(-1);
    const lost = told.head.stages.kernel_dropped + told.head.stages.interface_dropped;
    if (!last || at - last.at >= 900) state.samples.push({ at, pps: told.head.frames_per_second, bps: told.head.bits_per_second, lost });
    if (state.samples.length > 400) state.samples.splice(0, state.samples.length - 320);
  }
  if (told.notices) { state.notices = told.notices; dirty.notices = true; }
  for (const row of told.rows || []) { state.rows.set(row.place, row); dirty.rows.add(row.place); }
  for (const line of told.lines || []) { state.lines.set(line.place, line); dirty.lines = true; }
  for (const one of told.findings || []) {
    const known = state.findings.get(one.number);
    one.text = (known && known.finding.title === one.finding.title && known.text) || findingText(one);
    if (!known && !loading && one.finding.severity === "high" && one.finding.count > 0) announce(one);
    state.findings.set(one.number, one);
    dirty.findings.add(one.number);
  }
  if (!told.more) loading = false;
  schedule();
}

function findingText(one) {
  const f = one.finding;
  return [f.code, f.title, f.severity, party(f.from), party(f.to), ...f.rules, ...f.outcomes].join(" ").toLowerCase();
}

let announced = [];
let announcing = 0;
function announce(one) {
  announced.push(one.finding.title);
  if (announcing) return;
  announcing = setTimeout(() => {
    announcing = 0;
    say($("told"), plural(announced.length, "new finding") + " of high severity: " + announced[0]);
    announced = [];
  }, 1500);
}

let scheduled = 0;
function schedule() {
  if (!scheduled) scheduled = requestAnimationFrame(draw);
}
function draw() {
  scheduled = 0;
  if (!state.head) return;
  drawHead();
  drawRows();
  drawFindings();
  if (dirty.lines || dirty.all) drawCross();
  if (dirty.notices || dirty.all) drawNotices();
  dirty.rows.clear(); dirty.findings.clear();
  dirty.lines = dirty.notices = dirty.all = false;
  drawn = true;
}

// --- Filter ---

let wanted = [];
const fits = (text) => wanted.every((word) => text.includes(word));

// --- Head ---

const tiles = new Map();
function tile(id, value, label, tone, target) {
  let parts = tiles.get(id);
  if (!parts) {
    const [v, l] = [el("span", "value"), el("span", "label")];
    const a = el("a", "", v, l);
    a.href = "#" + target;
    const node = el("li", "tile", a);
    $("tiles").append(node);
    parts = { node, v, l };
    tiles.set(id, parts);
  }
  dress(parts.node, "tile " + tone);
  say(parts.v, value);
  say(parts.l, label);
}

function drawHead() {
  const { head, about } = state;
  if (about) {
    say($("site"), about.site.name ? "· " + about.site.name : "");
    say($("against"), "held against " + about.rules.filter((pack) => pack.page_date).map((pack) => pack.id + " of " + pack.page_date).join(", "));
    say($("version"), "portproof " + about.version);
  }
  drawLink();
  dress($("warm"), "badge medium" + (head.warm_up ? "" : " off-stage"));
  // What /healthz says of the state at hand; of losses a tile tells.
  const ill = [...(head.stages.refused.length ? ["the disk refuses"] : []), ...(head.interfaces.some((one) => one.away) ? ["a device is away"] : [])];
  dress($("ill"), "badge high" + (ill.length ? "" : " off-stage"));
  say($("ill-says"), ill.join(", "));
  const [began, now] = [millis(head.began), millis(head.now)];
  say($("since"), "since " + moment(head.began) + " · " + lasting((now - began) / 1000) + " · " + head.interfaces.map((one) => device(one.name)).join(", "));
  const found = head.totals.findings;
  const rows = [...state.rows.values()];
  const of = (...states) => rows.filter((row) => states.includes(row.state)).length;
  const lost = head.stages.kernel_dropped + head.stages.interface_dropped;
  const blocked = of("blocked", "intermittent");
  tile("high", number(found.high), "high findings", found.high ? "high" : "good", "findings");
  tile("medium", number(found.medium), "medium findings", found.medium ? "medium" : "good", "findings");
  tile("works", of("observed") + " / " + (rows.length - of("not-applicable")), "rows seen working", "", "matrix");
  tile("blocked", number(blocked), "rows blocked", blocked ? "high" : "good", "matrix");
  tile("flows", number(head.totals.flows), "connections", "", "talk");
  tile("lost", number(lost), "frames lost", lost ? "high" : "good", "losses");
  for (const severity of ["high", "medium", "note"]) say($("n-" + severity), number(found[severity]));
  document.title = (found.high ? "(" + number(found.high) + " high) " : "") + "portproof live";
  say($("pps"), number(Math.round(head.frames_per_second)));
  say($("bps"), scaled(head.bits_per_second, "bit/s"));
  drawCurve($("pps-curve"), now, (one) => one.pps);
  drawCurve($("bps-curve"), now, (one) => one.bps);
  drawLosses();
  drawNames();
}

function drawCurve(into, now, value) {
  const points = state.samples.filter((one) => now - one.at <= CURVE_MS);
  const most = Math.max(1, ...points.map(value));
  const x = (one) => (300 - (now - one.at) / CURVE_MS * 300).toFixed(1);
  const y = (one) => (46 - value(one) / most * 42).toFixed(1);
  const path = points.map((one, at) => (at ? "L" : "M") + x(one) + " " + y(one)).join("");
  into.querySelector(".line").setAttribute("d", path);
  into.querySelector(".area").setAttribute("d", points.length ? path + "L" + x(points.at(-1)) + " 48L" + x(points[0]) + " 48Z" : "");
  const marks = points.filter((one, at) => at && one.lost > points[at - 1].lost).map((one) => "M" + x(one) + " 0V8").join("");
  const group = into.querySelector(".lost");
  if (!group.firstChild) group.append(svg("path", { d: "" }));
  group.firstChild.setAttribute("d", marks);
}

// --- Connection ---

const link = { open: false, last: 0, ended: false };
function drawLink() {
  const node = $("link");
  const silent = Math.floor((Date.now() - link.last) / 1000);
  if (state.head && state.head.ended) { dress(node, "badge note"); say(node, "the run has ended"); }
  else if (!link.open) { dress(node, "badge high"); say(node, link.last ? "connection lost: this is how it was" : "connecting"); }
  else if (silent > 5) { dress(node, "badge medium"); say(node, "silent for " + silent + " s"); }
  else { dress(node, "badge good"); say(node, "live"); }
}

function connect() {
  const source = new EventSource("/events");
  source.addEventListener("open", () => { link.open = true; link.last = Date.now(); drawLink(); });
  source.addEventListener("message", (event) => {
    link.open = true;
    link.last = Date.now();
    apply(JSON.parse(event.data));
    if (state.head && state.head.ended && !loading) source.close();
  });
  source.addEventListener("error", () => {
    link.open = false;
    drawLink();
    // The browser tries again by itself, unless it was refused.
    if (source.readyState === EventSource.CLOSED && !(state.head && state.head.ended)) setTimeout(connect, 5000);
  });
}

// --- Matrix ---

const rowNodes = new Map();

function drawRows() {
  if (dirty.all) {
    rowNodes.clear();
    $("rows").replaceChildren();
  }
  const changed = dirty.all ? [...state.rows.keys()] : [...dirty.rows];
  for (const place of changed) {
    const row = state.rows.get(place);
    let parts = rowNodes.get(place);
    if (!parts) {
      parts = rowNode(row);
      rowNodes.set(place, parts);
    }
    const before = parts.state;
    parts.state = row.state;
    const [symbol, word, tone] = STATES[row.state] || ["?", row.state, "off"];
    dress(parts.badge, "badge " + tone);
    say(parts.badge, symbol + " " + word);
    say(parts.flows, row.flows ? plural(row.flows, "flow") : "");
    say(parts.last, row.last_ts ? clock(row.last_ts) : "");
    dress(parts.node, "row " + row.state);
    if (before && before !== row.state) {
      void parts.node.offsetWidth;
      parts.node.classList.add("lit");
    }
    if (parts.node.open) fillRow(parts, row);
  }
  if (changed.length) filterRows();
}

function rowNode(row) {
  const [badge, flows, last] = [el("span", "badge"), el("span", ""), el("span", "")];
  flows.className = "num";
  const ports = row.proto.toUpperCase() + (row.ports ? " " + row.ports : "");
  const summary = el("summary", "", badge,
    el("span", "what", row.from + " → " + row.to, el("span", "id", row.rule + " · " + ports + " · " + words(row.requirement))),
    el("span", "how", flows, el("br"), last));
  const inside = el("div", "inside");
  const node = el("details", "row", summary, inside);
  node.id = "row-" + row.rule.replace(/[^\w-]/g, "_");
  node.dataset.rule = row.rule;
  const parts = { node, badge, flows, last, inside, state: null };
  node.addEventListener("toggle", () => {
    if (node.open) fillRow(parts, state.rows.get(row.place));
    else inside.replaceChildren();
  });
  parts.text = [row.rule, row.from, row.to, ports, row.page, row.requirement].join(" ").toLowerCase();
  return parts;
}

function fillRow(parts, row) {
  const facts = el("dl", "facts");
  fact(facts, "State", words(row.state) + (row.why ? ": " + row.why : ""));
  fact(facts, "Flows", number(row.flows) + ": " + number(row.worked) + " worked, " + number(row.blocked) + " blocked");
  fact(facts, "Seen", row.first_ts && moment(row.first_ts) + " to " + moment(row.last_ts));
  fact(facts, "Names", row.names.slice(0, 12).join(", ") + (row.names.length > 12 ? " and " + (row.names.length - 12) + " more" : ""));
  fact(facts, "Page", row.page + ", row " + row.row);
  fact(facts, "Same as", row.indistinguishable_from.length && "nothing in a packet tells it from " + row.indistinguishable_from.join(", "));
  fact(facts, "Evidence", evidence(row.evidence));
  const about = [...state.findings.values()].filter((one) => one.finding.count > 0 && one.finding.rules.includes(row.rule)).slice(0, 20);
  const list = el("ul", "");
  for (const one of about) list.append(el("li", "", linkTo("finding-" + one.number, one.finding.code + ": " + one.finding.title, () => openFinding(one.number))));
  fact(facts, "Findings", about.length && list);
  parts.inside.replaceChildren(facts);
}

function filterRows() {
  const only = $("states").value;
  let count = 0;
  const nodes = [];
  for (const place of [...rowNodes.keys()].sort((a, b) => a - b)) {
    const parts = rowNodes.get(place);
    const there = (!only || parts.state === only) && fits(parts.text);
    parts.node.hidden = !there;
    if (there) count += 1;
    nodes.push(parts.node);
  }
  arrange($("rows"), nodes);
  say($("rows-count"), count === nodes.length ? plural(count, "row") : count + " of " + plural(nodes.length, "row"));
}

function openRow(rule) {
  for (const parts of rowNodes.values()) {
    if (parts.node.dataset.rule === rule) {
      parts.node.hidden = false;
      parts.node.open = true;
      parts.node.firstChild.focus();
      parts.node.scrollIntoView({ block: "center" });
    }
  }
}

// --- Findings ---

const cards = new Map();
let limit = STEP;
let order = [];

function matching() {
  const kinds = new Set([...document.querySelectorAll("#findings input[type=checkbox]")].filter((box) => box.checked).map((box) => box.value));
  const all = [];
  for (const one of state.findings.values()) if (kinds.has(one.finding.severity) && fits(one.text)) all.push(one);
  // What was withdrawn comes last; then by severity, if asked for; the newest first. One number each: there may be thousands.
  const severe = $("order").value === "severity";
  for (const one of all) one.rank = ((one.finding.count === 0 ? 8 : 0) + (severe ? RANK[one.finding.severity] : 0)) * 1e9 - one.number;
  return all.sort((a, b) => a.rank - b.rank);
}

// While somebody reads, nothing moves: what is new waits behind a button.
function reading() {
  const feed = $("feed");
  return feed.contains(document.activeElement) || feed.querySelector("details[open]") !== null || feed.getBoundingClientRect().top < -40;
}

function drawFindings(anew) {
  if (dirty.all) {
    cards.clear();
    $("feed").replaceChildren();
    order = [];
  }
  if (!(dirty.all || dirty.findings.size || anew)) return;
  const all = matching();
  const keep = !anew && !loading && order.length > 0 && reading();
  const first = all.slice(0, limit).map((one) => one.number);
  if (keep && !dirty.all) {
    const have = new Set(order);
    const waiting = first.filter((number) => !have.has(number)).length;
    say($("fresh"), number(waiting) + " new");
    dress($("fresh"), waiting ? "" : "off-stage");
  } else {
    order = first;
    dress($("fresh"), "off-stage");
  }
  const there = new Set(order);
  for (const [number, card] of cards) if (!there.has(number)) { card.node.remove(); cards.delete(number); }
  const nodes = order.map((number) => {
    let card = cards.get(number);
    const one = state.findings.get(number);
    if (!card) {
      card = cardNode(one);
      cards.set(number, card);
      fillCard(card, one);
    } else if (dirty.findings.has(number)) fillCard(card, one);
    return card.node;
  });
  arrange($("feed"), nodes);
  const total = state.findings.size;
  const folded = state.head.findings_folded;
  const loaded = loading ? " (loading " + number(total) + " of " + number(state.head.findings) + ")" : "";
  say($("findings-count"), (total === 0 ? "None so far." : number(order.length) + " of " + number(all.length) + (all.length < total ? " that fit, of " + number(total) : "") + " shown") + loaded + (folded ? "; " + number(folded) + " more are only counted" : ""));
  $("more").hidden = all.length <= order.length;
  say($("more"), "Show " + number(Math.min(STEP, all.length - order.length)) + " more");
}

function cardNode(one) {
  const [badge, title, code, count, when] = [el("span", "badge"), el("span", ""), el("span", "code"), el("b", ""), el("span", "")];
  const summary = el("summary", "", badge, el("span", "title", title, code), el("span", "how", count, when));
  const inside = el("div", "inside");
  const node = el("details", "card", summary, inside);
  node.id = "finding-" + one.number;
  const card = { node, badge, title, code, count, when, inside };
  node.addEventListener("toggle", () => {
    if (node.open) fillInside(card, state.findings.get(one.number));
    else inside.replaceChildren();
  });
  return card;
}

function fillCard(card, one) {
  const f = one.finding;
  dress(card.node, "card " + f.severity + (f.count === 0 ? " gone" : ""));
  dress(card.badge, "badge " + f.severity);
  say(card.badge, { high: "▲ high", medium: "◆ medium", note: "note" }[f.severity] || f.severity);
  say(card.title, f.title);
  const how = f.count === 0 ? "withdrawn: later evidence explained it" : one.event === "settled" ? "settled" : one.open ? number(one.open) + " still open" : "";
  say(card.code, [words(f.code), how, one.warm_up ? "warm-up" : ""].filter(Boolean).join(" · "));
  say(card.count, "×" + number(f.count));
  say(card.when, clock(f.last_ts));
  if (card.node.open) fillInside(card, one);
}

function fillInside(card, one) {
  const f = one.finding;
  const facts = el("dl", "facts");
  fact(facts, "From", party(f.from));
  fact(facts, "To", party(f.to));
  fact(facts, "Seen", (f.count === 1 ? "once" : number(f.count) + " times") + (f.first_ts ? ", first " + moment(f.first_ts) : "") + (f.last_ts && f.last_ts !== f.first_ts ? ", last " + moment(f.last_ts) : ""));
  fact(facts, "Ended", f.outcomes.map(words).join(", "));
  const rules = el("span", "");
  f.rules.forEach((rule, at) => rules.append(at ? ", " : "", linkTo("row-" + rule, rule, () => openRow(rule))));
  fact(facts, "Rows", f.rules.length && rules);
  const details = el("ul", "");
  for (const line of f.details) details.append(el("li", "", line));
  fact(facts, "Details", f.details.length && details);
  fact(facts, "Evidence", evidence(f.evidence));
  fact(facts, "Filter", f.display_filter && copy(f.display_filter));
  card.inside.replaceChildren(el("p", "do", f.remedy), facts);
}

function openFinding(number) {
  if (!cards.has(number)) {
    order = [number, ...order.filter((other) => other !== number)];
    const card = cardNode(state.findings.get(number));
    cards.set(number, card);
    fillCard(card, state.findings.get(number));
    $("feed").prepend(card.node);
  }
  const node = cards.get(number).node;
  node.open = true;
  node.firstChild.focus();
  node.scrollIntoView({ block: "center" });
}

// --- From x to ---

let crossKey = "";
const cells = new Map();

function drawCross() {
  const lines = [...state.lines.values()].filter((line) => line.flows > 0 && fits((line.from + " " + line.to).toLowerCase()));
  const weight = new Map();
  for (const line of lines) weight.set("f" + line.from, (weight.get("f" + line.from) || 0) + line.flows);
  // In the order of appearance, so that nothing moves; the busiest where there are too many.
  const places = (field, most) => {
    const first = new Map();
    for (const line of lines.sort((a, b) => a.place - b.place)) if (!first.has(line[field])) first.set(line[field], line.flows);
    return [...first.keys()].slice(0, most);
  };
  const [from, to] = [places("from", 10), places("to", 80)];
  const table = $("cross");
  const key = JSON.stringify([from, to]);
  if (key !== crossKey || dirty.all) {
    crossKey = key;
    cells.clear();
    const head = el("tr", "", el("th", "", "to \\ from"));
    from.forEach((name) => { const th = el("th", "", name); th.scope = "col"; head.append(th); });
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...to.map((name) => {
      const th = el("th", "", name);
      th.scope = "row";
      const tr = el("tr", "", th);
      for (const who of from) {
        const cell = el("td", "");
        cells.set(JSON.stringify([who, name]), cell);
        tr.append(cell);
      }
      return tr;
    }));
    table.hidden = !to.length;
  }
  let hidden = 0;
  const filled = new Set();
  for (const line of lines) {
    const key = JSON.stringify([line.from, line.to]);
    const cell = cells.get(key);
    if (!cell) { hidden += 1; continue; }
    filled.add(key);
    fillCell(cell, line);
  }
  for (const [key, cell] of cells) if (!filled.has(key)) { cell.replaceChildren(); dress(cell, ""); cell.dataset.told = ""; }
  say($("cross-rest"), !lines.length ? "No connections so far." : hidden ? plural(hidden, "further pair") + " not drawn: /audit.json has all that are kept." : "");
}

function fillCell(cell, line) {
  const marks = [
    ["good", "✓", sum(line.outcomes, (key) => WORKED.has(key)), "worked"], ["bad", "✕", sum(line.outcomes, (key) => BLOCKED.has(key)), "blocked"],
    ["doubt", "!", (line.verdicts || {}).undocumented, "not documented"], ["doubt", "?", (line.verdicts || {}).undetermined, "undetermined"],
  ].filter(([, , count]) => count);
  const told = JSON.stringify([line.flows, marks.map((mark) => mark[2])]);
  if (cell.dataset.told === told) return;
  cell.dataset.told = told;
  dress(cell, "heat" + Math.min(5, 1 + Math.floor(Math.log10(line.flows))));
  const mark = el("span", "mark");
  for (const [tone, symbol, count, word] of marks) {
    const part = el("span", tone, " " + symbol + " " + number(count));
    part.title = number(count) + " " + word;
    mark.append(part);
  }
  cell.replaceChildren(number(line.flows), mark);
}

// --- Losses, names, notices ---

function figures(into, lines) {
  while (into.rows.length > lines.length) into.deleteRow(-1);
  lines.forEach((line, at) => {
    const tr = into.rows[at] || into.insertRow();
    line.forEach((value, place) => {
      const td = tr.cells[place] || tr.insertCell();
      if (typeof value === "number") { dress(td, "n"); say(td, number(value)); } else { dress(td, ""); say(td, value); }
    });
    while (tr.cells.length > line.length) tr.deleteCell(-1);
  });
}

function drawLosses() {
  const s = state.head.stages;
  const lost = s.kernel_dropped + s.interface_dropped;
  const gaps = state.head.interfaces.reduce((all, one) => all + one.gaps, 0);
  const away = state.head.interfaces.filter((one) => one.away).map((one) => one.name);
  const share = s.acknowledgements ? s.unseen_acknowledged / s.acknowledgements : 0;
  const told = [];
  if (away.length) told.push("Away, and waited for: " + away.join(", ") + ".");
  if (lost) told.push(plural(lost, "frame") + " of " + number(s.offered) + " lost while capturing (" + (lost / Math.max(1, s.offered) * 100).toFixed(2) + " %): absence proves less.");
  if (gaps) told.push("Devices went away " + plural(gaps, "time") + ": nobody knows what was lost then.");
  if (share > 0.0005) told.push("Of " + number(s.acknowledgements) + " acknowledgements " + number(s.unseen_acknowledged) + " are for data that was not seen: frames are missing that nobody counted.");
  if (s.emergency) told.push("So many conversations are open that they stay open for a shorter time.");
  for (const one of s.refused) told.push(one.path + ": " + one.problem + "; watching goes on.");
  if (s.unsaved) told.push(plural(s.unsaved, "frame") + " could not be saved" + (s.refused.length ? " so far." : "; writing works again."));
  const says = $("loss-says");
  dress(says, "callout" + (told.length ? "" : s.frames ? " good" : " plain"));
  say(says, told.length ? told.join(" ") : s.frames ? "No frame is known to be lost." : "No frame was seen so far.");
  figures($("stages"), [
    ["offered", s.offered, "by the devices, after the kernel's filter"], ["dropped by the kernel", s.kernel_dropped, "its ring was full"],
    ["dropped by devices", s.interface_dropped, "or their drivers"], ["waiting", s.waiting, "between kernel and mapper"],
    ["looked at", s.frames, scaled(s.bytes, "B") + " captured"], ["packets", s.packets, "understood"],
    ...Object.entries(s.skipped).map(([reason, count]) => ["skipped: " + words(reason), count, "gave no packet"]),
    ["copies", s.duplicates, "another device had shown them"], ["conversations open", s.open, "now"],
    ["cut", s.evicted, "the table was full; joined again"], ["cut early", s.hurried, "it was nearly full; joined again"], ["to be judged", s.unlooked, "they changed"], ["not followed live", s.unfollowed + s.forgotten, "the audit has them"],
  ]);
  figures($("devices"), state.head.interfaces.map((one) => [device(one.name) + (one.away ? " (away)" : ""), one.received, one.dropped, one.interface_dropped, one.gaps]));
}

function drawNames() {
  const n = state.head.names;
  figures($("quality"), [
    ["queries", n.queries, ""], ["unanswered", n.unanswered, ""], ["responses", n.responses, ""], ["without a query", n.unmatched, "responses"],
    ["from unlisted resolvers", n.untrusted, n.resolvers_listed ? "responses" : "the site lists none: every resolver counts"],
    ["contested", n.contested, "several answers that differ"], ["shared addresses", n.shared_addresses, "flows with several names"],
    ["named late", n.late, "flows"], ["named past expiry", n.expired, "flows"], ["encrypted hellos", n.encrypted_hellos, "flows"],
    ...Object.entries(n.grades).map(([grade, count]) => ["destination known by " + (grade === "none" ? "nothing" : words(grade)), count, "flows"]),
  ]);
  arrange($("encrypted"), n.encrypted_dns.map((one) => el("li", "", one.host + " asks " + one.resolver + " by " + words(one.kind) + " (" + plural(one.flows, "flow") + "): what it is told is in no capture")));
}

const NOTICES = {
  "began": (n) => "The run began on " + n.interfaces.map(device).join(", ") + ".",
  "gone": (n) => device(n.interface) + ": gone, and waited for: " + n.problem,
  "back": (n) => device(n.interface) + ": back.",
  "ended": (n) => device(n.interface) + ": gives no frames any more: " + n.problem,
  "loss": (n) => device(n.interface) + ": lost " + plural(n.kernel_dropped + n.interface_dropped, "frame") + ".",
  "segment": (n) => "Segment " + n.number + " is written: " + plural(n.frames, "frame") + ", digest " + n.digest.slice(0, 16) + "…",
  "gap": (n) => "An earlier run " + (n.unexpected ? "ended unexpectedly" : "ended") + (n.recovered ? ", and what it left was recovered" : "") + ": nothing was seen since.",
  "emergency": (n) => number(n.open) + " of " + number(n.capacity) + " conversations are open: they stay open for a shorter time now.",
  "emergency-over": (n) => "Conversations stay open as long as usual again; " + number(n.hurried) + " were cut early meanwhile, " + number(n.evicted) + " since all places were taken.",
  "window-full": (n) => "Window " + n.number + " ends early: its flows and names take " + scaled(n.bytes, "B") + " of " + scaled(n.most, "B") + ".",
  "unsaved": (n) => n.path + ": " + plural(n.frames, "frame") + " could not be written.",
  "late": (n) => n.directory + ": what an earlier run did not audit is audited.",
  "unwritten": (n) => n.path + ": " + n.problem,
  "written": (n) => n.path + ": what could not be written can be again.",
  "reloaded": (n) => n.refused.length ? "Rules and site could not be read again: " + n.refused.join("; ") : "Rules and site were read again.",
  "window": (n) => "Window " + n.number + " was audited: exit code " + n.exit_code + ".",
  "ending": () => "The run ends.",
};
const ALARMS = new Set(["gone", "ended", "loss", "unwritten", "unsaved"]);

function drawNotices() {
  $("notes").replaceChildren(...[...state.notices].reverse().map((notice) => {
    const told = (NOTICES[notice.event] || ((n) => JSON.stringify(n)))(notice);
    const at = notice.at || notice.until || notice.since;
    return el("li", ALARMS.has(notice.event) || (notice.refused || []).length ? "alarm" : "", at && el("span", "soft num", moment(at) + "  "), told);
  }));
}

// --- Controls ---

function refilter() {
  wanted = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  limit = STEP;
  if (!drawn) return;
  filterRows();
  drawFindings(true);
  drawCross();
}
let typing = 0;
$("filter").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(refilter, 120); });
for (const control of document.querySelectorAll("#findings input[type=checkbox], #order")) control.addEventListener("change", () => drawn && drawFindings(true));
$("states").addEventListener("change", filterRows);
$("more").addEventListener("click", () => { limit = order.length + STEP; drawFindings(true); });
$("fresh").addEventListener("click", () => {
  for (const open of $("feed").querySelectorAll("details[open]")) open.open = false;
  drawFindings(true);
  $("findings").scrollIntoView();
});
setInterval(() => { if (state.head || link.last) drawLink(); }, 1000);
// The token is a cookie from now on: no need to show it, or to keep it in the history.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
connect();
