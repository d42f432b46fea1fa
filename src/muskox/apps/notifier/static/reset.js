// Choosing a new password. The token goes from the address into the request and nowhere else.

import { fields, send } from "./form.js";

const form = document.getElementById("choose");
const token = new URLSearchParams(location.search).get("token") ?? "";
history.replaceState(null, "", "/auth/reset");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!(await send(form, "/auth/reset", { token, ...fields(form) }))) return;
  form.hidden = true;
  document.getElementById("done").hidden = false;
});
