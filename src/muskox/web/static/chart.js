// Draws figures over time: bars of what ended, and lines of anything. Each chart has its table behind it.

import { h, svg } from "./dom.js";
import { duration, full, number, short } from "./format.js";

const WIDTH = 720;
const HEIGHT = 150;
const total = (values) => values.reduce((sum, value) => sum + (value ?? 0), 0);

/** Bars of ended jobs, failed ones on top, and a line of added ones. */
export function chart({ begin, step, series, estimated }) {
  const added = series.added ?? series.waiting;
  const ended = series.completed.map((done, at) => done + series.failed[at]);
  const highest = Math.max(1, ...ended, ...added);
  const wide = WIDTH / ended.length;
  const y = (value) => HEIGHT - (value / highest) * HEIGHT;
  const bar = (at, from, to, name) => to > from && svg("rect", {
    class: name, x: (at * wide + wide * 0.12).toFixed(2), width: (wide * 0.76).toFixed(2), y: y(to).toFixed(2), height: Math.max(0.8, y(from) - y(to)).toFixed(2),
  });
  const said = `${number(total(series.completed))} completed, ${number(total(series.failed))} failed, ${number(total(added))} added`;
  return figure({ begin, step, size: ended.length }, `${short(highest)} ${per(step)}`, said,
    [
      ended.map((sum, at) => [bar(at, 0, series.completed[at], "good"), bar(at, series.completed[at], sum, "bad")]),
      svg("path", { class: "added", d: path(added, wide, y) }),
    ],
    [
      key("good", "completed", number(total(series.completed))),
      key("bad", "failed", number(total(series.failed))),
      key("added", "added", number(total(added))),
      estimated && h("span", { class: "soft" }, "partly estimated: more happened than could be read"),
    ],
    table({ begin, step }, { added, completed: series.completed, failed: series.failed }, number));
}

/** Lines: `names` are the series with what each is called; moments at which nothing is known are left out. */
export function lines({ begin, step, series }, names, { say = duration, least = 0.001 } = {}) {
  const shown = Object.entries(names).map(([name, label]) => [label, series[name]]);
  const highest = Math.max(least, ...shown.flatMap(([, values]) => values.map((value) => value ?? 0)));
  const size = shown[0][1].length;
  const y = (value) => HEIGHT - (value / highest) * HEIGHT;
  const most = (values) => Math.max(...values.map((value) => value ?? 0));
  const said = shown.map(([label, values]) => `${label} ${say(most(values), 1)} at most`).join(", ");
  return figure({ begin, step, size }, say(highest, 1), said,
    shown.map(([, values], at) => svg("path", { class: `line l${at}`, d: path(values, WIDTH / size, y) })),
    shown.map(([label, values], at) => key(`l${at}`, `${label}, at most`, say(most(values), 1))),
    table({ begin, step }, Object.fromEntries(shown), (value) => (value === null ? "–" : say(value, 1))));
}

function figure({ begin, step, size }, top, said, drawn, keys, behind) {
  const ticks = [begin, begin + (size * step) / 2, begin + size * step].map((at) => clock(at, size * step));
  return h("figure", { class: "chart" },
    h("div", { class: "plot" },
      h("span", { class: "top" }, top),
      svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said },
        svg("path", { class: "grid", d: `M0 ${HEIGHT / 2}H${WIDTH}M0 0.5H${WIDTH}` }), drawn)),
    h("div", { class: "axis", "aria-hidden": "true" }, ticks.map((tick) => h("span", {}, tick))),
    h("figcaption", {}, keys), behind);
}

const key = (name, text, value) => h("span", { class: `key ${name}` }, `${text} `, h("b", {}, value));
const per = (step) => ({ 2: "in 2 s", 60: "a minute", 600: "in 10 min", 3600: "an hour" })[step] ?? "";

/** A path through what is known; a value between two unknown ones is a short dash. */
function path(values, wide, y) {
  let drawn = "";
  values.forEach((value, at) => {
    if (value === null) return;
    const alone = values[at - 1] == null;
    drawn += `${alone ? "M" : "L"}${((at + 0.5) * wide).toFixed(1)} ${y(value).toFixed(1)}`;
    if (alone && values[at + 1] == null) drawn += `h${(wide * 0.4).toFixed(1)}`;
  });
  return drawn;
}

/** The same as figures, latest first, without the moments at which nothing was. */
function table({ begin, step }, columns, say) {
  const names = Object.keys(columns);
  const rows = columns[names[0]].map((_, at) => at).filter((at) => names.some((name) => columns[name][at])).reverse();
  return h("details", { class: "behind" }, h("summary", {}, "As a table"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The chart as a table" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "From"), names.map((name) => h("th", { scope: "col", class: "num" }, name)))),
      h("tbody", {}, rows.map((at) => h("tr", {},
        h("th", { scope: "row" }, full((begin + at * step) * 1000)),
        names.map((name) => h("td", { class: "num" }, say(columns[name][at] ?? null)))))))));
}

function clock(at, seconds) {
  const said = new Date(at * 1000);
  if (seconds > 2 * 86400) return said.toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" });
  return said.toLocaleTimeString(undefined, seconds <= 300 ? { timeStyle: "medium" } : { timeStyle: "short" });
}
