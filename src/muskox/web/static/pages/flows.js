// Flows and batches: how far they are, the picture of what waits for what, and cancelling, retrying and closing them.

import { flowPath, get, post } from "../api.js";
import { h, svg } from "../dom.js";
import { full, number, plural, shortId } from "../format.js";
import { graph } from "../graph.js";
import { STATES, button, card, confirm, empty, link, note, pill, when } from "../parts.js";
import { flowHash, jobHash, queueHash } from "../search.js";

const LOOK = { open: "waiting", running: "active" };
const flowPill = (one) => pill(LOOK[one.state] ?? one.state, one.state);

/** How much of a flow has ended, and how. */
function share(one, kind = "") {
  let from = 0;
  const part = (name) => {
    const width = one.total ? (one[name] / one.total) * 100 : 0;
    from += width;
    return width > 0 && svg("rect", { class: name, x: from - width, y: 0, width, height: 6 });
  };
  return h("span", { class: `share ${kind}` },
    svg("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": `${one.completed} completed, ${one.failed} failed and ${one.cancelled} cancelled of ${one.total}` },
      svg("rect", { class: "all", x: 0, y: 0, width: 100, height: 6 }), part("completed"), part("failed"), part("cancelled")),
    h("small", {}, `${Math.floor(one.progress * 100)} %`));
}

export function flows(ctx, said) {
  const unended = said.get("unended") === "1";
  let found = null;
  let cursor = null;
  let pages = 0;
  let beat = 0;
  const load = async (after = null) => {
    const page = await get("api/flows", { unended: unended || null, after });
    found = after ? [...found, ...page.flows] : page.flows;
    pages = after ? pages + 1 : 1;
    cursor = page.cursor;
    ctx.refresh();
  };
  const tab = (which, text, query) => h("button", { type: "button", "aria-pressed": String(unended === which), onclick: () => ctx.go(`#/flows${query}`) }, text);
  return {
    title: "Flows",
    key: `flows ${unended}`,
    start: () => load(),
    figures: () => {
      beat += 1;
      if (beat % 2 === 0 && pages === 1) load().catch(() => {});
    },
    render: () => [
      h("div", { class: "head" }, h("h1", { tabindex: "-1" }, "Flows"), h("div", { class: "segments", role: "group", "aria-label": "Which" }, tab(false, "All", ""), tab(true, "Not ended", "?unended=1"))),
      card(null, {}, found && (found.length ? table(ctx, found) : empty(unended ? "All have ended." : "There is no flow and no batch. Code adds them with ", !unended && h("code", {}, "ox.flows.add(…)"), !unended && " and ", !unended && h("code", {}, "ox.batch(…)"), !unended && ".")),
        cursor && h("footer", { class: "bar" }, button("Show more", () => load(cursor), { class: "more" }))),
    ],
  };
}

function table(ctx, found) {
  const now = ctx.figures ? new Date(ctx.figures.at) : undefined;
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Flows and batches" }, h("table", { class: "list" },
    h("thead", {}, h("tr", {}, ["Flow", "State", "Progress"].map((title) => h("th", { scope: "col" }, title)), ["Jobs", "Failed", "Added", "Ended"].map((title) => h("th", { scope: "col", class: "num" }, title)))),
    h("tbody", {}, found.map((one) => h("tr", { key: one.id },
      h("th", { scope: "row" }, h("a", { class: "row", href: flowHash(one.id), title: one.id }, one.id.length > 40 ? shortId(one.id) : one.id), h("small", { class: "soft" }, ` ${one.kind}`)),
      h("td", {}, flowPill(one)), h("td", {}, share(one)),
      h("td", { class: "num" }, number(one.total)), h("td", { class: `num ${one.failed ? "wrong" : ""}` }, number(one.failed)),
      h("td", { class: "num" }, when(one.added_at, now)), h("td", { class: "num" }, when(one.ended_at, now)))))));
}

export function flow(ctx, id, said) {
  const state = said.get("state") ?? "";
  let found = null;
  let jobs = [];
  let pages = 0;
  let picture = null;
  let beat = 0;
  const load = async (after = null) => {
    const page = await get(flowPath(id), { state, after });
    jobs = after ? [...jobs, ...page.jobs] : page.jobs;
    pages = after ? pages + 1 : 1;
    found = page;
    ctx.refresh();
  };
  const draw = async () => {
    if (found.kind !== "flow" || found.total > 200) return;
    // What waits for what is asked for anew only when jobs have come; how they stand, each time.
    const known = new Map(picture?.map((job) => [`${job.queue} ${job.id}`, job.parents]));
    const now = (await get(flowPath(id), { limit: 200, parents: picture ? null : true })).jobs;
    const told = now.map((job) => ({ ...job, parents: job.parents ?? known.get(`${job.queue} ${job.id}`) }));
    picture = told.every((job) => job.parents) ? told : (await get(flowPath(id), { limit: 200, parents: true })).jobs;
    if (!picture.every((job) => job.parents)) picture = null;
    ctx.refresh();
  };
  const all = async () => {
    await load();
    await draw();
  };
  return {
    title: `Flow ${id}`,
    key: `flow ${id} ${state}`,
    start: all,
    figures: () => {
      beat += 1;
      if (!found || found.ended_at || pages > 1) return;
      if (beat % 2 === 0) load().catch(() => {});
      if (beat % 4 === 1) draw().catch(() => {});
    },
    render: () => (found ? page(ctx, found, { state, jobs, picture, load, all }) : [h("h1", { tabindex: "-1" }, "Flow")]),
  };
}

function page(ctx, one, { state, jobs, picture, load, all }) {
  const tab = (which, text) => h("a", { href: flowHash(one.id, which && `state=${which}`), class: which, "aria-current": state === which ? "true" : null }, text);
  return [
    h("div", { class: "head" },
      h("div", {}, h("p", { class: "crumbs" }, link("#/flows", "Flows"), ` / ${one.kind}`), h("h1", { tabindex: "-1" }, one.id, flowPill(one)),
        h("p", { class: "soft" }, `${number(one.completed)} completed, ${number(one.failed)} failed, ${number(one.cancelled)} cancelled of ${plural(one.total, "job")} · added ${full(one.added_at)}${one.ended_at ? ` · ended ${full(one.ended_at)}` : ""}`)),
      actions(ctx, one, all)),
    h("div", { class: "card far" }, share(one, "wide"), followers(one)),
    picture?.length > 0 && card("What waits for what", {}, graph(picture)),
    h("nav", { class: "tabs", "aria-label": "States" }, tab("", "all"), STATES.map((which) => tab(which, which))),
    h("div", { class: "card jobs" }, jobs.length ? list(ctx, jobs) : empty("None that is still there."),
      one.cursor && h("footer", { class: "bar" }, button("Show more", () => load(one.cursor), { class: "more" }))),
  ];
}

function followers(one) {
  const line = (job, text) => job && h("p", { class: "soft" }, text, " ", job.added ? link(jobHash(job.queue, job.id), `${job.queue} / ${shortId(job.id)}`) : `${job.queue} / ${shortId(job.id)} will be added`);
  return [line(one.completed_job, "When all are completed:"), line(one.settled_job, "When all have ended:")];
}

function actions(ctx, one, load) {
  if (!ctx.may("operate")) return null;
  const broken = one.failed + one.cancelled;
  const left = one.total - one.completed - broken;
  const run = async (verb, title) => {
    let operation = await post(`${flowPath(one.id)}/${verb}`);
    if (operation.state === "running") note(`${title}: ${number(operation.done)} of ${number(operation.most)} so far; it goes on by itself`);
    while (operation.state === "running") {
      await new Promise((resolve) => { setTimeout(resolve, 1000); });
      operation = await get(`api/operations/${operation.id}`);
    }
    note(operation.state === "done" ? `${title}: ${plural(operation.done, "job")}` : `${title} broke off: ${operation.reason || operation.state}`, operation.state === "done" ? "good" : "bad");
    await load();
  };
  return h("div", { class: "actions" },
    broken > 0 && button(`Retry ${number(broken)}`, () => run("retry", "Retry"), { class: "primary" }),
    one.open && button("Close", async () => { await post(`${flowPath(one.id)}/close`); note("Nothing can be added any more"); await load(); }),
    left > 0 && button("Cancel…", async () => {
      if (await confirm("Cancel this flow?", `${plural(left, "job")} that ${left === 1 ? "has" : "have"} not ended end as cancelled, and nothing can be added any more.`, "Cancel them", { danger: true })) await run("cancel", "Cancel");
    }, { class: "danger" }));
}

function list(ctx, jobs) {
  const now = ctx.figures ? new Date(ctx.figures.at) : undefined;
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Jobs" }, h("table", { class: "list stacked" },
    h("thead", {}, h("tr", {}, ["Job", "State", "Data", "When"].map((title, at) => h("th", { scope: "col", class: at > 2 ? "num" : "" }, title)))),
    h("tbody", {}, jobs.map((job) => h("tr", { key: `${job.queue} ${job.id}` },
      h("td", { class: "job" }, h("a", { class: "row", href: jobHash(job.queue, job.id) }, job.name), h("small", { class: "soft" }, " ", link(queueHash(job.queue), job.queue)), h("code", { title: job.id }, shortId(job.id))),
      h("td", {}, pill(job.state)),
      h("td", { class: "preview" }, job.failure && job.state !== "completed" ? h("span", { class: "failed" }, `${job.failure.type || job.failure.kind}: ${job.failure.message}`) : h("code", {}, job.preview)),
      h("td", { class: "num" }, when(job.ended_at ?? job.started_at ?? job.due_at ?? job.added_at, now)))))));
}
