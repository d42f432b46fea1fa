// The page at "/": registers, asks for resets, and follows a message as the server tells of it.

import { fields, send } from "./form.js";

const find = (id) => document.getElementById(id);

const WORDS = {
  queued: ["Queued", ""],
  sending: ["Sending", "wait"],
  deferred: ["Will be tried again", "wait"],
  ambiguous: ["The server did not say", "wait"],
  sent: ["Sent", "good"],
  delivered: ["Delivered", "good"],
  bounced: ["Refused by the other side", "bad"],
  failed: ["Given up", "bad"],
  suppressed: ["Not sent on purpose", "bad"],
  cancelled: ["Withdrawn", "bad"],
  complained: ["Reported as unwanted", "bad"],
};

const hasInbox = find("journey").dataset.inbox === "yes";
let source = null;

find("register").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const answer = await send(form, "/users", fields(form));
  if (!answer) return;
  find("reset").elements.email.value = answer.email;
  form.reset();
  follow(answer.welcome_message_id, answer.email);
});

find("reset").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const { email } = fields(form);
  const before = await latest(email);
  const answer = await send(form, "/auth/password-reset", { email });
  if (!answer) return;
  const note = find("reset-note");
  note.textContent = "If there is an account with this address, a mail with a link is on its way.";
  note.hidden = false;
  if (hasInbox) await arrive(email, before);
});

find("subscribe").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const { email } = fields(form);
  const before = await latest(email);
  const answer = await send(form, form.getAttribute("action"), { email });
  if (!answer) return;
  const note = find("subscribe-note");
  note.textContent = "If this address is not on the list yet, a mail with a link to confirm is on its way.";
  note.hidden = false;
  if (hasInbox) await arrive(email, before);
});

function follow(id, email) {
  source?.close();
  find("idle").hidden = true;
  find("journey").hidden = false;
  find("open-mail").hidden = true;
  find("events").replaceChildren();
  find("recipient").textContent = email;
  document.querySelector(".watch").scrollIntoView({ block: "nearest" });
  tell("queued");
  source = new EventSource(`/messages/${encodeURIComponent(id)}/events`);
  source.addEventListener("message", (event) => add(JSON.parse(event.data)));
  source.addEventListener("end", () => {
    source.close();
    link(id);
    figures();
  });
}

function add(event) {
  const [word, tone] = tell(event.type);
  const item = document.createElement("li");
  item.dataset.tone = tone;
  item.dataset.type = event.type;
  item.append(part("span", "what", event.attempt > 1 ? `${word}, attempt ${event.attempt}` : word));
  const time = part("time", "", new Date(event.at).toLocaleTimeString([], { timeStyle: "medium" }));
  time.dateTime = event.at;
  item.append(time);
  const why = event.detail?.text ?? event.response;
  if (why) item.append(part("span", "why", why));
  find("events").append(item);
}

function tell(type) {
  const words = WORDS[type] ?? [type, ""];
  find("state").textContent = words[0];
  find("state").dataset.tone = words[1];
  find("state").dataset.state = type;
  return words;
}

function part(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

async function link(id) {
  const answer = await fetch(`/messages/${encodeURIComponent(id)}`);
  if (!answer.ok) return;
  const { links } = await answer.json();
  if (links.inbox) open(links.inbox);
}

function open(path) {
  find("open-mail").href = path;
  find("open-mail").hidden = false;
}

async function latest(email) {
  if (!hasInbox) return "";
  const answer = await fetch(`/dev/inbox/messages?to=${encodeURIComponent(email)}`);
  const { data } = answer.ok ? await answer.json() : { data: [] };
  return data[0]?.id ?? "";
}

async function arrive(email, before) {
  const query = new URLSearchParams({ to: email, after: before, timeout: "15" });
  const answer = await fetch(`/dev/inbox/wait?${query}`);
  if (!answer.ok) return;
  const mail = await answer.json();
  follow(mail.message_id, email);
}

async function figures() {
  try {
    const { queues, delivery_24h: delivery } = await (await fetch("/health/queue")).json();
    const all = Object.values(queues);
    const sum = (name) => all.reduce((total, queue) => total + queue[name], 0);
    const now = {
      waiting: sum("waiting"),
      active: sum("active"),
      delayed: sum("delayed"),
      sent: delivery.sent,
      workers: Math.max(...all.map((queue) => queue.workers)),
    };
    for (const place of document.querySelectorAll("[data-figure]")) place.textContent = now[place.dataset.figure];
  } catch {
    // The figures stay as they were until the service answers again.
  }
}

figures();
setInterval(() => document.hidden || figures(), 3000);
