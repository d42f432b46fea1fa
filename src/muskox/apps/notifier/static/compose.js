// The page of campaigns: writes one, shows how it looks while it is written, and follows it as it goes out.

import { fields, send } from "./form.js";

const find = (id) => document.getElementById(id);
const form = find("write");
const frame = find("frame");
const look = { dark: false, plain: false };

const WORDS = {
  scheduled: "Waits for its moment",
  planning: "Looking who is on the list",
  sending: "Going out",
  paused: "Paused",
  finished: "Everybody has been written to",
  cancelled: "Cancelled",
};
const SHOWN = ["queued", "sending", "deferred", "unknown", "sent", "delivered", "bounced", "failed", "complained", "suppressed", "cancelled"];

// --- how it looks: the form is posted into the frame, which may run nothing and load nothing.

function preview() {
  const extra = Object.entries(look).map(([name, on]) => {
    const input = document.createElement("input");
    input.type = "hidden";
    input.name = name;
    input.value = String(on);
    return input;
  });
  form.append(...extra);
  HTMLFormElement.prototype.submit.call(form);
  for (const input of extra) input.remove();
}

let soon = 0;
form.addEventListener("input", () => {
  clearTimeout(soon);
  soon = setTimeout(preview, 250);
});

function press(chosen, among) {
  for (const id of among) find(id).setAttribute("aria-pressed", String(id === chosen));
}

for (const name of ["wide", "phone"]) {
  find(name).addEventListener("click", () => {
    frame.classList.toggle("phone", name === "phone");
    press(name, ["wide", "phone"]);
  });
}
for (const name of ["dark", "plain"]) {
  find(name).addEventListener("click", () => {
    look[name] = !look[name];
    find(name).setAttribute("aria-pressed", String(look[name]));
    preview();
  });
}
preview();

// --- sending it

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { list, headline_text, text, scheduled_for } = fields(form);
  const paragraphs = text.replaceAll("\r\n", "\n").split(/\n\s*\n/).map((one) => one.trim()).filter(Boolean);
  const body = { list, template: "newsletter", context: { headline_text, paragraphs } };
  if (scheduled_for) body.scheduled_for = new Date(scheduled_for).toISOString();
  const campaign = await send(form, "/campaigns", body);
  if (!campaign) return;
  form.reset();
  preview();
  enlist(campaign);
  follow(campaign.id);
});

// --- following one

let followed = "";
let timer = 0;

function follow(id) {
  followed = id;
  find("going").hidden = false;
  find("going").scrollIntoView({ block: "nearest" });
  clearTimeout(timer);
  refresh();
}

async function refresh() {
  const id = followed;
  try {
    const answer = await fetch(`/campaigns/${encodeURIComponent(id)}`);
    if (answer.ok && id === followed) show(await answer.json());
  } catch {
    timer = setTimeout(refresh, 2000);
  }
}

function show(campaign) {
  const { state, planned, counts, reason } = campaign;
  const over = state === "finished" || state === "cancelled";
  find("going-title").textContent = campaign.subject;
  find("state").textContent = WORDS[state] ?? state;
  find("state").dataset.tone = state === "finished" ? "good" : state === "paused" ? "wait" : state === "cancelled" ? "bad" : "";
  find("state").dataset.state = state;
  const bar = find("bar");
  bar.replaceChildren();
  for (const name of SHOWN) {
    if (!counts[name]) continue;
    const piece = document.createElement("span");
    piece.dataset.of = name;
    piece.style.flexGrow = counts[name];
    bar.append(piece);
  }
  const gone = planned - counts.queued - counts.sending - counts.deferred - counts.unknown;
  bar.setAttribute("aria-label", `${gone} of ${planned} done`);
  find("counts").replaceChildren(pair("planned", planned), ...SHOWN.filter((name) => counts[name]).map((name) => pair(name, counts[name])));
  find("why").hidden = !reason;
  find("why").textContent = reason;
  find("pause").hidden = over || state === "paused";
  find("resume").hidden = state !== "paused";
  find("cancel").hidden = over;
  const line = document.querySelector(`[data-id="${campaign.id}"]`);
  if (line) {
    line.querySelector(".count").textContent = state;
    line.querySelector(".who").textContent = `${campaign.list} · ${planned} people`;
  }
  clearTimeout(timer);
  if (!over || gone < planned) timer = setTimeout(refresh, document.hidden ? 5000 : 700);
}

function pair(name, n) {
  const group = document.createElement("div");
  const term = document.createElement("dt");
  const value = document.createElement("dd");
  term.textContent = name;
  value.textContent = n.toLocaleString();
  group.dataset.of = name;
  group.append(term, value);
  return group;
}

for (const verb of ["pause", "resume", "cancel"]) {
  find(verb).addEventListener("click", async () => {
    if (verb === "cancel" && !confirm("Withdraw everything that has not been sent?")) return;
    const answer = await fetch(`/campaigns/${encodeURIComponent(followed)}/${verb}`, { method: "POST" });
    if (answer.ok) show(await answer.json());
  });
}

function enlist(campaign) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `#${campaign.id}`;
  link.dataset.id = campaign.id;
  for (const [name, text] of [["subject", campaign.subject], ["who", campaign.list], ["count", campaign.state]]) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    link.append(part);
  }
  item.append(link);
  find("latest").prepend(item);
  find("none")?.remove();
}

find("latest").addEventListener("click", (event) => {
  const link = event.target.closest("a[data-id]");
  if (!link) return;
  event.preventDefault();
  follow(link.dataset.id);
});
