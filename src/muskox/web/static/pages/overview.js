// Everything at a glance: figures, throughput, what wants to be looked at, and the queues.

import { get } from "../api.js";
import { chart, lines } from "../chart.js";
import { h } from "../dom.js";
import { duration, number, rate, short } from "../format.js";
import { card, empty, link, tell } from "../parts.js";
import { queueHash } from "../search.js";
import { toggle } from "./verbs.js";

const SPANS = { "5m": "Live", "1h": "1 hour", "24h": "24 hours", "7d": "7 days" };
const EVERY = { "5m": 2, "1h": 15, "24h": 60, "7d": 60 };

export function overview(ctx) {
  let span = "5m";
  let of = "";
  let drawn = null;
  let beat = 0;
  const draw = async () => {
    const asked = { span, queue: of };
    const found = await get(span === "5m" ? "api/chart" : "api/metrics/history", asked);
    if (asked.span !== span || asked.queue !== of) return;
    drawn = found;
    ctx.refresh();
  };
  const tab = ([key, text]) => h("button", { type: "button", "aria-pressed": String(span === key), onclick: () => { span = key; drawn = null; ctx.refresh(); draw().catch(tell); } }, text);
  const choose = (event) => { of = event.target.value; drawn = null; ctx.refresh(); draw().catch(tell); };
  return {
    title: "Overview",
    start: draw,
    figures: () => {
      beat += 1;
      if (beat % EVERY[span] === 0) draw().catch(() => {});
    },
    render: () => {
      const all = ctx.figures;
      return [
        h("div", { class: "head" }, h("h1", { tabindex: "-1" }, "Overview"), all && h("p", { class: "soft" }, all.store)),
        all ? tiles(all) : h("div", { class: "tiles", "aria-busy": "true" }),
        h("div", { class: "two" },
          card(null, { class: "wide" },
            h("header", { class: "bar" }, h("h2", {}, "Throughput"), all && queues(all, of, choose), h("div", { class: "segments", role: "group", "aria-label": "Span" }, Object.entries(SPANS).map(tab))),
            drawn ? chart(drawn) : h("div", { class: "chart waiting" })),
          card("Worth a look", { class: "look" }, all && attention(all))),
        drawn && span !== "5m" && past(drawn, of),
        card("Queues", {}, all && (all.queues.length ? table(ctx, all) : empty("No job was added yet. The first one makes its queue appear here."))),
      ];
    },
  };
}

function queues(all, of, choose) {
  const names = all.queues.map((one) => one.name);
  return h("select", { "aria-label": "Queue", onchange: choose, value: of }, h("option", { value: "", selected: of === "" }, "all queues"), names.map((name) => h("option", { value: name, selected: of === name }, name)));
}

/** What the store remembers of a span: how long jobs took, what waited, and who did how much. */
function past(found, of) {
  return [
    h("div", { class: "even" },
      card("How long it took", {}, lines(found, { wait_p50: "to start, middle", wait_p95: "p95" }), lines(found, { run_p50: "to run, middle", run_p95: "p95" })),
      card("Backlog", {}, lines(found, { waiting: "waiting" }, { say: (value) => short(Math.round(value)), least: 1 }), lines(found, { oldest: "age of the oldest" }))),
    card(of ? `Jobs in ${of}` : "In this span", {}, found.totals.length ? totals(found, of) : empty("Nothing happened in this span.")),
  ];
}

function totals(found, of) {
  const columns = { Added: "added", Completed: "completed", Retried: "retried", Failed: "failed", Stalled: "stalled" };
  const shown = Object.entries(columns).filter(([, name]) => !of || name !== "added");
  const times = { "To start": "wait_p50", "p95 ": "wait_p95", "To run": "run_p50", p95: "run_p95", p99: "run_p99" };
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Totals of the span" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, of ? "Name" : "Queue"), [...shown.map(([label]) => label), ...Object.keys(times)].map((label) => h("th", { scope: "col", class: "num" }, label)))),
    h("tbody", {}, found.totals.map((one) => h("tr", { key: one.queue + one.name },
      h("th", { scope: "row" }, of ? one.name : h("a", { class: "row", href: queueHash(one.queue) }, one.queue)),
      shown.map(([, name]) => h("td", { class: "num" }, one[name] ? h("span", { class: name === "failed" ? "failed" : "" }, number(one[name])) : h("span", { class: "soft" }, "0"))),
      Object.values(times).map((name) => h("td", { class: "num" }, duration(one.times[name], 1))))))));
}

function tiles(all) {
  const tile = (name, value, more, kind = "") => h("div", { class: `tile ${kind}` }, h("dt", {}, name), h("dd", {}, h("b", {}, value), h("small", {}, more)));
  const oldest = Math.max(-1, ...all.queues.map((one) => one.oldest_waiting ?? -1));
  const { wait_p50, wait_p95, run_p50, run_p95 } = all.times;
  return h("dl", { class: "tiles" },
    tile("Waiting", short(all.states.waiting), oldest < 0 ? "none" : `oldest ${duration(oldest, 1)}`, "waiting"),
    tile("Active", short(all.states.active), all.workers ? `${all.running} of ${all.slots} slots` : "no worker", "active"),
    tile("Delayed", short(all.states.delayed), all.states.blocked ? `${short(all.states.blocked)} blocked` : "not yet due", "delayed"),
    tile("Failed", short(all.states.failed), `${rate(all.rates.failed)} now`, all.states.failed ? "failed" : ""),
    tile("Completed", rate(all.rates.completed), `${short(all.states.completed)} kept`, "completed"),
    tile("Time to start", duration(wait_p50, 1), `p95 ${duration(wait_p95, 1)}`),
    tile("Time to run", duration(run_p50, 1), `p95 ${duration(run_p95, 1)}`));
}

function attention(all) {
  if (!all.attention.length) return h("p", { class: "calm" }, "All is well.");
  const where = { failed: "state=failed", held: "state=waiting", paused: "" };
  return h("ul", { class: "attention" }, all.attention.map((one) =>
    h("li", { class: one.kind, key: one.kind + one.queue }, one.queue ? link(queueHash(one.queue, where[one.kind]), one.text) : link("#/workers", one.text))));
}

function table(ctx, all) {
  const cell = (queue, state) => h("td", { class: "num" }, queue.states[state] ? h("a", { class: state, href: queueHash(queue.name, `state=${state}`) }, short(queue.states[state])) : h("span", { class: "soft" }, "0"));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Queues" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Queue", "Waiting", "Active", "Delayed", "Failed", "Completed", "Done", "Oldest", "Workers"].map((name, at) => h("th", { scope: "col", class: at ? "num" : "" }, name)), h("th", { scope: "col" }, h("span", { class: "unseen" }, "Actions")))),
    h("tbody", {}, all.queues.map((queue) => h("tr", { key: queue.name },
      h("th", { scope: "row" }, h("a", { class: "row", href: queueHash(queue.name) }, queue.name), queue.paused && h("span", { class: "pill delayed" }, "paused")),
      ["waiting", "active", "delayed", "failed", "completed"].map((state) => cell(queue, state)),
      h("td", { class: "num" }, rate(queue.rates.completed)),
      h("td", { class: "num" }, duration(queue.oldest_waiting)),
      h("td", { class: "num" }, queue.workers || h("span", { class: queue.states.waiting ? "failed" : "soft" }, "none")),
      h("td", { class: "num" }, ctx.may("operate") && toggle(ctx, queue, "tiny")))))));
}
