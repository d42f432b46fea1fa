// Name and password, where there are any; else what to do.

import { post } from "../api.js";
import { h } from "../dom.js";

export function signIn(ctx, begin) {
  let wrong = "";
  const submit = async (event) => {
    event.preventDefault();
    const { name, password, go } = event.target.elements;
    go.disabled = true;
    try {
      await post("api/login", { name: name.value, password: password.value });
      await begin();
    } catch (problem) {
      wrong = problem.said ?? String(problem);
      ctx.refresh();
      document.querySelector(".sign-in input[name=password]")?.select();
    } finally {
      go.disabled = false;
    }
  };
  const form = () => h("form", { onsubmit: submit },
    h("label", {}, "Name", h("input", { name: "name", autocomplete: "username", required: true, autofocus: true, maxlength: 64 })),
    h("label", {}, "Password", h("input", { name: "password", type: "password", autocomplete: "current-password", required: true, maxlength: 1024 })),
    wrong && h("p", { class: "wrong", role: "alert" }, wrong),
    h("button", { name: "go", class: "primary" }, "Sign in"));
  return {
    title: "Sign in",
    render: () => h("div", { class: "card sign-in" },
      h("img", { src: "static/muskox.svg", alt: "", width: 64, height: 64 }),
      h("h1", { tabindex: "-1" }, ctx.session.title),
      ctx.session.sign_in ? form() : h("p", {}, "This dashboard answers only who it knows, and has no passwords to sign in with. Ask whoever runs it.")),
  };
}
