// What can be done with jobs and queues, asked for and told of in the same way on all pages.

import { get, jobPath, patchData, post, postData, postText, queuePath, remove } from "../api.js";
import { h } from "../dom.js";
import { number, plural } from "../format.js";
import { button, confirm, dialog, note, tell } from "../parts.js";
import { jobHash } from "../search.js";

export const ALLOWED = {
  retry: ["failed", "cancelled"],
  promote: ["delayed"],
  cancel: ["waiting", "delayed", "blocked", "active"],
  edit: ["waiting", "delayed", "blocked", "active", "failed"],
};

export const toggle = (ctx, queue, kind = "") =>
  button(queue.paused ? "Resume" : "Pause", async () => {
    const now = await post(`${queuePath(queue.name)}/${queue.paused ? "resume" : "pause"}`);
    Object.assign(queue, now);
    note(`${queue.name} is ${now.paused ? "paused: nothing is claimed" : "running again"}`);
    ctx.refresh();
  }, { class: kind, "aria-label": `${queue.paused ? "Resume" : "Pause"} ${queue.name}` });

/** Do something to one job and say so. */
export async function act(verb, queue, id, said) {
  await post(`${jobPath(queue, id)}/${verb}`);
  note(said);
}

export async function removeJob(ctx, job) {
  if (!(await confirm("Remove this job?", `${job.name} ${job.id} is deleted with its log.`, "Remove", { danger: true }))) return;
  await remove(jobPath(job.queue, job.id));
  note("Removed");
  ctx.go(`#/queues/${encodeURIComponent(job.queue)}`);
}

/** Edit the data of a job: save it, run the failed job again with it, or add a new job like it. */
export function edit(ctx, job, how) {
  const { title, yes, send } = {
    save: { title: "Edit the data", yes: "Save", send: (text) => patchData(jobPath(job.queue, job.id), text) },
    retry: { title: "Retry with other data", yes: "Retry", send: (text) => postData(`${jobPath(job.queue, job.id)}/retry`, text) },
    again: { title: "Run again as a new job", yes: "Add", send: (text) => postData(`${jobPath(job.queue, job.id)}/again`, text) },
  }[how];
  return dialog(title, (close) => {
    const area = jsonArea(job.data_json);
    const submit = async (event) => {
      event.preventDefault();
      try {
        const now = await send(area.read());
        close(now);
        note({ save: "Saved", retry: "It waits to run again", again: "Added" }[how]);
        if (how === "again") ctx.go(jobHash(now.queue, now.id));
      } catch (problem) {
        area.say(problem);
      }
    };
    return h("form", { onsubmit: submit },
      area.node, job.masked && h("p", { class: "soft" }, "Fields that show •••••• keep their secrets unless you write over them."),
      h("footer", {}, h("button", { type: "button", onclick: () => close() }, "Leave it"), h("button", { class: "primary" }, yes)));
  }, { wide: true });
}

/** A place to write JSON in, which says what is wrong. */
export function jsonArea(text, label = "Data, as JSON") {
  const box = h("textarea", { name: "data", rows: Math.min(20, Math.max(6, text.split("\n").length + 1)), spellcheck: "false", class: "code" });
  box.value = text;
  const wrong = h("p", { class: "wrong", role: "alert" });
  const say = (problem) => {
    wrong.textContent = problem.said ?? problem.message;
    box.setAttribute("aria-invalid", "true");
  };
  const read = () => {
    wrong.textContent = "";
    box.removeAttribute("aria-invalid");
    if (box.value.trim() === "") return "null";
    JSON.parse(box.value);
    return box.value;
  };
  return { node: h("label", {}, label, box, wrong), read, say };
}

/** Change many jobs: say how many, ask, and follow it to its end. */
export async function many(ctx, queue, body, words) {
  const path = `${queuePath(queue)}/bulk`;
  const { matched, exact } = await post(path, { ...body, dry_run: true });
  if (!matched) {
    note("There are no such jobs any more");
    return false;
  }
  const danger = body.verb === "remove";
  const title = `${words.verb} ${exact ? "" : "up to "}${plural(matched, "job")}?`;
  if (!(await confirm(title, words.text, words.verb, { danger, word: danger && matched > 100 ? queue : "" }))) return false;
  let { operation } = await post(path, body);
  if (operation.state === "running") note(`${words.verb}: ${number(operation.done)} of ${number(operation.most)} so far; it goes on by itself`);
  while (operation.state === "running") {
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
    operation = await get(`api/operations/${operation.id}`);
  }
  if (operation.state === "done") note(`${words.verb}: ${plural(operation.done, "job")}`);
  else note(`${words.verb} broke off after ${plural(operation.done, "job")}: ${operation.reason || operation.state}`, "bad");
  ctx.refresh();
  return true;
}

export async function drain(ctx, queue) {
  const answer = await dialog(`Drain ${queue}`, (close) => {
    const sure = h("button", { class: "danger", disabled: true }, "Drain");
    const delayed = h("input", { type: "checkbox" });
    return h("form", { onsubmit: (event) => { event.preventDefault(); close({ delayed: delayed.checked }); } },
      h("p", {}, "All jobs that wait are deleted. Running ones go on, ended ones stay."),
      h("label", { class: "check" }, delayed, "The delayed ones too"),
      h("label", {}, `Type ${queue} to go on`, h("input", { autocomplete: "off", oninput: (event) => { sure.disabled = event.target.value !== queue; } })),
      h("footer", {}, h("button", { type: "button", onclick: () => close() }, "Leave it"), sure));
  });
  if (!answer) return;
  const done = await post(`${queuePath(queue)}/drain`, answer);
  note(`Drained: ${plural(done.done, "job")}`);
  ctx.refresh();
}

export function addJob(ctx, queue, names) {
  return dialog(`Add a job to ${queue}`, (close) => {
    const area = jsonArea("{}");
    const submit = async (event) => {
      event.preventDefault();
      const { name, priority, delay, key } = event.target.elements;
      try {
        const text = area.read();
        const body = { name: name.value, priority: Number(priority.value) || 0, delay: Number(delay.value) || 0, ...(key.value && { key: key.value }) };
        const rest = JSON.stringify(body).slice(1);
        const added = await postText(`${queuePath(queue)}/jobs`, `{"data":${text},${rest}`);
        close(added);
        note("Added");
        ctx.go(jobHash(queue, added.id));
      } catch (problem) {
        area.say(problem);
      }
    };
    return h("form", { onsubmit: submit },
      h("label", {}, "Name", h("input", { name: "name", required: true, list: "job-names", maxlength: 255, autocomplete: "off" })),
      h("datalist", { id: "job-names" }, names.map((one) => h("option", { value: one }))),
      area.node,
      h("div", { class: "side" }, h("label", {}, "Priority", h("input", { name: "priority", type: "number", value: "0" })), h("label", {}, "Delay, seconds", h("input", { name: "delay", type: "number", min: "0", step: "any", value: "0" }))),
      h("label", {}, "Key, for limits and turns", h("input", { name: "key", maxlength: 255, autocomplete: "off" })),
      h("footer", {}, h("button", { type: "button", onclick: () => close() }, "Leave it"), h("button", { class: "primary" }, "Add")));
  }, { wide: true }).catch(tell);
}
