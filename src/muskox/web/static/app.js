// The shell: who is signed in, which page is shown, the figures of all, search and keys.

import { follow, get, post } from "./api.js";
import { h } from "./dom.js";
import { short, time } from "./format.js";
import { bindKeys, showKeys } from "./keys.js";
import { button, note, show, tell } from "./parts.js";
import { search } from "./search.js";
import { audit } from "./pages/audit.js";
import { flow, flows } from "./pages/flows.js";
import { job } from "./pages/job.js";
import { keys } from "./pages/limits.js";
import { live } from "./pages/live.js";
import { overview } from "./pages/overview.js";
import { queue } from "./pages/queue.js";
import { schedule, schedules } from "./pages/schedules.js";
import { signIn } from "./pages/sign-in.js";
import { workers } from "./pages/workers.js";

const ROLES = ["view", "operate", "admin"];

/** What pages may use: `figures` is the latest overview, `may` says whether a role is enough. */
const ctx = {
  session: null,
  figures: null,
  link: "away",
  may: (role) => ROLES.indexOf(ctx.session?.role) >= ROLES.indexOf(role),
  refresh: () => render(),
  go: (hash) => { location.hash = hash; },
};

let page = null;
let stopFigures = () => {};
const shell = document.getElementById("shell");

// --- pages -------------------------------------------------------------------------

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map(decoded);
  const said = new URLSearchParams(query);
  if (parts[0] === "queues" && parts[2] === "jobs") return job(ctx, parts[1], parts[3]);
  if (parts[0] === "queues" && parts[2] === "keys") return keys(ctx, parts[1]);
  if (parts[0] === "queues" && parts[1]) return queue(ctx, parts[1], said);
  if (parts[0] === "flows" && parts[1]) return flow(ctx, parts[1], said);
  if (parts[0] === "schedules") return parts[1] ? schedule(ctx, parts[1]) : schedules(ctx);
  return { workers, flows, live, audit, "": overview }[parts[0]]?.(ctx, said) ?? overview(ctx);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function open({ focus = true } = {}) {
  page?.stop?.();
  page = ctx.session?.role ? route() : signIn(ctx, begin);
  const opened = page;
  document.body.classList.remove("menu");
  render();
  if (focus) document.querySelector("h1")?.focus();
  try {
    await opened.start?.();
  } catch (problem) {
    opened.problem = problem;
    if (!("status" in problem)) throw problem;
  }
  if (page === opened) render();
}

function render() {
  const signed = Boolean(ctx.session?.role);
  document.title = `${page.title} · ${ctx.session?.title ?? "Muskox"}`;
  const body = page.problem && page.problem.status !== 401
    ? h("div", { class: "card wrong", role: "alert" }, h("h1", { tabindex: "-1" }, page.problem.status === 404 ? "Not here" : "That did not work"), h("p", {}, page.problem.said))
    : page.render();
  show(shell, signed && header(), signed && rail(), h("main", { id: "main", key: page.key ?? page.title, tabindex: "-1" }, body));
}

// --- around them ---------------------------------------------------------------------

function header() {
  const said = { open: "live", away: "store away", broken: "no connection" }[ctx.link];
  return h("header", { class: "top" },
    h("button", { type: "button", class: "quiet burger", "aria-label": "Menu", "aria-expanded": String(document.body.classList.contains("menu")), onclick: () => { document.body.classList.toggle("menu"); render(); } }, "☰"),
    h("a", { class: "brand", href: "#/" }, h("img", { src: "static/muskox.svg", alt: "", width: 30, height: 30 }), ctx.session.title),
    h("form", { role: "search", class: "find", "data-own": true, onsubmit: (event) => { event.preventDefault(); search(ctx, event.target.elements.find.value.trim()).catch(tell); } },
      h("input", { name: "find", type: "search", placeholder: "Job id or queue", "aria-label": "Find a job by its id, or a queue", autocomplete: "off", spellcheck: "false" }), h("kbd", { "aria-hidden": "true" }, "/")),
    h("span", { class: `link ${ctx.link}`, title: ctx.figures ? `figures as of ${time(ctx.figures.at)}` : "" }, h("i", {}), said),
    ctx.session.read_only && h("span", { class: "pill" }, "read-only"),
    ctx.session.means === "password"
      ? button(`Sign out ${ctx.session.name}`, signOut, { class: "quiet" })
      : h("span", { class: "who" }, ctx.session.name));
}

function rail() {
  const here = location.hash.split("?")[0] || "#/";
  const item = (href, text, ...more) => h("li", {}, h("a", { href, "aria-current": here === href ? "page" : null }, h("span", {}, text), more));
  return h("nav", { class: "rail", "aria-label": "Pages" },
    h("ul", {}, item("#/", "Overview"), item("#/workers", "Workers", count(ctx.figures?.workers)), item("#/schedules", "Schedules"), item("#/flows", "Flows"), item("#/live", "Live events"), ctx.may("admin") && item("#/audit", "Changes")),
    h("h2", {}, "Queues"),
    h("ul", { class: "lines" }, (ctx.figures?.queues ?? []).map((one) => item(`#/queues/${encodeURIComponent(one.name)}`, one.name,
      one.paused && h("small", { class: "pill delayed", title: "paused" }, h("span", { "aria-hidden": "true" }, "❚❚"), h("span", { class: "unseen" }, "paused")), one.states.failed > 0 && count(one.states.failed, "failed"), count(one.states.waiting + one.states.active)))),
    h("p", { class: "foot" }, button("Keys ?", async () => showKeys(), { class: "quiet tiny" })));
}

const count = (value, kind = "") => h("small", { class: `count ${kind}`, title: kind || null }, value === undefined ? "" : short(value));

async function signOut() {
  await post("api/logout");
  ctx.session = await get("api/session");
  stopFigures();
  await open();
}

// --- the beginning ----------------------------------------------------------------------

async function begin() {
  ctx.session = await get("api/session");
  stopFigures();
  if (ctx.session.role) {
    stopFigures = follow("api/live", {
      overview: (figures) => {
        ctx.figures = figures;
        ctx.link = "open";
        page.figures?.();
        render();
      },
      away: () => { ctx.link = "away"; render(); },
    }, (state) => {
      if (state === "broken") { ctx.link = "broken"; render(); }
    });
  }
  await open({ focus: false });
}

// Before it is known who is signed in, the beginning opens whatever page is asked for by then.
window.addEventListener("hashchange", () => ctx.session && open());
window.addEventListener("muskox:signed-out", async () => {
  if (!ctx.session?.role) return;
  ctx.session = await get("api/session");
  if (ctx.session.role) return;
  stopFigures();
  note("You are not signed in any more", "bad");
  await open();
});
bindKeys(ctx);
begin().catch((problem) => {
  show(shell, h("main", { id: "main" }, h("h1", {}, "No answer"), h("p", {}, problem.message)));
});

