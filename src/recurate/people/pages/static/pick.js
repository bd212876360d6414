// One person's page: it shows the next slate, sends each answer once, and loads the following one.
"use strict";
const $ = (id) => document.getElementById(id);
const meta = (name) => document.querySelector(`meta[name=${name}]`).content;
const offered = new Set(meta("outcomes").split(","));
const SVG = "http://www.w3.org/2000/svg";
let slate = null; // what is shown
let mode = "pick"; // pick, tie, ranking or extremes
let chosen = []; // places, in the order chosen; of extremes the best and the worst, each null at first
let latest = null; // the place that was put somewhere last
let busy = false;
let key = "";
let look = 0; // the timer that looks for the next round

async function ask(path, body) {
  $("candidates").setAttribute("aria-busy", "true");
  try {
    return await asked(path, body);
  } finally {
    $("candidates").removeAttribute("aria-busy");
  }
}

async function asked(path, body) {
  const how = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  how.headers = { "Content-Type": "application/json", "X-Token": meta("token") };
  const answer = await fetch(path, how);
  const said = await answer.json().catch(() => ({ detail: "The server gave no answer." }));
  if (!answer.ok) throw Object.assign(new Error(said.detail), { status: answer.status });
  return said;
}

function say(words) {
  $("message").textContent = words || "";
  $("message").hidden = !words;
}

const pause = (seconds) => new Promise((later) => setTimeout(later, 1000 * seconds));

// Ask until there is an answer: the server may be started again, or the network away for a while.
async function insist(path, body) {
  for (let wait = 0.5; ; wait = Math.min(2 * wait, 5)) {
    try {
      return await ask(path, body);
    } catch (error) {
      if (![undefined, 502, 503, 504].includes(error.status)) throw error;
      say("No answer from the server; trying again. Nothing is lost.");
      await pause(wait);
    }
  }
}

// What the server made of Markdown, without HTML: its only styles align cells, and the page's policy forbids styles.
function markdown(html) {
  const made = document.createElement("template");
  made.innerHTML = html.replace(/<(t[dh]) style="text-align:(left|center|right)">/g, '<$1 class="$2">');
  return made.content;
}

function show(state) {
  slate = state.slate;
  say("");
  clearTimeout(look);
  if (state.more) look = setTimeout(goOn, 3000);
  begun(home());
  $("told").textContent = "";
  key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  const { done, total } = state.progress;
  $("progress").max = Math.max(total, 1);
  $("progress").value = total || state.more ? done : 1;
  const words = `${done} of ${total}` + (total ? ` (${Math.floor((100 * done) / total)} %)` : "");
  if ($("count").textContent !== words) $("count").textContent = words; // it is read aloud only if it changes
  $("undo").disabled = done === 0;
  $("comment").value = "";
  $("reason").value = "";
  $("done").hidden = slate !== null || Boolean(state.more);
  $("coded").hidden = !state.code;
  $("thanks").textContent = state.code ? "Thank you" : "No question";
  $("none").textContent = state.none || "";
  $("waiting").hidden = slate !== null || !state.more;
  for (const id of ["question", "candidates", "commenting"]) $(id).hidden = slate === null;
  $("instructions").hidden = slate === null || !$("guide").textContent.trim();
  $("tie").hidden = slate === null || !offered.has("tie") || slate.candidates.length < 2;
  $("bad").hidden = slate === null || !offered.has("bad");
  $("rank").hidden = slate === null || !offered.has("ranking") || home() === "ranking";
  $("extremes").hidden = slate === null || !offered.has("extremes") || slate.candidates.length < 3 || home() === "extremes";
  $("skipping").hidden = slate === null || !offered.has("skip");
  $("prompt").hidden = slate === null || !slate.prompt;
  $("prompt").replaceChildren(markdown(slate ? slate.prompt : ""));
  $("candidates").replaceChildren(...(slate ? slate.candidates.map(card) : []));
  $("code").textContent = state.code || "";
  mark();
}

// Begin a slate: from its top, and where the keyboard and a screen reader go on.
function begin() {
  if (slate === null) return $("thanks").focus();
  const top = slate.prompt ? $("prompt") : $("question");
  if (top.getBoundingClientRect().top < 0) top.scrollIntoView();
  $("candidates").focus({ preventScroll: true });
}

function card(candidate, place) {
  const box = document.createElement("div");
  box.className = "candidate";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Candidate ${place + 1}`);
  const grip = document.createElement("div");
  grip.className = "grip";
  grip.setAttribute("aria-hidden", "true"); // for pointers; the buttons and keys do the same
  grip.textContent = `Candidate ${place + 1}`;
  draggable(grip, dragged(place));
  const body = document.createElement("div");
  body.className = "body";
  body.append(...content(candidate, place));
  // Words of texts are marked, and fingers scroll: these have the grip alone.
  if (candidate.form !== "text") draggable(body, dragged(place, (event) => event.pointerType === "mouse"));
  body.addEventListener("click", (event) => {
    const read = window.getSelection(); // who marks words to read or copy them does not pick
    if (read.isCollapsed || !body.contains(read.anchorNode)) clicked(event, place);
  });
  const foot = document.createElement("div");
  foot.className = "foot";
  const pick = document.createElement("button");
  pick.type = "button";
  pick.className = "pick";
  pick.textContent = `Pick ${place + 1}`;
  pick.addEventListener("click", (event) => (mode === "extremes" ? put(place, chosen[0] === place ? null : 0) : clicked(event, place)));
  const worst = action("", "", () => put(place, chosen[1] === place ? null : 1));
  worst.className = "worst";
  worst.removeAttribute("aria-label");
  foot.append(pick, worst);
  if (candidate.form === "image") foot.append(action("Zoom", `Zoom candidate ${place + 1}`, () => zoom(candidate.url, place)));
  box.append(grip, body, foot);
  if (candidate.form === "text") requestAnimationFrame(() => fold(body, foot, place));
  return box;
}

function action(words, label, done) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", done);
  return button;
}

function content(candidate, place) {
  if (candidate.form === "text") {
    const text = document.createElement("div");
    text.append(markdown(candidate.html));
    return [text];
  }
  if (candidate.form === "image") {
    const image = document.createElement("img");
    image.alt = `Candidate ${place + 1}`;
    image.draggable = false; // the page drags it itself
    image.addEventListener("load", () => small(image));
    image.src = candidate.url;
    return [image];
  }
  return [points(candidate.points, place)];
}

function points(own, place) {
  const all = slate.candidates.flatMap((c) => c.points || []).concat([[0, 0]]);
  const ends = [0, 1].map((axis) => [Math.min(...all.map((p) => p[axis])), Math.max(...all.map((p) => p[axis]))]);
  const size = Math.max(ends[0][1] - ends[0][0], ends[1][1] - ends[1][0], 1e-9) * 1.2;
  const low = ends.map(([a, b]) => (a + b) / 2 - size / 2);
  const at = (p) => [(100 * (p[0] - low[0])) / size, 100 - (100 * (p[1] - low[1])) / size];
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 100 100");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `Candidate ${place + 1}: ${own.map((p) => `(${p.map((x) => x.toPrecision(3)).join(", ")})`).join(" ")}`);
  const line = (x1, y1, x2, y2) => {
    const axis = document.createElementNS(SVG, "line");
    for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) axis.setAttribute(name, value);
    axis.setAttribute("stroke", "currentColor");
    axis.setAttribute("stroke-opacity", ".4");
    axis.setAttribute("stroke-width", ".4");
    picture.append(axis);
  };
  const [x0, y0] = at([0, 0]);
  line(x0, 0, x0, 100);
  line(0, y0, 100, y0);
  for (const p of own) {
    const dot = document.createElementNS(SVG, "circle");
    const [x, y] = at(p);
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    dot.setAttribute("r", 2.5);
    dot.setAttribute("fill", "currentColor");
    picture.append(dot);
  }
  return picture;
}

function fold(body, foot, place) {
  if (body.firstElementChild.offsetHeight < 400) return; // its own height, not that of its row
  body.classList.add("folded");
  const more = action("Show all", "", () => {
    name(body.classList.toggle("folded"));
    if (body.classList.contains("folded")) foot.scrollIntoView({ block: "nearest" });
  });
  const name = (folded) => {
    more.textContent = folded ? "Show all" : "Show less";
    more.setAttribute("aria-label", `${more.textContent} of candidate ${place + 1}`);
    more.setAttribute("aria-expanded", String(!folded));
  };
  name(true);
  foot.append(more);
}

const small = (image) => image.classList.toggle("small", image.naturalWidth < 200 && image.naturalHeight < 200);

function zoom(url, place) {
  $("large").src = url;
  $("large").alt = `Candidate ${place + 1}, enlarged`;
  $("zoom").showModal(); // Escape closes it, and the focus returns
}

function mark() {
  document.querySelectorAll(".candidate").forEach((box, place) => {
    const rank = chosen.indexOf(place);
    box.toggleAttribute("data-chosen", rank >= 0);
    const words = { pick: "Pick", tie: rank >= 0 ? "Tied:" : "Tie", ranking: rank >= 0 ? `Rank ${rank + 1}:` : "Next:", extremes: "Best:" };
    const [button, worst] = box.querySelectorAll(".pick, .worst");
    button.textContent = `${words[mode]} ${place + 1}`;
    worst.textContent = `Worst: ${place + 1}`;
    worst.hidden = mode !== "extremes";
    worst.setAttribute("aria-pressed", String(rank === 1));
    if (mode === "pick") button.removeAttribute("aria-pressed");
    else button.setAttribute("aria-pressed", String(mode === "extremes" ? rank === 0 : rank >= 0));
    box.toggleAttribute("data-worst", mode === "extremes" && rank === 1);
  });
  $("tie").setAttribute("aria-pressed", String(mode === "tie"));
  $("rank").setAttribute("aria-pressed", String(mode === "ranking"));
  $("extremes").setAttribute("aria-pressed", String(mode === "extremes"));
  const least = { pick: Infinity, tie: 2, ranking: 1, extremes: 2 };
  $("send").hidden = slate === null || chosen.filter((p) => p !== null).length < least[mode];
  tray();
}

// --- an order: a ranking, or the best and the worst -------------------------------------------------

const ordering = () => slate !== null && (mode === "ranking" || mode === "extremes");
const slotsOf = () => (mode === "ranking" ? slate.candidates.length : 2);

// The places of the order, which candidates are dragged into, and those that are in it.
function tray() {
  $("tray").hidden = !ordering();
  $("candidates").toggleAttribute("data-ordered", ordering());
  if (!ordering()) return;
  const ranks = mode === "ranking";
  $("tray-title").textContent = ranks ? "Your order, the best first" : "The best and the worst";
  $("tray-how").textContent = ranks
    ? "Drag candidates here, or choose them one after the other. You may stop before the last."
    : chosen[0] === null ? "Choose the best, then the worst, or drag them here." : chosen[1] === null ? "Now choose the worst." : "Both are chosen.";
  $("slots").replaceChildren(...Array.from({ length: slotsOf() }, (_, at) => slot(at)));
}

function slot(at) {
  const made = document.createElement("li");
  const number = document.createElement("span");
  number.className = "number";
  number.textContent = mode === "ranking" ? at + 1 : ["Best", "Worst"][at];
  made.append(number);
  if (chosen[at] !== undefined && chosen[at] !== null) made.append(chip(chosen[at], at));
  return made;
}

function chip(place, at) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "chip";
  made.dataset.place = place;
  made.setAttribute("aria-describedby", "tray-keys");
  made.append(unseen("Candidate "), String(place + 1), " ", preview(place), unseen(`, ${where(at)}`));
  made.addEventListener("click", () => put(place, null));
  draggable(made, dragged(place));
  return made;
}

function unseen(words) {
  const made = document.createElement("span");
  made.className = "unseen";
  made.textContent = words;
  return made;
}

// A candidate in small: its first words, or its picture.
function preview(place) {
  const body = $("candidates").children[place].querySelector(".body");
  const made = document.createElement("span");
  made.className = "preview";
  made.setAttribute("aria-hidden", "true");
  const picture = body.querySelector(":scope > img, :scope > svg");
  if (picture) made.append(picture.cloneNode(true));
  else made.textContent = body.textContent.trim().slice(0, 60);
  return made;
}

const where = (at) => (mode === "ranking" ? `place ${at + 1} of ${slotsOf()}` : ["the best", "the worst"][at]);

// Put a candidate somewhere in the order; null takes it out.
function put(place, at) {
  if (!ordering() || busy) return;
  const from = chosen.indexOf(place);
  if (mode === "ranking") {
    const others = chosen.filter((p) => p !== place);
    chosen = at === null ? others : [...others.slice(0, at), place, ...others.slice(at)];
  } else {
    const next = [...chosen];
    if (from >= 0) next[from] = at === null ? null : chosen[at]; // they change places
    if (at !== null) next[at] = place;
    chosen = next;
  }
  latest = at === null ? null : place;
  const held = document.activeElement.closest(".chip");
  mark();
  if (held) ($(`slots`).querySelector(`[data-place="${held.dataset.place}"]`) || $("slots").querySelector(".chip") || $("candidates")).focus({ preventScroll: true });
  const now = chosen.indexOf(place);
  $("told").textContent = `Candidate ${place + 1} ` + (now < 0 ? "taken out." : mode === "ranking" ? `moved to ${where(now)}.` : `is ${where(now)}.`);
}

// How a candidate is dragged: into the tray, within it, and out of it.
function dragged(place, also = () => true) {
  let own = null; // the slate that it is of
  const at = (x, y) => (x === undefined || own !== slate || !ordering() ? null : nearest(x, y, chosen.indexOf(place) >= 0));
  const over = (slot) => [...$("slots").children].forEach((one, i) => one.toggleAttribute("data-over", i === slot));
  return {
    may: (event) => ordering() && !busy && also(event),
    label: () => {
      own = slate;
      const made = document.createElement("div");
      made.append(String(place + 1), " ", preview(place));
      return made;
    },
    over: (x, y) => over(at(x, y)),
    drop: (x, y) => {
      const slot = at(x, y);
      over(null);
      if (x === undefined || own !== slate || !ordering()) return;
      if (slot !== null || chosen.includes(place)) put(place, slot);
    },
  };
}

// The place of the order that is nearest, for a pointer that is in the tray; a ranking has no gaps.
function nearest(x, y, within) {
  const box = $("tray").getBoundingClientRect();
  if (x < box.left || x > box.right || y < box.top || y > box.bottom) return null;
  const far = [...$("slots").children].map((one) => {
    const own = one.getBoundingClientRect();
    return Math.hypot(x - (own.left + own.right) / 2, y - (own.top + own.bottom) / 2);
  });
  const slot = far.indexOf(Math.min(...far));
  return mode === "ranking" ? Math.min(slot, chosen.length - (within ? 1 : 0)) : slot;
}

const STEPS = { arrowup: -1, arrowleft: -1, arrowdown: 1, arrowright: 1 };

// Move the candidate that has the focus, or the one that was put last, by a key; whether there was one.
function byKey(pressed, target) {
  if (!ordering() || busy) return false;
  const box = target.closest(".candidate");
  const held = target.closest(".chip");
  const place = held ? Number(held.dataset.place) : box ? [...$("candidates").children].indexOf(box) : target === $("send") ? latest : null;
  const at = place === null ? -1 : chosen.indexOf(place);
  if (at < 0) return false;
  if (pressed === "delete" || pressed === "backspace") {
    put(place, null);
  } else {
    const last = mode === "ranking" ? chosen.length - 1 : 1;
    put(place, Math.min(Math.max(at + STEPS[pressed], 0), last));
  }
  return true;
}

// The second click of a double click would answer the slate that the first one brought.
function clicked(event, place) {
  if (event.detail < 2 || mode !== "pick") choose(place);
}

function choose(place) {
  if (!slate || busy || place >= slate.candidates.length) return;
  if (mode === "pick") return void send("pick", [place]);
  const at = chosen.indexOf(place);
  if (mode === "ranking") return put(place, at < 0 ? chosen.length : null);
  if (mode === "extremes") return put(place, at >= 0 ? null : chosen[0] === null ? 0 : 1);
  chosen = chosen.includes(place) ? chosen.filter((p) => p !== place) : [...chosen, place];
  mark();
}

// How a slate is judged at first.
function home() {
  if (offered.has("pick")) return "pick";
  if (offered.has("ranking")) return "ranking";
  return slate && slate.candidates.length > 2 ? "extremes" : "pick";
}

function begun(wanted) {
  mode = wanted;
  chosen = mode === "extremes" ? [null, null] : [];
  latest = null;
}

function turn(wanted) {
  if (!slate) return;
  begun(mode === wanted ? home() : wanted);
  mark();
}

async function send(outcome, places, reason = "") {
  if (busy || !slate) return;
  busy = true;
  say("");
  if (outcome === "pick") $("candidates").children[places[0]].toggleAttribute("data-chosen", true);
  const answer = { lease: slate.lease, key, outcome, places, reason, comment: $("comment").value };
  try {
    show(await insist("/api/ballots", answer)); // the same key each time: it counts once
    begin();
  } catch (error) {
    if ([404, 409, 410].includes(error.status)) await load();
    else mark();
    say(error.message);
  }
  busy = false;
}

async function load() {
  try {
    show(await insist("/api/next"));
  } catch (error) {
    say(error.message);
  }
}

async function goOn() {
  if (busy) return void (look = setTimeout(goOn, 3000));
  busy = true;
  await load();
  if (slate !== null || !$("done").hidden) begin();
  busy = false;
}

async function undo() {
  if (busy) return;
  busy = true;
  try {
    show(await ask("/api/undo", {}));
    begin();
  } catch (error) { // it is not sent again: it might take back two answers
    if (error.status === undefined) await load();
    else say(error.message);
  }
  busy = false;
}

function skip() {
  if ($("reason").value) return void send("skip", [], $("reason").value);
  say("Choose why you skip it.");
  $("reason").focus();
}

$("tie").addEventListener("click", () => turn("tie"));
$("rank").addEventListener("click", () => turn("ranking"));
$("extremes").addEventListener("click", () => turn("extremes"));
$("bad").addEventListener("click", (event) => event.detail < 2 && send("bad", []));
$("send").addEventListener("click", () => send(mode, chosen));
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", skip);
$("unzoom").addEventListener("click", () => $("zoom").close());
$("large").addEventListener("load", () => small($("large")));
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || $("zoom").open) return;
  if (event.target.closest("input, textarea, select")) return;
  const pressed = event.key.toLowerCase();
  if (/^[1-9]$/.test(pressed)) {
    choose(Number(pressed) - 1);
    if (!$("send").hidden) $("send").focus(); // so that Enter sends, whatever was pressed before
  } else if (pressed === "t" && !$("tie").hidden) turn("tie");
  else if (pressed === "r" && !$("rank").hidden) turn("ranking");
  else if (pressed === "b" && !$("bad").hidden) send("bad", []);
  else if (pressed === "u" && !$("undo").disabled) undo();
  else if (pressed === "w" && !$("extremes").hidden) turn("extremes");
  else if (pressed === "escape" && mode !== home()) turn(mode);
  else if ((pressed in STEPS || pressed === "delete" || pressed === "backspace") && byKey(pressed, event.target)) event.preventDefault();
  else if (pressed === "enter" && !$("send").hidden && !event.target.closest("button, summary")) send(mode, chosen);
});
load();
