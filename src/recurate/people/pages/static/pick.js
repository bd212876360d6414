// One person's page: it shows the next slate, sends each answer once, and loads the following one.
"use strict";
const $ = (id) => document.getElementById(id);
const meta = (name) => document.querySelector(`meta[name=${name}]`).content;
const offered = new Set(meta("outcomes").split(","));
const SVG = "http://www.w3.org/2000/svg";
let slate = null; // what is shown
let mode = "pick"; // pick, tie or ranking
let chosen = []; // places, in the order chosen
let busy = false;
let key = "";

async function ask(path, body) {
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

function show(state, undone) {
  slate = state.slate;
  mode = "pick";
  chosen = [];
  key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  const { done, total } = state.progress;
  $("progress").max = Math.max(total, 1);
  $("progress").value = total ? done : 1;
  $("count").textContent = `${done} of ${total}` + (total ? ` (${Math.floor((100 * done) / total)} %)` : "");
  $("undo").disabled = done === 0 && !undone;
  $("comment").value = "";
  $("reason").value = "";
  $("done").hidden = slate !== null;
  for (const id of ["question", "candidates"]) $(id).hidden = slate === null;
  $("tie").hidden = slate === null || !offered.has("tie") || slate.candidates.length < 2;
  $("bad").hidden = slate === null || !offered.has("bad");
  $("rank").hidden = slate === null || !offered.has("ranking");
  $("skipping").hidden = slate === null || !offered.has("skip");
  $("prompt").hidden = slate === null || !slate.prompt;
  $("prompt").innerHTML = slate ? slate.prompt : ""; // the server made it of Markdown, without HTML
  $("candidates").replaceChildren(...(slate ? slate.candidates.map(card) : []));
  if (slate === null) {
    $("code").textContent = state.code;
    $("thanks").focus();
  }
  mark();
}

function card(candidate, place) {
  const box = document.createElement("div");
  box.className = "candidate";
  const body = document.createElement("div");
  body.className = "body";
  body.append(...content(candidate, place));
  body.addEventListener("click", (event) => {
    if (!event.target.closest("a, button")) choose(place);
  });
  const foot = document.createElement("div");
  foot.className = "foot";
  const pick = document.createElement("button");
  pick.type = "button";
  pick.className = "pick";
  pick.textContent = `Pick ${place + 1}`;
  pick.addEventListener("click", () => choose(place));
  foot.append(pick);
  if (candidate.form === "image") foot.append(action("Zoom", () => zoom(candidate.url, place)));
  box.append(body, foot);
  if (candidate.form === "text") requestAnimationFrame(() => fold(body, foot));
  return box;
}

function action(words, done) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words;
  button.addEventListener("click", done);
  return button;
}

function content(candidate, place) {
  if (candidate.form === "text") {
    const text = document.createElement("div");
    text.innerHTML = candidate.html; // the server made it of Markdown, without HTML
    return [text];
  }
  if (candidate.form === "image") {
    const image = document.createElement("img");
    image.alt = `Candidate ${place + 1}`;
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 200));
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

function fold(body, foot) {
  if (body.scrollHeight < 480) return;
  body.classList.add("folded");
  const more = action("Show all", () => {
    const folded = body.classList.toggle("folded");
    more.textContent = folded ? "Show all" : "Show less";
    more.setAttribute("aria-expanded", String(!folded));
  });
  more.setAttribute("aria-expanded", "false");
  foot.append(more);
}

function zoom(url, place) {
  const before = document.activeElement;
  $("large").src = url;
  $("large").alt = `Candidate ${place + 1}, enlarged`;
  $("zoom").hidden = false;
  $("unzoom").focus();
  $("unzoom").onclick = () => {
    $("zoom").hidden = true;
    before.focus();
  };
}

function mark() {
  document.querySelectorAll(".candidate").forEach((box, place) => {
    const rank = chosen.indexOf(place);
    box.toggleAttribute("data-chosen", rank >= 0);
    const words = { pick: "Pick", tie: rank >= 0 ? "Tied:" : "Tie", ranking: rank >= 0 ? `Rank ${rank + 1}:` : "Next:" };
    const button = box.querySelector(".pick");
    button.textContent = `${words[mode]} ${place + 1}`;
    if (mode === "pick") button.removeAttribute("aria-pressed");
    else button.setAttribute("aria-pressed", String(rank >= 0));
  });
  $("tie").setAttribute("aria-pressed", String(mode === "tie"));
  $("rank").setAttribute("aria-pressed", String(mode === "ranking"));
  $("send").hidden = slate === null || mode === "pick" || chosen.length < (mode === "tie" ? 2 : 1);
}

function choose(place) {
  if (!slate || busy || place >= slate.candidates.length) return;
  if (mode === "pick") return void send("pick", [place]);
  chosen = chosen.includes(place) ? chosen.filter((p) => p !== place) : [...chosen, place];
  mark();
}

function turn(wanted) {
  if (!slate) return;
  mode = mode === wanted ? "pick" : wanted;
  chosen = [];
  mark();
}

async function send(outcome, places, reason = "") {
  if (busy || !slate) return;
  busy = true;
  say("");
  const answer = { lease: slate.lease, key, outcome, places, reason, comment: $("comment").value };
  for (let attempt = 1; ; attempt += 1) {
    try {
      show(await ask("/api/ballots", answer));
      $("candidates").focus({ preventScroll: true });
      break;
    } catch (error) {
      const again = error.status === undefined || error.status === 503; // the same key: it counts once
      if (again && attempt < 8) {
        say("No answer from the server; trying again. Nothing is lost.");
        await new Promise((later) => setTimeout(later, 250 * 2 ** Math.min(attempt, 5)));
        continue;
      }
      if (error.status === 410 || error.status === 404) await load();
      say(error.message);
      break;
    }
  }
  busy = false;
}

async function load() {
  try {
    show(await ask("/api/next"));
  } catch (error) {
    say(error.message);
  }
}

async function undo() {
  if (busy) return;
  busy = true;
  try {
    say("");
    show(await ask("/api/undo", {}), true);
  } catch (error) {
    say(error.message);
  }
  busy = false;
}

$("tie").addEventListener("click", () => turn("tie"));
$("rank").addEventListener("click", () => turn("ranking"));
$("bad").addEventListener("click", () => send("bad", []));
$("send").addEventListener("click", () => send(mode, chosen));
$("undo").addEventListener("click", undo);
$("reason").addEventListener("change", () => $("reason").value && send("skip", [], $("reason").value));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("zoom").hidden) return $("unzoom").click();
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (!$("zoom").hidden) return;
  if (/^[1-9]$/.test(event.key)) choose(Number(event.key) - 1);
  else if (event.key === "t" && !$("tie").hidden) turn("tie");
  else if (event.key === "r" && !$("rank").hidden) turn("ranking");
  else if (event.key === "b" && !$("bad").hidden) send("bad", []);
  else if (event.key === "u" && !$("undo").disabled) undo();
  else if (event.key === "Enter" && !$("send").hidden && !event.target.closest("button")) send(mode, chosen);
});
if (!$("instructions").textContent.replace("Instructions", "").trim()) $("instructions").hidden = true;
load();
