// The page at "/media": sends files, follows their jobs as the server tells of them, and shows what has come of them.

const find = (id) => document.getElementById(id);
const OVER = new Set(["completed", "failed", "cancelled"]);
const form = find("upload");

find("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = "";
});
form.addEventListener("submit", (event) => event.preventDefault());
for (const kind of ["dragenter", "dragover"]) {
  form.addEventListener(kind, (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) form.addEventListener(kind, () => form.classList.remove("over"));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});

function take(files) {
  say("");
  for (const file of files) new Work(file).send();
}

function say(text, tone = "") {
  find("said").textContent = text;
  find("said").dataset.tone = tone;
}

function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let at = 0;
  while (bytes >= 1000 && at < units.length - 1) {
    bytes /= 1000;
    at += 1;
  }
  return `${bytes >= 100 || at === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[at]}`;
}

class Work {
  constructor(file) {
    this.sent = file;
    this.item = find("work").content.firstElementChild.cloneNode(true);
    this.part("name").textContent = file.name;
    this.part("facts").textContent = size(file.size);
    this.part("cancel").addEventListener("click", () => this.cancel());
    find("works").prepend(this.item);
    this.bar = this.item.querySelector("progress");
    this.bar.setAttribute("aria-label", `Progress of ${file.name}`);
  }

  part(name) {
    return this.item.querySelector(`.${name}`);
  }

  tell(state, text, percent) {
    this.item.dataset.state = state;
    this.part("state").textContent = text;
    if (percent === null) this.bar.removeAttribute("value");
    else if (percent !== undefined) this.bar.value = percent;
  }

  // XMLHttpRequest, as fetch does not tell how much has been sent.
  send() {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("file", this.sent);
    this.tell("sending", "Sending", 0);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) this.tell("sending", "Sending", (event.loaded / event.total) * 100);
    });
    request.addEventListener("load", () => this.answered(request));
    request.addEventListener("error", () => this.tell("failed", "Not sent: the connection broke off", 100));
    request.open("POST", "/files");
    request.responseType = "json";
    request.send(body);
  }

  answered(request) {
    const answer = request.response;
    if (request.status >= 400 || !answer?.file) {
      this.tell("failed", `Refused: ${answer?.detail ?? `the server said ${request.status}`}`, 100);
      return;
    }
    this.file = answer.file;
    const { width, height, duration } = answer.file;
    const facts = [size(answer.file.bytes)];
    if (width) facts.unshift(`${width} × ${height}`);
    if (duration) facts.push(`${duration.toFixed(1)} s`);
    this.part("facts").textContent = facts.join(" · ");
    this.job = answer.job;
    this.show(answer.job);
    if (!OVER.has(answer.job.state)) this.follow();
  }

  follow() {
    const source = new EventSource(this.job.links.events);
    source.addEventListener("state", (event) => this.show(JSON.parse(event.data)));
    source.addEventListener("progress", (event) => this.progress(JSON.parse(event.data).value));
    source.addEventListener("end", (event) => {
      source.close();
      this.show(JSON.parse(event.data));
    });
  }

  progress(value) {
    const percent = typeof value === "object" && value !== null ? value.percent : value;
    if (!OVER.has(this.item.dataset.state)) this.tell("active", this.word("active", percent, value?.eta_s), percent);
  }

  word(state, percent, eta) {
    const words = { waiting: "Waiting for a worker", delayed: "Will be tried again", active: "At work" };
    const parts = [words[state] ?? state];
    if (state === "active" && typeof percent === "number") parts.push(`${Math.round(percent)} %`);
    if (state === "active" && eta) parts.push(`${Math.ceil(eta)} s left`);
    return parts.join(" · ");
  }

  show(job) {
    this.job = job;
    const over = OVER.has(job.state);
    this.part("cancel").hidden = over;
    if (!over) {
      const text = this.word(job.state, job.progress, job.eta_s);
      this.tell(job.state, job.attempt > 1 ? `${text} · attempt ${job.attempt}` : text, job.progress);
    } else if (job.state === "completed") {
      this.tell("completed", job.cached ? "Done: it was there already" : "Done", 100);
      this.results(job.outputs);
    } else if (job.state === "cancelled") {
      this.tell("cancelled", "Cancelled", 0);
    } else {
      this.tell("failed", `Failed: ${job.error?.text ?? "nobody knows why"}`, 100);
    }
  }

  results(outputs) {
    const video = this.file.kind === "video";
    const after = outputs.find((output) => /^(processed|video)\./.test(output.name)) ?? outputs[0];
    if (!after) return;
    this.figure("before", video ? null : this.file.links.original, "Before", this.file.bytes, this.file);
    this.figure("after", after.url, "After", after.bytes, after, outputs.find((one) => one.name === "poster.jpg"));
    const caption = this.part("after").querySelector("figcaption");
    const saved = 1 - after.bytes / this.file.bytes;
    const note = document.createElement("b");
    if (after.kept_original) note.textContent = " · it was small enough already";
    else if (saved > 0.005) note.textContent = ` · ${Math.round(saved * 100)} % smaller`;
    caption.append(note);
    this.part("before").hidden = video;
    this.part("pair").hidden = false;
    this.part("outputs").replaceChildren(...outputs.map((output) => this.link(output)));
  }

  figure(name, url, word, bytes, facts, poster) {
    const frame = this.part(name).querySelector(".frame");
    const moving = facts.media_type?.startsWith("video/");
    if (url) {
      const shown = document.createElement(moving ? "video" : "img");
      if (moving) {
        shown.controls = true;
        shown.preload = "metadata";
        if (poster) shown.poster = poster.url;
      } else {
        shown.alt = `${this.file.name}, ${word.toLowerCase()}`;
      }
      shown.src = url;
      frame.replaceChildren(shown);
    }
    const parts = [word, size(bytes)];
    if (facts.width) parts.push(`${facts.width} × ${facts.height}`);
    this.part(name).querySelector("figcaption").textContent = parts.join(" · ");
  }

  link(output) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = output.url;
    link.textContent = output.name;
    item.append(link, ` ${size(output.bytes)}`);
    return item;
  }

  async cancel() {
    this.part("cancel").hidden = true;
    await fetch(this.job.links.self, { method: "DELETE" });
  }
}
