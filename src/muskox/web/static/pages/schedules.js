// Schedules: when each fires, what became of its moments, and pausing, running, adding and deleting them.

import { get, patch, post, remove, schedulePath } from "../api.js";
import { h } from "../dom.js";
import { duration, full, plural } from "../format.js";
import { button, card, confirm, dialog, empty, json, link, note, pill, when } from "../parts.js";
import { jobHash, queueHash } from "../search.js";
import { jsonArea } from "./verbs.js";

const hashOf = (name) => `#/schedules/${encodeURIComponent(name)}`;

export function schedules(ctx) {
  let found = null;
  let beat = 0;
  const load = async () => {
    found = await get("api/schedules");
    ctx.refresh();
  };
  return {
    title: "Schedules",
    start: load,
    figures: () => {
      beat += 1;
      if (beat % 5 === 0) load().catch(() => {});
    },
    render: () => [
      h("div", { class: "head" }, h("h1", { tabindex: "-1" }, "Schedules"), ctx.may("operate") && h("div", { class: "actions" }, button("Add a schedule", () => add(ctx).then(load)))),
      card(null, {}, found && (found.length ? table(ctx, found, load) : empty("There is no schedule. Code declares them with ", h("code", {}, "@ox.cron(…)"), ", or add one here."))),
    ],
  };
}

function table(ctx, found, load) {
  const now = ctx.figures ? new Date(ctx.figures.at) : undefined;
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Schedules" }, h("table", { class: "list loose" },
    h("thead", {}, h("tr", {}, ["Schedule", "When", "Next", "Last", "Adds"].map((title) => h("th", { scope: "col" }, title)), h("th", { scope: "col" }, h("span", { class: "unseen" }, "Actions")))),
    h("tbody", {}, found.map((one) => h("tr", { key: one.name },
      h("th", { scope: "row" }, h("a", { class: "row", href: hashOf(one.name) }, one.name), one.owner === "code" && h("small", { class: "soft" }, " in code"), one.paused && pill("delayed", "paused")),
      h("td", {}, one.rule, one.tz && one.tz !== "UTC" && !one.rule.includes(one.tz) && h("small", { class: "soft" }, ` ${one.tz}`)),
      h("td", {}, when(one.next_at, now)),
      h("td", {}, when(one.last_at, now), " ", one.outcome && (one.last_job ? h("a", { href: jobHash(one.queue, one.last_job) }, pill(one.outcome)) : pill(one.outcome))),
      h("td", {}, link(queueHash(one.queue), one.queue), " / ", one.job),
      h("td", { class: "num" }, verbs(ctx, one, load, "tiny")))))));
}

function verbs(ctx, one, load, kind = "") {
  if (!ctx.may("operate")) return null;
  const path = schedulePath(one.name);
  return h("span", { class: "pair" },
    button("Run now", async () => {
      const job = await post(`${path}/run`);
      note(`Added ${job.name}`);
      await load();
    }, { class: kind, "aria-label": `Run ${one.name} now` }),
    button(one.paused ? "Resume" : "Pause", async () => {
      await post(`${path}/${one.paused ? "resume" : "pause"}`);
      await load();
    }, { class: kind, "aria-label": `${one.paused ? "Resume" : "Pause"} ${one.name}` }));
}

export function schedule(ctx, name) {
  let found = null;
  const load = async () => {
    found = await get(schedulePath(name));
    ctx.refresh();
  };
  const drop = async () => {
    const text = found.owner === "code" ? "It is declared in code, so the next worker that starts puts it again; pause it instead to be rid of it." : "Its ledger goes with it; jobs that it added stay.";
    if (!(await confirm(`Delete ${name}?`, text, "Delete", { danger: true }))) return;
    await remove(schedulePath(name));
    note("Deleted");
    ctx.go("#/schedules");
  };
  return {
    title: name,
    key: `schedule ${name}`,
    start: load,
    render: () => (found ? detail(ctx, found, load, drop) : [h("h1", { tabindex: "-1" }, name)]),
  };
}

function detail(ctx, one, load, drop) {
  const now = ctx.figures ? new Date(ctx.figures.at) : undefined;
  const fact = (name, value) => value && h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return [
    h("div", { class: "head" },
      h("div", {}, h("p", { class: "crumbs" }, link("#/schedules", "Schedules"), " / schedule"), h("h1", { tabindex: "-1" }, one.name, one.paused && pill("delayed", "paused")), h("p", { class: "soft" }, one.rule)),
      h("div", { class: "actions" }, verbs(ctx, one, load),
        ctx.may("operate") && one.owner !== "code" && button("Change…", async () => { if (await change(one)) await load(); }), ctx.may("admin") && button("Delete…", drop, { class: "danger" }))),
    h("div", { class: "grid" },
      h("div", { class: "main" },
        card("What became of its moments", {}, one.ledger.length ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Ledger" }, h("table", { class: "list" },
          h("thead", {}, h("tr", {}, ["Moment", "Told", "Job", "Why"].map((title) => h("th", { scope: "col" }, title)))),
          h("tbody", {}, one.ledger.map((entry, at) => h("tr", { key: `${entry.moment} ${entry.told} ${at}` },
            h("td", {}, h("time", { datetime: entry.moment }, full(entry.moment))),
            h("td", {}, pill({ fired: "completed", run: "active", late: "delayed", skipped: "cancelled", missed: "failed" }[entry.told] ?? "waiting", entry.told)),
            h("td", {}, entry.job && link(jobHash(one.queue, entry.job), "open")),
            h("td", { class: "soft" }, entry.reason, entry.missed > 1 && ` (${plural(entry.missed, "moment")})`)))))) : empty("It has not fired yet.")),
        card("Data of its jobs", {}, json(JSON.stringify(one.data, null, 2)))),
      h("div", { class: "rest" },
        card("Facts", {}, h("dl", { class: "facts" }, fact("Rule", one.expression && h("code", {}, one.expression)), fact("Zone", one.tz), fact("Adds", [link(queueHash(one.queue), one.queue), ` / ${one.job}`]), fact("Overlap", one.overlap), fact("Declared", one.owner === "code" ? "in code" : "by hand"))),
        card("Next moments", {}, one.next.length ? h("ol", { class: "moments" }, one.next.map((at) => h("li", {}, h("time", { datetime: at }, full(at)), h("small", { class: "soft" }, when(at, now))))) : empty(one.paused ? "None while it is paused." : "None: it is over.")))),
  ];
}

const SECONDS = /^\d+(\.\d+)?$/;

const ruleOf = (rule, tz) => (SECONDS.test(rule) ? { every: Number(rule) } : { cron: rule, tz: tz || "UTC" });

/** The fields that say when: a rule and its zone, and what that means while one types. */
function whenFields(rule, tz) {
  const meaning = h("div", { class: "preview-moments soft", role: "status" });
  let asked = 0;
  const explain = async (form) => {
    const said = form.elements.rule.value.trim();
    const turn = ++asked;
    const tell = (...parts) => turn === asked && meaning.replaceChildren(...parts);
    if (!said) return tell();
    if (SECONDS.test(said)) return tell(`every ${duration(Number(said))}`);
    try {
      const found = await get("api/upcoming", { expression: said, tz: form.elements.tz.value.trim() || "UTC" });
      return tell(h("b", {}, found.words), h("ol", { class: "moments" }, found.next.map((at) => h("li", {}, h("time", { datetime: at }, full(at))))));
    } catch (problem) {
      return tell(problem.said ?? "");
    }
  };
  // Asked once the typing rests, so that half an expression is not called wrong.
  let rest = 0;
  const typed = (event) => {
    const { form } = event.currentTarget;
    clearTimeout(rest);
    rest = setTimeout(() => explain(form), 250);
  };
  return [
    h("div", { class: "side" },
      h("label", {}, "Cron, or seconds", h("input", { name: "rule", required: true, placeholder: "0 9 * * MON", autocomplete: "off", value: rule, oninput: typed })),
      h("label", {}, "Time zone", h("input", { name: "tz", value: tz, oninput: typed }))),
    meaning,
  ];
}

const overlapField = (now) => h("label", {}, "While the last job has not ended", h("select", { name: "overlap" }, [["allow", "add the next beside it"], ["skip", "leave the moment out"], ["queue", "add it after that"]].map(([value, text]) => h("option", { value, selected: value === now }, text))));

/** A form that sends what was filled in, and stays with the reason where that was refused. */
function scheduleForm(title, yes, fields, area, send, done) {
  return dialog(title, (close) => {
    const submit = async (event) => {
      event.preventDefault();
      const filled = Object.fromEntries([...event.target.elements].filter((one) => one.name && one.name !== "data").map((one) => [one.name, one.value.trim()]));
      try {
        close(await send(filled));
        note(done);
      } catch (problem) {
        area.say(problem);
      }
    };
    return h("form", { onsubmit: submit }, fields, area.node,
      h("footer", {}, h("button", { type: "button", onclick: () => close() }, "Leave it"), h("button", { class: "primary" }, yes)));
  }, { wide: true });
}

function add(ctx) {
  const area = jsonArea("{}", "Data of its jobs, as JSON");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  return scheduleForm("Add a schedule", "Add", [
    h("label", {}, "Name", h("input", { name: "name", required: true, maxlength: 128, autocomplete: "off" })),
    h("div", { class: "side" }, h("label", {}, "Queue", h("input", { name: "queue", required: true, list: "queues" })), h("label", {}, "Job name", h("input", { name: "job", required: true }))),
    h("datalist", { id: "queues" }, (ctx.figures?.queues ?? []).map((one) => h("option", { value: one.name }))),
    whenFields("", zone), overlapField("allow"),
  ], area, ({ rule, tz, ...said }) => post("api/schedules", { ...said, ...ruleOf(rule, tz), data: JSON.parse(area.read()) }), "Added");
}

function change(one) {
  const area = jsonArea(JSON.stringify(one.data, null, 2), "Data of its jobs, as JSON");
  const rule = one.expression ?? (one.every === null ? "" : String(one.every));
  const fields = one.kind === "once" ? [] : whenFields(rule, one.tz ?? "UTC");
  return scheduleForm(`Change ${one.name}`, "Change", [fields, overlapField(one.overlap)], area, (filled) => {
    const moved = filled.rule !== undefined && (filled.rule !== rule || (one.tz !== null && filled.tz !== one.tz));
    return patch(schedulePath(one.name), { overlap: filled.overlap, data: JSON.parse(area.read()), ...(moved && ruleOf(filled.rule, filled.tz)) });
  }, "Changed");
}
