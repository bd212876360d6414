// The owner's page: what the server says, in tables, every few seconds.
"use strict";
const $ = (id) => document.getElementById(id);
const token = document.querySelector("meta[name=token]").content;

async function ask(path, body) {
  const how = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  how.headers = { "Content-Type": "application/json", "X-Token": token };
  const answer = await fetch(path, how).catch(() => {
    throw new Error("No answer from the server; this page tries again every few seconds.");
  });
  const said = await answer.json().catch(() => ({ detail: "The server gave no answer." }));
  if (!answer.ok) throw new Error(said.detail);
  return said;
}

function unseen(words) {
  const made = document.createElement("span");
  made.className = "unseen";
  made.textContent = words;
  return made;
}

function say(words) {
  $("message").textContent = words;
  $("message").hidden = !words;
}

// Fill a part of the page if what it shows has changed: the focus and marked words stay where they are.
const shown = {};
function fill(id, found, made) {
  const now = JSON.stringify(found);
  if (shown[id] === now) return;
  shown[id] = now;
  const label = $(id).contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  $(id).replaceChildren(...made());
  if (label) [...$(id).querySelectorAll("button")].find((b) => b.getAttribute("aria-label") === label)?.focus();
}

function table(heads, rows) {
  const made = document.createElement("table");
  const top = made.createTHead().insertRow();
  for (const head of heads) {
    const cell = document.createElement("th");
    cell.scope = "col";
    if (head.startsWith("(")) cell.append(unseen(head.slice(1, -1))); // of a column of buttons
    else cell.textContent = head;
    top.append(cell);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const value of row) {
      const cell = line.insertCell();
      if (value instanceof Node) cell.append(value);
      else cell.textContent = value ?? "";
    }
  }
  return made;
}

function button(words, label, done) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = words;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", done);
  return made;
}

const share = (s, words) => (s ? `${words}: ${(100 * s.share).toFixed(0)} % (95 % interval ${(100 * s.low).toFixed(0)} to ${(100 * s.high).toFixed(0)} %, ${s.pairs} pairs)` : `${words}: none yet`);

function paragraph(words) {
  const made = document.createElement("p");
  made.textContent = words;
  return made;
}

const digits = (x) => String(Number(x.toPrecision(3)));

function rounds(found) {
  const state = (r) => (r.over ? "over" : r.missing ? `${r.missing} missing` : "complete");
  return found.length ? [table(["Round", "Answers", "Wanted", "State"], found.map((r) => [r.round, r.answered, r.wanted, state(r)]))] : [paragraph("No slates yet.")];
}

function fit(found) {
  const own = found.coefficients;
  const rows = (own || []).map((c) => [c.name, digits(c.value), `${digits(c.low)} to ${digits(c.high)}`]);
  const parts = own ? [table(["Reward", "Coefficient", "95 % interval"], rows)] : [];
  const t = found.temperature;
  if (t) parts.push(paragraph(`Temperature: ${digits(t.value)} (95 % interval ${digits(t.low)} to ${t.high === null ? "infinity" : digits(t.high)})`));
  return [...parts, paragraph(found.words), ...groups(found.groups)];
}

// Two groups of people, where they predict better than one.
function groups(found) {
  if (!found) return [];
  const gain = `${digits(found.gain)} nats per pick on people held out, standard error ${digits(found.error)}`;
  if (!found.two) return [paragraph(`Two groups of people do not predict better than one (${gain}).`)];
  const heads = ["Reward", ...found.shares.map((s, z) => `Group ${z + 1}: ${(100 * s).toFixed(0)} % of people`)];
  const rows = found.names.map((name, at) => [name, ...found.coefficients.map((own) => digits(own[at]))]);
  return [paragraph(`Two groups of people predict better than one (${gain}). Their coefficients:`), table(heads, rows)];
}

function agreement(found) {
  const words = ["Two people on one slate pick the same", "A person picks the same again"];
  return [paragraph(share(found.between, words[0])), paragraph(share(found.repeats, words[1]))];
}

function code(words) {
  if (!words) return "";
  const made = document.createElement("code");
  made.textContent = words;
  return made;
}

function people(found) {
  if (!found.length) return [paragraph("Nobody yet.")];
  const remove = (p) => button("Delete", `Delete all data of ${p.name}`, async () => {
    if (window.confirm(`Delete ${p.name} and ${p.answers} answers? This cannot be undone.`)) await act(`/owner/people/${p.id}/remove`);
  });
  const rows = found.map((p) => [p.name, p.worker, code(p.code), p.answers, p.seconds, p.checks, p.doubts.join("; "), remove(p)]);
  const heads = ["Name", "Worker", "Code", "Answers", "Seconds each", "Checks", "Doubts", "(Delete)"];
  const used = heads.map((head, at) => rows.some((row) => !["", null].includes(row[at])));
  return [table(heads.filter((head, at) => used[at]), rows.map((row) => row.filter((cell, at) => used[at])))];
}

function invitations(found) {
  if (!found.length) return [];
  const rows = found.map((i) => {
    const label = i.label || `invitation ${i.id}`;
    const until = i.until ? new Date(1000 * i.until).toLocaleString() : "no end";
    const end = i.revoked ? "revoked" : button("Revoke", `Revoke ${label}`, () => act(`/owner/invitations/${i.id}/revoke`));
    return [label, i.used, i.places ?? "any", until, end];
  });
  return [table(["Label", "Used", "Places", "Until", "(Revoke)"], rows)];
}

const PARTS = { rounds, fit, agreement, people, invitations };

async function refresh() {
  try {
    const found = await ask("/owner/state");
    for (const [id, made] of Object.entries(PARTS)) fill(id, found[id], () => made(found[id]));
    say("");
  } catch (error) {
    say(error.message);
  }
}

async function act(path, body = {}) {
  let made = null;
  let failed = "";
  try {
    made = await ask(path, body);
  } catch (error) {
    failed = error.message;
  }
  await refresh();
  if (failed) say(failed);
  return made;
}

function link(address) {
  const made = document.createElement("a");
  made.href = made.textContent = address;
  const copy = button("Copy", "Copy the link", async () => {
    await navigator.clipboard.writeText(address);
    copy.textContent = "Copied";
  });
  return navigator.clipboard ? [made, " ", copy] : [made];
}

$("invite").addEventListener("submit", async (event) => {
  event.preventDefault();
  const own = new FormData($("invite"));
  const number = (name) => (own.get(name) ? Number(own.get(name)) : null);
  const made = await act("/owner/invitations", { label: own.get("label"), places: number("places"), hours: number("hours") });
  if (made) $("link").replaceChildren("Send this link; it is shown once: ", ...link(location.origin + made.path));
});

$("import").addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = new FormData($("import")).get("file");
  const body = { method: "POST", body: file, headers: { "X-Token": token } };
  const answer = await fetch(`/owner/import/${file.name.split(".").pop().toLowerCase()}`, body).catch(() => null);
  const said = answer && (await answer.json().catch(() => null));
  const words = said ? said.detail : "The server gave no answer.";
  $("imported").textContent = answer && answer.ok ? `${said.picks} picks added.` : `Nothing was added: ${words}`;
  await refresh();
});

async function go() {
  if (!document.hidden) await refresh();
  setTimeout(go, 5000);
}
document.addEventListener("visibilitychange", () => document.hidden || refresh());
go();
