// One job: what it is, why it is where it is, what it was given and gave, and what happened to it.

import { follow, get, jobPath } from "../api.js";
import { h } from "../dom.js";
import { duration, full, time } from "../format.js";
import { button, card, copy, empty, json, link, note, pill, progress, when } from "../parts.js";
import { flowHash, queueHash } from "../search.js";
import { ALLOWED, act, edit, removeJob } from "./verbs.js";

export function job(ctx, queue, id) {
  let found = null;
  let revealed = false;
  let stop = () => {};
  let again = 0;
  const load = async () => {
    found = await get(jobPath(queue, id), revealed ? { reveal: true } : {});
    ctx.refresh();
  };
  const soon = () => {
    // Secrets are shown once and not again with each event, since each time is recorded.
    if (revealed) return;
    again ||= setTimeout(() => {
      again = 0;
      load().catch(() => {});
    }, 300);
  };
  const reveal = async () => {
    revealed = true;
    await load();
    note("Secrets are shown; that was recorded");
  };
  return {
    title: `Job ${id}`,
    key: `job ${queue} ${id}`,
    start: async () => {
      const kinds = ["waiting", "delayed", "active", "progress", "updated", "completed", "retrying", "failed", "stalled", "released", "cancelled", "removed", "gap", "reset"];
      stop = follow(`api/events?${new URLSearchParams({ queue, job: id })}`, Object.fromEntries(kinds.map((kind) => [kind, soon])));
      await load();
    },
    stop: () => {
      stop();
      clearTimeout(again);
    },
    render: () => (found ? page(ctx, found, load, { revealed, reveal }) : [h("h1", { tabindex: "-1" }, "Job"), h("p", { class: "soft", "aria-busy": "true" }, "…")]),
  };
}

function page(ctx, job, load, secrets) {
  return [
    h("div", { class: "head" },
      h("div", {}, h("p", { class: "crumbs" }, link("#/", "Overview"), " / ", link(queueHash(job.queue), job.queue), " / job"),
        h("h1", { tabindex: "-1" }, job.name, pill(job.state)),
        h("p", { class: "soft id" }, h("code", {}, job.id), copy(job.id))),
      actions(ctx, job, load)),
    h("div", { class: "grid" },
      h("div", { class: "main" },
        why(job), failure(job),
        card(null, {}, h("header", { class: "bar" }, h("h2", {}, "Data"), secretsButton(ctx, job, secrets), copy(job.data_json)), json(job.data_json)),
        job.result_json !== null && card(null, {}, h("header", { class: "bar" }, h("h2", {}, "Result"), copy(job.result_json)), json(job.result_json)),
        Object.keys(job.steps).length > 0 && card("Steps that are done", {}, json(JSON.stringify(job.steps, null, 2))),
        log(job)),
      h("div", { class: "rest" }, facts(job), timeline(job))),
  ];
}

function actions(ctx, job, load) {
  if (!ctx.may("operate")) return null;
  const can = (verb) => ALLOWED[verb].includes(job.state);
  const then = (made) => made && load();
  return h("div", { class: "actions" },
    can("retry") && button("Retry", async () => { await act("retry", job.queue, job.id, "It waits to run again"); await load(); }, { class: "primary", "data-key": "r" }),
    job.state === "failed" && button("Edit and retry…", () => edit(ctx, job, "retry").then(then)),
    can("promote") && button("Run now", async () => { await act("promote", job.queue, job.id, "It waits now"); await load(); }, { class: "primary" }),
    can("edit") && job.state !== "failed" && button("Edit data…", () => edit(ctx, job, "save").then(then)),
    can("cancel") && button("Cancel", async () => { await act("cancel", job.queue, job.id, "Cancelled"); await load(); }),
    job.ended_at && button("Run again as new…", () => edit(ctx, job, "again")),
    ctx.may("admin") && button("Remove…", () => removeJob(ctx, job), { class: "danger" }));
}

function secretsButton(ctx, job, { revealed, reveal }) {
  if (revealed) return h("span", { class: "pill failed" }, "secrets shown");
  return job.masked && ctx.may("admin") ? button("Show secrets", reveal, { class: "tiny" }) : null;
}

function why(job) {
  const ended = ["completed", "failed", "cancelled"].includes(job.state);
  const reasons = job.explanation.reasons;
  return card(ended ? "What became of it" : job.state === "active" ? "Where it is" : "Why it is not running", { class: "why" },
    job.state === "active" && progress(job.progress),
    h("ul", {}, reasons.map((one) => h("li", { class: one.kind }, sentence(one.text), one.at && !ended && h("small", { class: "soft" }, " ", when(one.at, new Date(job.explanation.at)))))));
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function failure(job) {
  if (!job.failure) return null;
  const title = job.state === "failed" ? "Failure" : job.state === "completed" ? "Its result could not be kept" : "The last attempt failed";
  return card(title, { class: "failure" },
    h("p", {}, h("b", {}, job.failure.type || job.failure.kind), job.failure.message && `: ${job.failure.message}`, job.failure.final && " (final)"),
    job.failure.traceback && h("details", { open: job.state === "failed" }, h("summary", {}, "Traceback"), h("pre", { tabindex: "0" }, job.failure.traceback)));
}

function log(job) {
  return card("Log", {}, job.log.length
    ? h("ol", { class: "log", tabindex: "0" }, job.log.map((line) => h("li", { key: line.number }, h("time", { datetime: line.at, title: full(line.at) }, time(line.at)), h("span", {}, line.text))))
    : empty("It wrote nothing."));
}

function facts(job) {
  const fact = (name, value) => value !== null && value !== undefined && value !== "" && h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const ran = job.started_at && job.ended_at ? (new Date(job.ended_at) - new Date(job.started_at)) / 1000 : null;
  const options = Object.entries(job.options).filter(([name]) => name !== "attempts" && name !== "max_stalls");
  return card("Facts", {}, h("dl", { class: "facts" },
    fact("Queue", link(queueHash(job.queue), job.queue)),
    fact("Key", job.key),
    fact("Flow", job.flow && link(flowHash(job.flow), h("code", {}, job.flow))),
    fact("Priority", job.priority),
    fact("Attempt", job.attempts ? `${job.attempt} of ${job.attempts}` : job.attempt),
    fact("Stalls", job.stalls || null),
    fact("Given back", job.releases || null),
    fact("Added", full(job.added_at)),
    fact("Due", full(job.due_at)),
    fact("Started", full(job.started_at)),
    fact("Ended", full(job.ended_at)),
    fact("Ran for", ran === null ? null : duration(ran)),
    fact("Worker", job.worker && h("code", {}, job.worker)),
    options.map(([name, value]) => fact(name.replaceAll("_", " "), name === "backoff" ? backoff(value) : typeof value === "number" ? duration(value) : String(value)))));
}

function backoff({ type, seconds, factor = 2 }) {
  if (type === "exponential") return `${duration(seconds)}, then ${factor} times as long each time`;
  return type === "fixed" ? `${duration(seconds)} each time` : seconds.map((one) => duration(one)).join(", ");
}

function timeline(job) {
  return card("What happened", {}, h("ol", { class: "timeline" }, job.timeline.map((one, at) =>
    h("li", { class: one.kind, key: `${one.kind} ${one.at} ${at}` }, h("b", {}, one.kind), one.attempt > 1 && h("small", { class: "soft" }, ` attempt ${one.attempt}`), h("time", { datetime: one.at, title: full(one.at) }, time(one.at)), one.text && h("p", {}, one.text),
      one.traceback && h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: "0" }, one.traceback))))));
}
