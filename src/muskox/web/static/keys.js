// Keys: where one goes, and how one moves through a table.

import { h } from "./dom.js";
import { dialog } from "./parts.js";

const PLACES = { o: "#/", w: "#/workers", s: "#/schedules", f: "#/flows", l: "#/live", c: "#/audit" };
const SAID = [
  ["/", "find a job or a queue"], ["g o", "overview"], ["g w", "workers"], ["g s", "schedules"], ["g f", "flows"], ["g l", "live events"],
  ["g 1 … 9", "the first nine queues"], ["j  k", "next and previous row"], ["x", "select the row"], ["Enter", "open the row"],
  ["r", "retry what is selected, or the job"], ["?", "this list"],
];

export const showKeys = () =>
  dialog("Keys", () => h("dl", { class: "keys" }, SAID.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))));

export function bindKeys(ctx) {
  let after = "";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const went = after;
    after = "";
    if (went === "g") {
      const nth = ctx.figures?.queues[Number(event.key) - 1];
      const place = PLACES[event.key] ?? (nth && `#/queues/${encodeURIComponent(nth.name)}`);
      if (place) ctx.go(place);
    } else if (event.key === "g") after = "g";
    else if (event.key === "/") focus(event, ".find input");
    else if (event.key === "?") showKeys();
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "x") document.activeElement?.closest("tr")?.querySelector("input[type=checkbox]")?.click();
    else if (event.key === "r") document.querySelector("[data-key=r]")?.click();
  });
}

function focus(event, selector) {
  event.preventDefault();
  document.querySelector(selector)?.focus();
}

function step(by) {
  const rows = [...document.querySelectorAll("main tbody a.row")];
  const here = rows.indexOf(document.activeElement?.closest("tr")?.querySelector("a.row"));
  rows[Math.min(rows.length - 1, Math.max(0, here + by))]?.focus();
}
