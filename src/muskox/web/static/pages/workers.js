// The live workers, what each can run, and what runs now.

import { get, queuePath } from "../api.js";
import { h } from "../dom.js";
import { duration, plural } from "../format.js";
import { card, empty, link, pill, progress, when } from "../parts.js";
import { jobHash, queueHash } from "../search.js";

const MOST = 100;

export function workers(ctx) {
  let found = null;
  let running = [];
  let beat = 0;
  const load = async () => {
    found = await get("api/workers");
    const busy = (ctx.figures?.queues ?? []).filter((one) => one.states.active);
    const pages = await Promise.all(busy.map((one) => get(`${queuePath(one.name)}/jobs`, { state: "active", limit: MOST })));
    running = pages.flatMap((page) => page.jobs);
    ctx.refresh();
  };
  return {
    title: "Workers",
    start: load,
    figures: () => {
      beat += 1;
      if (beat % 2 === 1) load().catch(() => {});
    },
    render: () => [
      h("div", { class: "head" }, h("h1", { tabindex: "-1" }, "Workers"), found && h("p", { class: "soft" }, `${plural(found.length, "live worker")}, ${plural(running.length, "job")} running${running.length >= MOST ? " at least" : ""}`)),
      found?.length === 0 && card(null, {}, empty("No worker is alive. Start one: ", h("code", {}, "muskox worker jobs:ox"))),
      h("div", { class: "workers" }, (found ?? []).map((worker) => one(ctx, worker, running.filter((job) => job.worker === worker.id)))),
    ],
  };
}

function one(ctx, worker, jobs) {
  const now = ctx.figures ? new Date(ctx.figures.at) : undefined;
  return h("section", { class: "card worker", key: worker.id, "aria-label": `Worker ${worker.id}` },
    h("header", { class: "bar" }, h("h2", {}, `${worker.host} · ${worker.pid}`), worker.stopping ? pill("delayed", "stopping") : pill("completed", "live")),
    h("p", { class: "slots" }, h("meter", { min: 0, max: worker.slots, value: worker.running, "aria-label": "slots that are taken" }), h("b", {}, `${worker.running} of ${worker.slots}`), " slots taken"),
    h("p", { class: "soft" }, "last beat ", duration(worker.age), " ago · ", h("code", { title: worker.id }, worker.id.slice(0, 13))),
    h("dl", { class: "wants" }, Object.entries(worker.wants).map(([queue, names]) => h("div", {}, h("dt", {}, link(queueHash(queue), queue)), h("dd", {}, names ? names.join(", ") || "nothing" : "any name")))),
    jobs.length > 0 && h("ul", { class: "running" }, jobs.slice(0, 20).map((job) => h("li", { key: job.id }, link(jobHash(job.queue, job.id), job.name), progress(job.progress), when(job.started_at, now)))),
    jobs.length > 20 && h("p", { class: "soft" }, `and ${jobs.length - 20} more`));
}
