// Who changed what, for admins.

import { get } from "../api.js";
import { h } from "../dom.js";
import { full } from "../format.js";
import { button, card, empty, link, pill } from "../parts.js";
import { jobHash, queueHash } from "../search.js";

export function audit(ctx) {
  let found = null;
  const load = async () => {
    found = await get("api/audit", { limit: 500 });
    ctx.refresh();
  };
  return {
    title: "Changes",
    start: load,
    render: () => [
      h("div", { class: "head" }, h("h1", { tabindex: "-1" }, "Changes"), h("div", { class: "actions" }, button("Look again", load))),
      card(null, {}, found && (found.length ? table(found) : empty("Nobody has changed anything yet."))),
    ],
  };
}

function table(found) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Changes" }, h("table", { class: "list" },
    h("thead", {}, h("tr", {}, ["When", "Who", "What", "Where", "Outcome"].map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, found.map((deed) => h("tr", {},
      h("td", {}, h("time", { datetime: deed.at }, full(deed.at))),
      h("td", {}, h("b", {}, deed.who), h("small", { class: "soft" }, ` ${deed.role}, ${deed.means}${deed.address && `, ${deed.address}`}`)),
      h("td", {}, deed.verb, Object.keys(deed.detail).length > 0 && h("code", { class: "detail" }, JSON.stringify(deed.detail))),
      h("td", {}, where(deed)),
      h("td", {}, pill(deed.outcome === "done" ? "completed" : "failed", deed.outcome)))))));
}

function where(deed) {
  if (deed.schedule) return link(`#/schedules/${encodeURIComponent(deed.schedule)}`, deed.schedule);
  if (deed.job) return [link(queueHash(deed.queue), deed.queue), " / ", link(jobHash(deed.queue, deed.job), deed.job)];
  return deed.queue ? link(queueHash(deed.queue), deed.queue) : "";
}
