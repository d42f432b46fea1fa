// One mail: tabs for its parts, two widths for its HTML, and how a dark screen shows it.

const tabs = [...document.querySelectorAll("[role=tab]")];
const frame = document.getElementById("frame");

function choose(tab) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  });
}

for (const name of ["wide", "phone"]) {
  document.getElementById(name).addEventListener("click", () => {
    frame.classList.toggle("phone", name === "phone");
    document.getElementById("wide").setAttribute("aria-pressed", String(name === "wide"));
    document.getElementById("phone").setAttribute("aria-pressed", String(name === "phone"));
  });
}

const dark = document.getElementById("dark");
dark.addEventListener("click", () => {
  const on = dark.getAttribute("aria-pressed") !== "true";
  dark.setAttribute("aria-pressed", String(on));
  const url = new URL(frame.src);
  if (on) url.searchParams.set("dark", "true");
  else url.searchParams.delete("dark");
  frame.src = url.pathname + url.search;
});
