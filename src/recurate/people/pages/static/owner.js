// The owner's page: what the server says, in tables, every few seconds.
"use strict";
const $ = (id) => document.getElementById(id);
const token = document.querySelector("meta[name=token]").content;

async function ask(path, body) {
  const how = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  how.headers = { "Content-Type": "application/json", "X-Token": token };
  const answer = await fetch(path, how);
  const said = await answer.json().catch(() => ({ detail: "The server gave no answer." }));
  if (!answer.ok) throw new Error(said.detail);
  return said;
}

function table(heads, rows) {
  const made = document.createElement("table");
  const top = made.createTHead().insertRow();
  for (const head of heads) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = head;
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

async function refresh() {
  try {
    const found = await ask("/owner/state");
    $("message").hidden = true;
    $("rounds").replaceChildren(
      found.rounds.length
        ? table(["Round", "Answers", "Wanted", ""], found.rounds.map((r) => [r.round, r.answered, r.wanted, r.answered >= r.wanted ? "complete" : `${r.wanted - r.answered} missing`]))
        : paragraph("No slates yet."),
    );
    const own = found.fit.coefficients;
    $("fit").replaceChildren(
      ...(own ? [table(["Reward", "Coefficient", "95 % interval"], own.map((c) => [c.name, c.value.toPrecision(3), `${c.low.toPrecision(3)} to ${c.high.toPrecision(3)}`]))] : []),
      paragraph(found.fit.words),
    );
    $("agreement").replaceChildren(paragraph(share(found.agreement.between, "Two people on one slate pick the same")), paragraph(share(found.agreement.repeats, "A person picks the same again")));
    $("people").replaceChildren(
      table(["Name", "Worker", "Answers", "Seconds each", "Checks", "Doubts", ""], found.people.map((p) => [
        p.name, p.worker, p.answers, p.seconds, p.checks, p.doubts.join("; "),
        button("Delete", `Delete all data of ${p.name}`, async () => {
          if (!window.confirm(`Delete ${p.name} and ${p.answers} answers? This cannot be undone.`)) return;
          await act(`/owner/people/${p.id}/remove`);
        }),
      ])),
    );
    $("invitations").replaceChildren(
      table(["Label", "Used", "Places", "Until", ""], found.invitations.map((i) => [
        i.label || `invitation ${i.id}`, i.used, i.places ?? "any", i.until ? new Date(1000 * i.until).toLocaleString() : "no end",
        i.revoked ? "revoked" : button("Revoke", `Revoke ${i.label || `invitation ${i.id}`}`, () => act(`/owner/invitations/${i.id}/revoke`)),
      ])),
    );
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
  }
}

async function act(path) {
  try {
    await ask(path, {});
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
  }
  await refresh();
}

$("invite").addEventListener("submit", async (event) => {
  event.preventDefault();
  const own = new FormData($("invite"));
  const number = (name) => (own.get(name) ? Number(own.get(name)) : null);
  try {
    const made = await ask("/owner/invitations", { label: own.get("label"), places: number("places"), hours: number("hours") });
    $("link").textContent = `Send this link; it is shown once: ${location.origin}${made.path}`;
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
  }
  await refresh();
});
refresh();
setInterval(refresh, 5000);
