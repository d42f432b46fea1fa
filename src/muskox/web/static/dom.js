// Makes elements and brings a tree on the page to the likeness of a new one, without touching what
// stays the same: focus, selection and scrolling survive. All text becomes text nodes, so nothing that
// a user wrote is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) set(element, name, value);
  append(element, children);
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "key") element.keyOf = String(value);
  else if (name.startsWith("on")) {
    element[name] = value;
    (element.ears ??= {})[name] = value;
  } else if (name === "checked" || name === "value") {
    element[name] = value;
    (element.held ??= {})[name] = value;
  } else element.setAttribute(name, value === true ? "" : String(value));
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Make `old` like `fresh`; an element with data-own keeps its children and what is typed into it. */
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.keyOf !== fresh.keyOf) {
    old.replaceWith(fresh);
    return fresh;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  attributes(old, fresh);
  for (const name of Object.keys({ ...old.ears, ...fresh.ears })) old[name] = fresh.ears?.[name] ?? null;
  old.ears = fresh.ears;
  if (old.hasAttribute("data-own")) return old;
  if (document.activeElement !== old || old.type === "checkbox") Object.assign(old, fresh.held);
  descend(old, fresh);
  return old;
}

function attributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

function descend(old, fresh) {
  const keyed = new Map();
  for (const child of old.childNodes) if (child.keyOf !== undefined) keyed.set(child.keyOf, child);
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    let found = wanted.keyOf === undefined ? plain(at, wanted) : keyed.get(wanted.keyOf);
    if (found && found.nodeName !== wanted.nodeName) found = undefined;
    if (!found) {
      old.insertBefore(wanted, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else old.insertBefore(found, at);
    morph(found, wanted);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function plain(at, wanted) {
  const alike = at && at.keyOf === undefined && at.nodeName === wanted.nodeName && look(at) === look(wanted);
  return alike ? at : undefined;
}

/** The first class tells what an element is; those after it, how it is just now. */
function look(node) {
  return node.nodeType === Node.ELEMENT_NODE ? (node.getAttribute("class") ?? "").split(" ")[0] : "";
}
