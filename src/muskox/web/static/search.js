// Finds what somebody typed: a queue by its name, else jobs by their id.

import { get } from "./api.js";
import { h } from "./dom.js";
import { dialog, link, note, pill } from "./parts.js";

export const jobHash = (queue, id) => `#/queues/${encodeURIComponent(queue)}/jobs/${encodeURIComponent(id)}`;
export const keysHash = (queue) => `#/queues/${encodeURIComponent(queue)}/keys`;
export const flowHash = (id, query = "") => `#/flows/${encodeURIComponent(id)}${query && `?${query}`}`;
export const queueHash = (queue, query = "") => `#/queues/${encodeURIComponent(queue)}${query && `?${query}`}`;

export async function search(ctx, text) {
  if (!text) return;
  const queue = ctx.figures?.queues.find((one) => one.name.toLowerCase() === text.toLowerCase());
  if (queue) {
    ctx.go(queueHash(queue.name));
    return;
  }
  const found = await get("api/search", { id: text });
  if (found.length === 1) ctx.go(jobHash(found[0].queue, found[0].id));
  else if (found.length > 1) await choose(found);
  else note(`No queue is named ${text}, and no job has this id`, "bad");
}

const choose = (found) =>
  dialog("Several queues have such a job", (close) =>
    h("ul", { class: "plain" }, found.map((job) => h("li", {}, link(jobHash(job.queue, job.id), `${job.queue} · ${job.name} `), pill(job.state)))
      .map((item) => { item.onclick = () => close(); return item; })));
