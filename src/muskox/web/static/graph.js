// A flow as a picture: each job in the column after the last of those that it waits for.

import { h, svg } from "./dom.js";
import { jobHash } from "./search.js";

const WIDE = 184;
const HIGH = 46;
const ACROSS = 72;
const DOWN = 16;

const idOf = (job) => `${job.queue}\n${job.id}`;

export function graph(jobs) {
  const places = layout(jobs);
  const width = Math.max(...places.map((one) => one.x)) + WIDE + 8;
  const height = Math.max(...places.map((one) => one.y)) + HIGH + 8;
  const at = new Map(places.map((one) => [idOf(one.job), one]));
  const lines = places.flatMap((child) => child.job.parents.map((parent) => [at.get(idOf(parent)), child, parent])).filter(([from]) => from);
  const meanings = new Set(lines.map(([, , parent]) => parent.on_failure));
  return [h("div", { class: "scroll graph", tabindex: "0", role: "region", "aria-label": "What waits for what" },
    svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Jobs of the flow" },
      lines.map(([from, to, parent]) => svg("path", { class: `edge ${parent.on_failure} ${from.job.state}`, d: curve(from, to) })),
      places.map(({ job, x, y }) => svg("a", { key: idOf(job), class: `node ${job.state}`, href: jobHash(job.queue, job.id), "aria-label": `${job.name}, ${job.state}${job.parents.length ? `, after ${job.parents.map((one) => one.name).join(", ")}` : ""}` },
        svg("rect", { x, y, width: WIDE, height: HIGH, rx: 11 }),
        svg("rect", { class: "mark", x: x + 12, y: y + 12, width: 9, height: 9, rx: 4.5 }),
        svg("text", { class: "name", x: x + 30, y: y + 20 }, cut(job.name)),
        svg("text", { class: "where", x: x + 30, y: y + 36 }, cut(`${job.state} · ${job.queue}`, 26)), svg("title", {}, `${job.name} ${job.id}`))))),
  meanings.size > (meanings.has("fail") ? 1 : 0) && h("p", { class: "soft small" }, [meanings.has("continue") && "dashed: goes on when that fails", meanings.has("ignore") && "dotted: does not mind when that fails"].filter(Boolean).join(" · "))];
}

const cut = (text, most = 20) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function curve(from, to) {
  const [x1, y1, x2, y2] = [from.x + WIDE, from.y + HIGH / 2, to.x, to.y + HIGH / 2];
  const bend = Math.max(36, (x2 - x1) / 2);
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

/** Columns by the longest way from a job that waits for none; within one, near the middle of what they wait for. */
function layout(jobs) {
  const known = new Map(jobs.map((job) => [idOf(job), { job, column: 0, x: 0, y: 0 }]));
  // A job is listed after those that it waits for, except where a run added some; so until nothing moves.
  for (let moved = true, turns = 0; moved && turns < jobs.length; turns += 1) {
    moved = false;
    for (const one of known.values()) {
      const after = Math.max(-1, ...one.job.parents.map((parent) => known.get(idOf(parent))?.column ?? -1)) + 1;
      if (after > one.column) [one.column, moved] = [after, true];
    }
  }
  const columns = [];
  for (const one of known.values()) (columns[one.column] ??= []).push(one);
  const tallest = Math.max(...columns.map((column) => column.length));
  for (const column of columns) {
    const middle = (one) => {
      const rows = one.job.parents.map((parent) => known.get(idOf(parent))?.y).filter((y) => y !== undefined);
      return rows.length ? rows.reduce((sum, y) => sum + y, 0) / rows.length : 0;
    };
    const sorted = column.map((one, at) => [middle(one), at, one]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const top = ((tallest - column.length) * (HIGH + DOWN)) / 2;
    sorted.forEach(([, , one], row) => {
      one.x = 4 + one.column * (WIDE + ACROSS);
      one.y = 4 + top + row * (HIGH + DOWN);
    });
  }
  return [...known.values()];
}
