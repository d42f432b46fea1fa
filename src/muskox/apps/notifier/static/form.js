// What the forms of our pages share: sending JSON, and saying what is wrong beside the field.

export async function send(form, url, body) {
  const button = form.querySelector("button[type=submit]");
  clear(form);
  button.disabled = true;
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const told = answer.status === 204 ? {} : await answer.json();
    if (answer.ok) return told;
    show(form, told);
  } catch {
    show(form, { detail: "The service gives no answer. Try again in a moment." });
  } finally {
    button.disabled = false;
  }
  return null;
}

export function fields(form) {
  return Object.fromEntries(new FormData(form));
}

function show(form, problem) {
  const line = form.querySelector(".error");
  const [first] = problem.errors ?? [];
  line.textContent = sentence(first?.message ?? problem.detail ?? "That did not work.");
  line.hidden = false;
  const input = first && form.elements[first.pointer.slice(1)];
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
}

function clear(form) {
  form.querySelector(".error").hidden = true;
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
