// Draws how many jobs were completed, failed and added in each step of a span.

import { h, svg } from "./dom.js";
import { number, short } from "./format.js";

const WIDTH = 720;
const HEIGHT = 150;

/** Bars of ended jobs, failed ones on top, and a line of added ones. */
export function chart({ begin, step, series, estimated }) {
  const size = series.completed.length;
  const ended = series.completed.map((done, at) => done + series.failed[at]);
  const highest = Math.max(1, ...ended, ...series.waiting);
  const wide = WIDTH / size;
  const y = (value) => HEIGHT - (value / highest) * HEIGHT;
  const bar = (at, from, to, name) => to > from && svg("rect", {
    class: name, x: (at * wide + wide * 0.12).toFixed(2), width: (wide * 0.76).toFixed(2), y: y(to).toFixed(2), height: Math.max(0.8, y(from) - y(to)).toFixed(2),
  });
  const line = series.waiting.map((added, at) => `${at ? "L" : "M"}${((at + 0.5) * wide).toFixed(1)} ${y(added).toFixed(1)}`).join("");
  const total = (values) => values.reduce((sum, value) => sum + value, 0);
  const said = `${number(total(series.completed))} completed, ${number(total(series.failed))} failed, ${number(total(series.waiting))} added`;
  const minutes = Math.round((size * step) / 60);
  const ticks = [begin, begin + (size * step) / 2, begin + size * step].map((at) => clock(at, minutes));
  return h("figure", { class: "chart" },
    h("div", { class: "plot" },
      h("span", { class: "top" }, `${short(highest)}${step === 2 ? " in 2 s" : step === 60 ? " a minute" : " in 10 min"}`),
      svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said },
        svg("path", { class: "grid", d: `M0 ${HEIGHT / 2}H${WIDTH}M0 0.5H${WIDTH}` }),
        ended.map((sum, at) => [bar(at, 0, series.completed[at], "good"), bar(at, series.completed[at], sum, "bad")]),
        svg("path", { class: "added", d: line }))),
    h("div", { class: "axis", "aria-hidden": "true" }, ticks.map((tick) => h("span", {}, tick))),
    h("figcaption", {},
      h("span", { class: "key good" }, "completed ", h("b", {}, number(total(series.completed)))),
      h("span", { class: "key bad" }, "failed ", h("b", {}, number(total(series.failed)))),
      h("span", { class: "key added" }, "added ", h("b", {}, number(total(series.waiting)))),
      estimated && h("span", { class: "soft" }, "partly estimated: more happened than could be read")));
}

function clock(at, minutes) {
  const said = new Date(at * 1000);
  return said.toLocaleTimeString(undefined, minutes <= 5 ? { timeStyle: "medium" } : { timeStyle: "short" });
}
