// Limits of a queue and of its keys: how they stand, and forms to change them and to hold what must wait.

import { get, keyPath, post, put, queuePath } from "../api.js";
import { h } from "../dom.js";
import { ago, duration, number, plural } from "../format.js";
import { button, card, dialog, empty, link, note, pill } from "../parts.js";
import { keysHash, queueHash } from "../search.js";

/** The limits of one queue, for its page: `load` them, `card` and `buttons` show them. */
export function limitsOf(ctx, name) {
  let found = null;
  const load = async () => {
    found = await get(`${queuePath(name)}/limits`);
    ctx.refresh();
  };
  const limited = () => found && (found.rate || found.concurrency || found.key_rate || found.key_concurrency || found.max_waiting || found.held_until);
  return {
    load,
    /** Asked again only where there is something that moves. */
    again: async () => { if (limited()) await load(); },
    buttons: () => ctx.may("operate") && found && [
      button("Limits…", async () => { if (await change(name, found)) await load(); }),
      button("Hold…", async () => { if (await hold(name)) await load(); }),
    ],
    card: () => limited() && card(null, { class: "limits" },
      h("dl", { class: "stand" },
        found.held_until && stands("held", "Held", `ends ${ago(found.held_until, new Date(found.at))}`, ctx.may("operate") && button("Let go", async () => { await hold(name, { seconds: 0 }); await load(); }, { class: "tiny" })),
        found.rate && stands("rate", "Starts", said(found.rate), found.next_at ? `next ${ago(found.next_at, new Date(found.at))}` : `${number(found.tokens)} free now`),
        found.concurrency && stands("slots", "At once", `${number(found.active)} of ${number(found.concurrency)} run`, gauge(found.active, found.concurrency)),
        found.key_rate && stands("each", "Starts of each key", said(found.key_rate)),
        found.key_concurrency && stands("each", "At once of each key", number(found.key_concurrency)),
        found.max_waiting && stands("most", "May wait", plural(found.max_waiting, "job"), { reject: "more are refused", "drop-oldest": "the oldest give way", wait: "who adds more waits" }[found.when_full])),
      found.declared && h("p", { class: "soft small" }, "Code has declared limits; what is changed here stays until it declares others.")),
  };
}

const stands = (kind, name, value, more) =>
  h("div", { class: kind }, h("dt", {}, name), h("dd", {}, h("b", {}, value), more && (typeof more === "string" ? h("small", { class: "soft" }, more) : more)));
const gauge = (value, most) => h("progress", { max: most, value: Math.min(value, most), "aria-label": "slots in use" });
const said = (rate) => `${number(rate.limit)} per ${duration(rate.per)}${rate.burst > 1 ? `, ${number(rate.burst)} at once` : ""}`;

// --- forms ---------------------------------------------------------------------------

const field = (title, name, value, props = {}) =>
  h("label", {}, title, h("input", { name, type: "number", min: "1", step: "1", value: value ?? "", placeholder: "no limit", ...props }));

const rateFields = (title, name, rate) =>
  h("fieldset", { class: "rate" }, h("legend", {}, title),
    field("Jobs", `${name}_limit`, rate?.limit), field("per seconds", `${name}_per`, rate?.per, { min: "0.001", step: "any", placeholder: "1" }), field("burst", `${name}_burst`, rate?.burst, { placeholder: "even" }));

function rateOf(form, name) {
  const value = (part) => form.elements[`${name}_${part}`].value;
  if (!value("limit")) return null;
  return { limit: Number(value("limit")), per: Number(value("per")) || 1, burst: value("burst") ? Number(value("burst")) : null };
}

function form(title, fields, send, done) {
  return dialog(title, (close) => {
    const wrong = h("p", { class: "wrong", role: "alert" });
    const submit = async (event) => {
      event.preventDefault();
      try {
        close(await send(event.target));
        note(done);
      } catch (problem) {
        wrong.textContent = problem.said ?? problem.message;
      }
    };
    return h("form", { onsubmit: submit }, fields, wrong, h("footer", {}, h("button", { type: "button", onclick: () => close() }, "Leave it"), h("button", { class: "primary" }, "Put")));
  });
}

const change = (name, now) => form(`Limits of ${name}`, [
  rateFields("Starts, over all workers", "rate", now.rate),
  field("Run at once, over all workers", "concurrency", now.concurrency),
  rateFields("Starts of each key", "key_rate", now.key_rate),
  field("Run at once of each key", "key_concurrency", now.key_concurrency),
  h("div", { class: "side" }, field("May wait", "max_waiting", now.max_waiting),
    h("label", {}, "When that many wait", h("select", { name: "when_full" }, [["reject", "refuse more"], ["drop-oldest", "drop the oldest"], ["wait", "let who adds wait"]].map(([value, text]) => h("option", { value, selected: now.when_full === value }, text))))),
], (filled) => put(`${queuePath(name)}/limits`, {
  rate: rateOf(filled, "rate"), key_rate: rateOf(filled, "key_rate"), when_full: filled.elements.when_full.value,
  ...Object.fromEntries(["concurrency", "key_concurrency", "max_waiting"].map((one) => [one, filled.elements[one].value ? Number(filled.elements[one].value) : null])),
}), `The limits of ${name} hold from now on`);

async function hold(name, body = null, key = null) {
  const path = `${queuePath(name)}/hold`;
  if (body) return post(path, { ...body, key });
  return form(key === null ? `Hold ${name}` : `Hold ${key}`, [
    h("p", { class: "soft" }, "Nothing of it starts for so long; what runs goes on. A hold that lasts longer stays."),
    h("label", {}, "Seconds, 0 to end a hold", h("input", { name: "seconds", type: "number", min: "0", step: "any", required: true, value: "60" })),
  ], (filled) => post(path, { seconds: Number(filled.elements.seconds.value), key }), "Done");
}

// --- keys ----------------------------------------------------------------------------

export function keys(ctx, name) {
  let found = null;
  let cursor = null;
  let pages = 0;
  let beat = 0;
  const load = async (after = null) => {
    const page = await get(`${queuePath(name)}/keys`, { after });
    found = after ? [...found, ...page.keys] : page.keys;
    pages = after ? pages + 1 : 1;
    cursor = page.cursor;
    ctx.refresh();
  };
  return {
    title: `Keys of ${name}`,
    key: `keys ${name}`,
    start: () => load(),
    figures: () => {
      beat += 1;
      if (beat % 3 === 0 && pages === 1) load().catch(() => {});
    },
    render: () => [
      h("div", { class: "head" }, h("div", {}, h("p", { class: "crumbs" }, link("#/", "Overview"), " / ", link(queueHash(name), name), " / keys"), h("h1", { tabindex: "-1" }, "Keys"),
        h("p", { class: "soft" }, "Those that have jobs which have not ended, limits of their own, or a hold."))),
      card(null, {}, found && (found.length ? table(ctx, name, found, load) : empty("No job here has a key, and none has limits of its own.")),
        cursor && h("footer", { class: "bar" }, button("Show more", () => load(cursor), { class: "more" }))),
    ],
  };
}

function table(ctx, name, found, load) {
  const act = ctx.may("operate");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Keys" }, h("table", { class: "list" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Key"), ["Waiting", "Blocked", "Active"].map((title) => h("th", { scope: "col", class: "num" }, title)), ["Starts", "At once", "Turns"].map((title) => h("th", { scope: "col" }, title)), act && h("th", { scope: "col" }, h("span", { class: "unseen" }, "Actions")))),
    h("tbody", {}, found.map((one) => h("tr", { key: one.key },
      h("th", { scope: "row" }, one.key, " ", one.held_until && pill("delayed", "held")),
      [one.waiting, one.blocked, one.active].map((count) => h("td", { class: "num" }, number(count))),
      h("td", {}, one.rate ? said(one.rate) : "any", one.own_rate && h("small", { class: "soft" }, " its own"), one.next_at && h("small", { class: "soft" }, `, next ${ago(one.next_at, ctx.figures ? new Date(ctx.figures.at) : undefined)}`)),
      h("td", {}, one.concurrency ? number(one.concurrency) : "any", one.own_concurrency && h("small", { class: "soft" }, " its own")),
      h("td", {}, one.weight),
      act && h("td", { class: "num" }, h("span", { class: "pair" },
        button("Limits…", async () => { if (await changeKey(name, one)) await load(); }, { class: "tiny", "aria-label": `Limits of ${one.key}` }),
        one.held_until
          ? button("Let go", async () => { await hold(name, { seconds: 0 }, one.key); await load(); }, { class: "tiny", "aria-label": `Let go of ${one.key}` })
          : button("Hold…", async () => { if (await hold(name, null, one.key)) await load(); }, { class: "tiny", "aria-label": `Hold ${one.key}` }))))))));
}

const changeKey = (name, one) => form(`Limits of ${one.key}`, [
  rateFields("Starts; empty: as the queue says", "rate", one.own_rate === "unlimited" ? null : one.own_rate),
  h("label", { class: "check" }, h("input", { name: "any_rate", type: "checkbox", checked: one.own_rate === "unlimited" }), "any number of starts, whatever the queue says"),
  field("Run at once; empty: as the queue says", "concurrency", one.own_concurrency === "unlimited" ? null : one.own_concurrency, { placeholder: "as the queue says" }),
  h("label", { class: "check" }, h("input", { name: "any_concurrency", type: "checkbox", checked: one.own_concurrency === "unlimited" }), "any number at once, whatever the queue says"),
  field("Turns for each turn of others", "weight", one.weight, { max: "100", required: true }),
], ({ elements, ...rest }) => put(keyPath(name, one.key), {
  rate: elements.any_rate.checked ? "unlimited" : rateOf({ elements, ...rest }, "rate"),
  concurrency: elements.any_concurrency.checked ? "unlimited" : elements.concurrency.value ? Number(elements.concurrency.value) : null,
  weight: Number(elements.weight.value),
}), `The limits of ${one.key} hold from now on`);

export const keysLink = (name) => h("a", { href: keysHash(name) }, "Keys");
