// Numbers, durations and moments for people. Nothing here touches the page.

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const number = (value) => whole.format(value ?? 0);
export const short = (value) => (value < 10_000 ? whole.format(value) : compact.format(value));
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const full = (at) => (at ? moment.format(new Date(at)) : "");
export const time = (at) => (at ? clock.format(new Date(at)) : "");

export function rate(perSecond) {
  if (!perSecond) return "0/s";
  if (perSecond >= 100) return `${whole.format(perSecond)}/s`;
  return perSecond >= 1 ? `${perSecond.toFixed(1)}/s` : `${(perSecond * 60).toFixed(1)}/min`;
}

/** Seconds in words; with `parts` 1 in one unit alone. */
export function duration(seconds, parts = 2) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return "<1 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Number.isInteger(seconds) ? seconds : seconds.toFixed(1)} s`;
  for (const [size, name, below, smaller] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (seconds >= size) {
      const rest = Math.floor((seconds % size) / below);
      return `${Math.floor(seconds / size)} ${name}${rest && parts > 1 ? ` ${rest} ${smaller}` : ""}`;
    }
  }
  return `${Math.round(seconds)} s`;
}

/** How long ago, or in how long, by the clock of the store where `now` is given. */
export function ago(at, now = Date.now()) {
  if (!at) return "–";
  const seconds = (now - new Date(at)) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `${duration(Math.floor(seconds))} ago` : `in ${duration(Math.ceil(-seconds))}`;
}

export const shortId = (id) => (id.length > 18 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id);
