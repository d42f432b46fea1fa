// Events as they happen, through filters; can be held still for reading.

import { follow } from "../api.js";
import { h } from "../dom.js";
import { full, number } from "../format.js";
import { card, empty, link, pill } from "../parts.js";
import { jobHash, queueHash } from "../search.js";

const MOST = 200;
const KINDS = ["waiting", "delayed", "active", "progress", "completed", "retrying", "failed", "stalled", "released", "cancelled", "removed", "updated", "paused", "resumed", "drained", "held", "error"];
const USUAL = new Set(KINDS.filter((kind) => kind !== "progress" && kind !== "waiting"));
const LOOKS = { completed: "completed", failed: "failed", retrying: "delayed", stalled: "failed", active: "active", cancelled: "cancelled", removed: "cancelled", delayed: "delayed", paused: "delayed", error: "failed", held: "failed", progress: "active" };

export function live(ctx, said) {
  const kinds = new Set(said.get("kinds")?.split(",") ?? USUAL);
  const queue = said.get("queue") ?? "";
  let shown = [];
  let waiting = [];
  let seen = 0;
  let still = false;
  let stop = () => {};
  let turn = 0;

  // Put on the page a few times a second, however many come.
  const flush = () => {
    turn = 0;
    if (still || !waiting.length) return;
    shown = [...waiting.reverse(), ...shown].slice(0, MOST);
    waiting = [];
    ctx.refresh();
  };
  const hear = (event) => {
    seen += 1;
    waiting.push({ ...event, at: event.at ? event.at * 1000 : Date.now() });
    if (waiting.length > MOST) waiting = waiting.slice(-MOST);
    turn ||= setTimeout(flush, 250);
  };
  const narrow = (changes) => {
    const next = { kinds: [...kinds].join(","), queue, ...changes };
    ctx.go(`#/live?${new URLSearchParams(Object.entries(next).filter(([, value]) => value))}`);
  };
  const toggle = (kind) => () => {
    if (kinds.has(kind)) kinds.delete(kind);
    else kinds.add(kind);
    narrow({});
  };
  return {
    title: "Live events",
    start: async () => {
      const asked = new URLSearchParams(queue ? { queue } : {});
      for (const kind of kinds) asked.append("kind", kind);
      stop = follow(`api/events?${asked}`, Object.fromEntries([...KINDS, "gap", "reset"].map((kind) => [kind, hear])));
    },
    stop: () => {
      stop();
      clearTimeout(turn);
    },
    render: () => [
      h("div", { class: "head" }, h("h1", { tabindex: "-1" }, "Live events"), h("p", { class: "soft" }, `${number(seen)} since this page was opened`),
        h("div", { class: "actions" }, h("button", { type: "button", "aria-pressed": String(still), onclick: () => { still = !still; flush(); ctx.refresh(); } }, still ? "Go on" : "Hold still"))),
      card(null, {},
        h("div", { class: "filters" },
          h("label", {}, h("span", { class: "unseen" }, "Queue"), h("select", { value: queue, onchange: (event) => narrow({ queue: event.target.value }) }, h("option", { value: "", selected: !queue }, "all queues"), (ctx.figures?.queues ?? []).map((one) => h("option", { value: one.name, selected: one.name === queue }, one.name)))),
          h("div", { class: "chips", role: "group", "aria-label": "Kinds" }, KINDS.map((kind) => h("button", { type: "button", class: "chip", "aria-pressed": String(kinds.has(kind)), onclick: toggle(kind) }, kind)))),
        shown.length ? h("ol", { class: "feed" }, shown.map(row)) : empty("Nothing happened yet.")),
    ],
  };
}

function row(event) {
  if (event.kind === "gap" || event.kind === "reset") return h("li", { key: `${event.kind} ${event.offset} ${event.at}`, class: "gap" }, event.text);
  const what = event.job ? link(jobHash(event.queue, event.job), event.name || event.job) : h("span", {}, event.name);
  return h("li", { key: event.offset }, h("time", { title: full(event.at) }, new Date(event.at).toLocaleTimeString()), pill(LOOKS[event.kind] ?? "waiting", event.kind), link(queueHash(event.queue), event.queue), what, h("span", { class: "soft" }, event.text));
}
