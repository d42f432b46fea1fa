// The list of mails: new ones appear as they land.

const list = document.getElementById("mails");
const empty = document.getElementById("empty");
const { to, subject } = list.dataset;

async function watch() {
  for (;;) {
    const after = list.firstElementChild?.dataset.id ?? "";
    const query = new URLSearchParams({ to, subject, after, timeout: "30" });
    try {
      const answer = await fetch(`/dev/inbox/wait?${query}`);
      if (answer.ok) show(await answer.json());
      else if (answer.status !== 408) await pause(3000);
    } catch {
      await pause(3000);
    }
  }
}

function show(mail) {
  const link = document.createElement("a");
  link.href = mail.links.page;
  link.append(part("span", "subject", mail.subject), part("span", "who", mail.to));
  const time = part("time", "", new Date(mail.received_at).toUTCString().slice(5, 25) + " UTC");
  time.dateTime = mail.received_at;
  link.append(time);
  const item = document.createElement("li");
  item.dataset.id = mail.id;
  item.append(link);
  list.prepend(item);
  document.getElementById("none").hidden = true;
  empty.hidden = false;
}

function part(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

function pause(milliseconds) {
  return new Promise((go) => setTimeout(go, milliseconds));
}

empty.addEventListener("click", async () => {
  if (!confirm("Throw all mails away?")) return;
  await fetch("/dev/inbox/messages", { method: "DELETE" });
  location.reload();
});

watch();
