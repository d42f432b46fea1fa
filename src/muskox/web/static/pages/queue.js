// One queue: its figures as tabs, its jobs with filters, selection and what can be done with many at once.

import { get, queuePath } from "../api.js";
import { chart } from "../chart.js";
import { h } from "../dom.js";
import { duration, number, plural, rate, short, shortId } from "../format.js";
import { STATES, button, empty, hidden, pill, progress, when } from "../parts.js";
import { jobHash, queueHash } from "../search.js";
import { keysLink, limitsOf } from "./limits.js";
import { ALLOWED, addJob, drain, many, toggle } from "./verbs.js";

const VERBS = [
  ["retry", "Retry", "They get one more attempt each."],
  ["promote", "Run now", "They wait now, whatever their due moment."],
  ["cancel", "Cancel", "They end as cancelled; runs are told to stop."],
  ["remove", "Remove", "They are deleted with their logs."],
];

export function queue(ctx, name, said) {
  const filter = { state: said.get("state") ?? "", name: said.get("name") ?? "", text: said.get("text") ?? "" };
  const chosen = new Map();
  let jobs = [];
  let cursor = null;
  let looked = 0;
  let pages = 0;
  let busy = false;
  let seen = "";
  let drawn = null;
  let beat = 0;

  const limits = limitsOf(ctx, name);
  const line = () => ctx.figures?.queues.find((one) => one.name === name);
  const load = async (after = null) => {
    if (busy) return;
    busy = true;
    try {
      const page = await get(`${queuePath(name)}/jobs`, { ...filter, after, limit: 50 });
      jobs = after ? [...jobs, ...page.jobs] : page.jobs;
      looked = after ? looked + page.looked_at : page.looked_at;
      pages = after ? pages + 1 : 1;
      cursor = page.cursor;
      for (const id of [...chosen.keys()]) if (!jobs.some((job) => job.id === id)) chosen.delete(id);
    } finally {
      busy = false;
    }
    ctx.refresh();
  };
  const narrow = (changes) => {
    const next = new URLSearchParams(Object.entries({ ...filter, ...changes }).filter(([, value]) => value));
    ctx.go(queueHash(name, String(next)));
  };
  const draw = async () => {
    drawn = await get("api/chart", { span: "5m", queue: name });
    ctx.refresh();
  };
  const view = { filter, chosen, load, narrow, name };

  return {
    title: name,
    key: `queue ${name}`,
    start: async () => {
      await Promise.all([load(), draw(), limits.load()]);
      const tab = document.querySelector(".tabs [aria-current]");
      if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - 60;
    },
    // The first page is read again when the figures moved, and not under the hands of somebody who selects.
    figures: () => {
      beat += 1;
      if (beat % 2 === 0) draw().catch(() => {});
      limits.again().catch(() => {});
      const now = JSON.stringify([line()?.states, line()?.paused]);
      const moving = filter.state === "active" || !filter.state;
      if ((now !== seen || moving) && pages === 1 && !chosen.size && !filter.text) load().catch(() => {});
      seen = now;
    },
    render: () => [
      heading(ctx, name, line(), limits),
      limits.card(),
      h("div", { class: "card slim" }, drawn && chart(drawn)),
      tabs(filter, name, line()),
      h("div", { class: "card jobs" },
        filters(view, line()),
        actions(ctx, view, line()),
        jobs.length ? table(ctx, view, jobs) : !busy && empty(filter.text ? `Nothing found in ${plural(looked, "job")}.` : "No such jobs."),
        h("footer", { class: "bar" }, filter.text && h("span", { class: "soft" }, `looked at ${plural(looked, "job")}`),
          cursor && button(filter.text ? "Look further" : "Show more", () => load(cursor), { class: "more" }))),
    ],
  };
}

function heading(ctx, name, line, limits) {
  return h("div", { class: "head" },
    h("div", {}, h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Overview"), " / queue"),
      h("h1", { tabindex: "-1" }, name, line?.paused && pill("delayed", "paused")),
      line && h("p", { class: "soft" }, `${rate(line.rates.completed)} done, ${rate(line.rates.failed)} failed · oldest waits ${duration(line.oldest_waiting)} · ${line.workers ? plural(line.workers, "worker") : "no worker"} · `, keysLink(name)),
      line?.held > 0 && h("p", { class: "wrong" }, `${plural(line.held, "job waits", "jobs wait")} with a name that no live worker can run.`)),
    h("div", { class: "actions" },
      line && ctx.may("operate") && [toggle(ctx, line), button("Add a job", () => addJob(ctx, name, line.names.map((one) => one.name))), limits.buttons()],
      ctx.may("admin") && button("Drain…", () => drain(ctx, name), { class: "danger" })));
}

function tabs(filter, name, line) {
  const rest = (state) => String(new URLSearchParams(Object.entries({ state, name: filter.name, text: filter.text }).filter(([, value]) => value)));
  const figure = (state) => (filter.name ? line?.names.find((one) => one.name === filter.name)?.states : line?.states)?.[state] ?? 0;
  const tab = (state, text, count) => h("a", { href: queueHash(name, rest(state)), class: state, "aria-current": filter.state === state ? "true" : null }, text, h("b", {}, short(count)));
  const shown = STATES.filter((state) => state !== "blocked" || figure(state));
  return h("nav", { class: "tabs", "aria-label": "States" }, tab("", "all", STATES.reduce((sum, state) => sum + figure(state), 0)), shown.map((state) => tab(state, state, figure(state))));
}

function filters({ filter, narrow }, line) {
  const names = line?.names ?? [];
  return h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); narrow({ text: event.target.elements.text.value.trim() }); } },
    h("label", {}, hidden("Name"), h("select", { name: "name", value: filter.name, onchange: (event) => narrow({ name: event.target.value }) },
      h("option", { value: "", selected: !filter.name }, "all names"),
      names.map((one) => h("option", { value: one.name, selected: filter.name === one.name }, one.name)))),
    h("label", { class: "grow" }, hidden("Text in data, result or error"), h("input", { name: "text", type: "search", value: filter.text, placeholder: "Text in id, data, result or error", maxlength: 200 })),
    h("button", {}, "Search"),
    (filter.text || filter.name) && h("button", { type: "button", class: "quiet", onclick: () => narrow({ text: "", name: "" }) }, "Clear"));
}

function actions(ctx, { filter, chosen, load, name }, line) {
  if (!ctx.may("operate")) return null;
  const allowed = VERBS.filter(([verb]) => verb !== "remove" || ctx.may("admin"));
  const fits = (verb, state) => (verb === "remove" ? state !== "active" : (verb === "retry" ? ["failed"] : ALLOWED[verb]).includes(state));
  const run = async (body, words) => {
    if (await many(ctx, name, body, words)) {
      chosen.clear();
      await load();
    }
  };
  if (chosen.size) {
    const states = [...chosen.values()];
    const can = (verb) => states.some((state) => (verb === "remove" ? true : ALLOWED[verb].includes(state)));
    return h("div", { class: "bar chosen", role: "group", "aria-label": "Selected jobs" }, h("b", {}, `${number(chosen.size)} selected`),
      allowed.filter(([verb]) => can(verb)).map(([verb, title, text]) => button(title, () => run({ verb, ids: [...chosen.keys()] }, { verb: title, text }), { class: verb === "remove" ? "danger" : "", "data-key": verb === "retry" ? "r" : null })),
      h("button", { type: "button", class: "quiet", onclick: () => { chosen.clear(); ctx.refresh(); } }, "Select none"));
  }
  if (!filter.state || filter.text) return null;
  const figures = filter.name ? line?.names.find((one) => one.name === filter.name)?.states : line?.states;
  const count = figures?.[filter.state] ?? 0;
  if (!count) return null;
  return h("div", { class: "bar all", role: "group", "aria-label": "All of these jobs" },
    h("span", { class: "soft" }, `All ${number(count)} ${filter.state}${filter.name ? ` ${filter.name}` : ""}:`),
    allowed.filter(([verb]) => fits(verb, filter.state)).map(([verb, title, text]) =>
      button(`${title} all…`, () => run({ verb, state: filter.state, ...(filter.name && { name: filter.name }) }, { verb: title, text }), { class: `tiny ${verb === "remove" ? "danger" : ""}` })));
}

function table(ctx, { chosen }, jobs) {
  const choose = (job) => (event) => {
    if (event.target.checked) chosen.set(job.id, job.state);
    else chosen.delete(job.id);
    ctx.refresh();
  };
  const all = (event) => {
    for (const job of jobs) {
      if (event.target.checked) chosen.set(job.id, job.state);
      else chosen.delete(job.id);
    }
    ctx.refresh();
  };
  const select = ctx.may("operate");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Jobs" }, h("table", { class: "list stacked" },
    h("thead", {}, h("tr", {}, select && h("th", { class: "tick" }, h("input", { type: "checkbox", "aria-label": "Select all that are shown", checked: chosen.size > 0 && chosen.size === jobs.length, onchange: all })),
      ["Job", "State", "Data", "Attempt", "When"].map((title, at) => h("th", { scope: "col", class: at > 2 ? "num" : "" }, title)))),
    h("tbody", {}, jobs.map((job) => h("tr", { key: job.id, class: chosen.has(job.id) ? "on" : "" },
      select && h("td", { class: "tick" }, h("input", { type: "checkbox", "aria-label": `Select ${job.name} ${job.id}`, checked: chosen.has(job.id), onchange: choose(job) })),
      h("td", { class: "job" }, h("a", { class: "row", href: jobHash(job.queue, job.id) }, job.name), job.key && h("small", { class: "soft", title: "key" }, ` ${job.key}`), h("code", { title: job.id }, shortId(job.id))),
      h("td", {}, pill(job.state), job.state === "active" && progress(job.progress)),
      h("td", { class: "preview" }, job.failure && job.state !== "completed" ? h("span", { class: "failed" }, `${job.failure.type || job.failure.kind}: ${job.failure.message}`) : h("code", {}, job.preview)),
      h("td", { class: "num" }, job.attempts ? `${job.attempt} of ${job.attempts}` : job.attempt, job.priority !== 0 && h("small", { class: "soft", title: "priority" }, ` ↑${job.priority}`)),
      h("td", { class: "num" }, moment(job, ctx)))))));
}

function moment(job, ctx) {
  const now = ctx.figures ? new Date(ctx.figures.at) : undefined;
  if (job.ended_at) return when(job.ended_at, now);
  if (job.state === "delayed") return when(job.due_at, now);
  return when(job.started_at ?? job.added_at, now);
}

