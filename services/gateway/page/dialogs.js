// The small dialogs: which keys there are, under which name one reviews, and a note for a decision.

import { el } from "./dom.js";

const HELP = [
  ["Decide", [["A", "Confirm what is proposed"], ["1 ... 6", "It is one of the listed damages"], ["C", "It is something else"], ["P", "It is on another part or side"], ["R", "It is no damage; of a claim: it is not right"], ["B", "Of a claim: ask for a better photo"], ["D", "Draw a damage that is missing"], ["S", "Skip: somebody decides later"], ["U", "Undo the last decision (Ctrl Z too)"]]],
  ["Look", [["M", "Mask on and off"], ["F", "Zoom to the damage"], ["0", "The whole photo"], ["+ -", "Zoom"], ["N", "Next, where it was decided already"], ["?", "This list"]]],
];

export function openHelp(dialog) {
  const on = localStorage.getItem("claimsight-keys") !== "off";
  dialog.replaceChildren(el("form", { method: "dialog" }, el("h2", { id: "help-title" }, "Keys"),
    el("div", { class: "keys" }, HELP.map(([title, keys]) => el("section", {}, el("h3", {}, title), el("dl", {}, keys.flatMap(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)]))))),
    el("label", { class: "pick" }, el("input", { type: "checkbox", checked: on, onchange: (event) => localStorage.setItem("claimsight-keys", event.target.checked ? "on" : "off") }), "Single keys decide"),
    el("p", { class: "soft small" }, "The order: most informative first. The score is the mean of how unsure the second opinion is (entropy), how much it gives to another damage, and how far the nearest past case is. On the photo: wheel or pinch zooms, dragging moves; D draws a box from corner to corner, or by arrows (Shift resizes) and Enter."),
    el("div", { class: "buttons" }, el("button", { class: "primary", autofocus: true }, "Back to work"))));
  dialog.showModal();
}

export function openName(dialog, current, changed) {
  const field = el("input", { name: "name", value: current ?? "", maxlength: 80, autocomplete: "name", required: true, pattern: ".*\\S.*" });
  const form = el("form", { method: "dialog" }, el("h2", { id: "name-title" }, "Who is reviewing?"), el("label", { class: "field" }, "Name", field),
    el("p", { class: "soft small" }, "It stands beside every decision and tells others whose finding is open. It stays in this browser."),
    el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"), el("button", { value: "save", class: "primary" }, "Save")));
  form.addEventListener("submit", (event) => event.submitter?.value === "save" && changed(field.value.trim()));
  dialog.replaceChildren(form);
  dialog.showModal();
}

/** Ask for a few words; resolves to them ("" where none are needed), or to null. */
export function openNote(dialog, { title, hint, suggestions = [], required }) {
  return new Promise((resolve) => {
    const field = el("input", { name: "note", maxlength: 300, autocomplete: "off", required, pattern: required ? ".*\\S.*" : null });
    const quick = suggestions.map((text) => el("button", { type: "button", class: "chip", onclick: () => { field.value = text; field.focus(); } }, text));
    const form = el("form", { method: "dialog" }, el("h2", { id: "note-title" }, title), el("label", { class: "field" }, hint, field), quick.length > 0 && el("div", { class: "chips" }, quick),
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"), el("button", { value: "save", class: "primary" }, "Save")));
    dialog.replaceChildren(form);
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "save" ? field.value.trim() : null), { once: true });
    dialog.showModal();
    field.focus();
  });
}
