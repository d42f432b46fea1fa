// Speaks with the interface: requests with their problems, and streams that rest while nobody looks.

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || "something went wrong");
    this.status = status;
    this.code = body.code || "";
    this.errors = body.errors || [];
  }

  /** What to tell somebody: the wrong fields by name where there are any. */
  get said() {
    return this.errors.length ? this.errors.map((one) => `${one.pointer.slice(1)}: ${one.message}`).join("; ") : this.message;
  }
}

export const get = (path, query) => ask("GET", path + asked(query));
export const post = (path, body = {}) => ask("POST", path, JSON.stringify(body));
export const patch = (path, body) => ask("PATCH", path, JSON.stringify(body));
export const put = (path, body) => ask("PUT", path, JSON.stringify(body));
export const remove = (path) => ask("DELETE", path);
/** As `post`, with `data` as the JSON text that somebody wrote, so that long numbers stay what they are. */
export const postData = (path, text) => ask("POST", path, `{"data":${text}}`);
/** As `post`, with a body that is JSON text already. */
export const postText = (path, text) => ask("POST", path, text);
export const patchData = (path, text) => ask("PATCH", path, `{"data":${text}}`);

const part = encodeURIComponent;
export const queuePath = (queue) => `api/queues/${part(queue)}`;
export const jobPath = (queue, id) => `${queuePath(queue)}/jobs/${part(id)}`;
export const keyPath = (queue, key) => `${queuePath(queue)}/keys/${part(key)}`;
export const flowPath = (id) => `api/flows/${part(id)}`;
export const schedulePath = (name) => `api/schedules/${part(name)}`;

function asked(query) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) if (value || value === 0) said.append(name, value);
  return said.size ? `?${said}` : "";
}

async function ask(method, path, body) {
  const headers = { "Muskox-Request": "1", Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body });
  } catch {
    throw new Problem(0, { code: "unreachable", detail: "the dashboard does not answer" });
  }
  const text = await answer.text();
  let read = null;
  try {
    read = text ? JSON.parse(text) : null;
  } catch {
    read = { detail: `an answer that cannot be read (${answer.status})` };
  }
  if (!answer.ok) {
    if (answer.status === 401) window.dispatchEvent(new Event("muskox:signed-out"));
    throw new Problem(answer.status, read ?? {});
  }
  return read;
}

/** Follow a stream; `ears` are called by the name of the message. Returns what ends it. */
export function follow(path, ears, onState = () => {}) {
  let source = null;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(path);
    source.onopen = () => onState("open");
    source.onerror = () => {
      onState("broken");
      // A refusal ends a stream for good; asking once more tells whether nobody is signed in any more.
      if (source?.readyState === EventSource.CLOSED) {
        source = null;
        again = setTimeout(open, 3000);
        get("api/overview").catch(() => {});
      }
    };
    for (const [name, hear] of Object.entries(ears)) source.addEventListener(name, (event) => hear(JSON.parse(event.data)));
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const turn = () => (document.hidden ? close() : open());
  let again = 0;
  document.addEventListener("visibilitychange", turn);
  open();
  return () => {
    clearTimeout(again);
    document.removeEventListener("visibilitychange", turn);
    close();
  };
}
