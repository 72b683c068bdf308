// The gateway asks for a key once there is one: a dialog for it. The browser keeps it until it is closed.

import { el } from "./dom.js";

let asking = null;

/** Ask for a key and keep it in a cookie of this site only: pictures can carry no header. */
export function askForKey(why) {
  asking ??= new Promise((resolve) => {
    const field = el("input", { type: "password", name: "key", autocomplete: "current-password", required: true, pattern: "csk_[A-Za-z0-9]{12}_[A-Za-z0-9_\\-]{43}", title: "csk_ and 56 more characters", placeholder: "csk_...", "aria-describedby": "key-why" });
    const form = el("form", { method: "dialog" },
      el("h2", { id: "key-title" }, "Your key, please"), el("p", { id: "key-why", class: "soft" }, why),
      el("label", { class: "field" }, "API key", field), el("div", { class: "buttons" }, el("button", { class: "primary" }, "Open")));
    const dialog = el("dialog", { class: "sheet-dialog", "aria-labelledby": "key-title" }, form);
    form.addEventListener("submit", () => {
      const secure = location.protocol === "https:" ? "; Secure" : "";
      document.cookie = `claimsight_key=${field.value.trim()}; Path=/; SameSite=Strict${secure}`;
    });
    dialog.addEventListener("close", () => { dialog.remove(); asking = null; resolve(); });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
