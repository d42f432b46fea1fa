// Pieces that several pages are made of: pills, buttons, dialogs, notes, JSON with colours.

import { Problem } from "./api.js";
import { h, morph } from "./dom.js";
import { ago, full } from "./format.js";

export const STATES = ["waiting", "active", "delayed", "blocked", "failed", "completed", "cancelled"];

export const pill = (state, text = state) => h("span", { class: `pill ${state}` }, text);
export const when = (at, now) => (at ? h("time", { datetime: at, title: full(at) }, ago(at, now)) : "–");
export const link = (href, ...children) => h("a", { href }, ...children);
export const hidden = (text) => h("span", { class: "unseen" }, text);

export const card = (title, props, ...children) =>
  h("section", { ...props, class: `card ${props?.class ?? ""}` }, title && h("h2", {}, title), ...children);

export const empty = (text, ...more) => h("p", { class: "empty" }, text, ...more);

/** A button that is at rest while what it began goes on; problems become notes. */
export function button(text, onclick, props = {}) {
  return h("button", {
    type: "button", ...props,
    onclick: async (event) => {
      const pressed = event.currentTarget;
      if (pressed.getAttribute("aria-busy")) return;
      pressed.setAttribute("aria-busy", "true");
      try {
        await onclick(event);
      } catch (problem) {
        tell(problem);
      } finally {
        pressed.removeAttribute("aria-busy");
      }
    },
  }, text);
}

/** Show a note for some seconds, or a problem until it is closed. */
export function note(text, kind = "good") {
  const close = () => shown.remove();
  const shown = h("div", { class: `toast ${kind}` }, h("span", {}, text), h("button", { type: "button", "aria-label": "Close", onclick: close }, "×"));
  const place = document.getElementById("toasts");
  place.append(shown);
  while (place.children.length > 4) place.firstChild.remove();
  setTimeout(close, kind === "bad" ? 12_000 : 5000);
}

export function tell(problem) {
  if (problem instanceof Problem) note(problem.said, "bad");
  else throw problem;
}

/** Ask in a dialog; `make(close)` gives its content. Resolves with what `close` was given, null when it is left. */
export function dialog(title, make, { wide = false } = {}) {
  return new Promise((resolve) => {
    let answer = null;
    const close = (value = null) => {
      answer = value;
      shown.close();
    };
    const shown = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": "dialog-title" },
      h("header", {}, h("h2", { id: "dialog-title" }, title), h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => close() }, "×")),
      make(close));
    shown.onclose = () => {
      shown.remove();
      resolve(answer);
    };
    document.body.append(shown);
    shown.showModal();
  });
}

/** Ask whether to go on; `word` must be typed for what cannot be undone. */
export function confirm(title, text, yes, { danger = false, word = "" } = {}) {
  return dialog(title, (close) => {
    const sure = h("button", { type: "submit", class: danger ? "danger" : "primary", disabled: word !== "" }, yes);
    const typed = word && h("label", {}, `Type ${word} to go on`, h("input", { autocomplete: "off", oninput: (event) => { sure.disabled = event.target.value !== word; } }));
    return h("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); close(true); } },
      h("p", {}, text), typed, h("footer", {}, h("button", { type: "button", onclick: () => close() }, "Leave it"), sure));
  });
}

/** JSON text with colours. */
export function json(text) {
  if (text.length > 100_000) return h("pre", { class: "json", tabindex: "0" }, text);
  const parts = String(text).split(/("(?:[^"\\]|\\.)*"(?:\s*:)?|-?\d[\d.eE+-]*|\btrue\b|\bfalse\b|\bnull\b)/);
  return h("pre", { class: "json", tabindex: "0" }, h("code", {}, parts.map((part, at) => (at % 2 ? h("span", { class: kindOf(part) }, part) : part))));
}

function kindOf(part) {
  if (part.includes("••••••")) return "j-secret";
  if (part.startsWith('"')) return part.endsWith(":") ? "j-name" : "j-text";
  return /^[-\d]/.test(part) ? "j-number" : "j-word";
}

export function progress(value) {
  const share = typeof value === "number" ? Math.min(100, Math.max(0, value)) : null;
  if (share === null) return null;
  return h("span", { class: "progress" }, h("progress", { max: 100, value: share, "aria-label": "progress" }), h("small", {}, `${Math.round(share)} %`));
}

export const copy = (text) =>
  button("Copy", async () => {
    await navigator.clipboard.writeText(text);
    note("Copied");
  }, { class: "tiny" });

/** Put a tree in a place, in the likeness of what is there. */
export function show(place, ...children) {
  const fresh = place.cloneNode(false);
  fresh.append(...children.flat(Infinity).filter(Boolean));
  fresh.keyOf = place.keyOf;
  morph(place, fresh);
}
