// The dialog that names a damage: another one, another part, the other side; or one that was just drawn.

import { el } from "./dom.js";

const SIDES = ["left", "center", "right"];

/**
 * Ask what it is; resolves to {damage, part, side} of what was changed, or null. `first` is where to begin.
 * Without a finding it is about a box that was drawn, which is likely on the part `guess`.
 */
export function choose(dialog, { finding, photo, guess = "" }, vocabulary, first) {
  const start = { damage: finding?.damage ?? "", part: finding?.part?.name ?? "", side: finding?.part?.side ?? null };
  const wish = finding ? { ...start } : { ...start, part: guess, side: vocabulary.part.get(guess)?.side ?? null };
  return new Promise((resolve) => {
    const side = el("fieldset", { class: "sides" });
    const drawSide = () => {
      const known = vocabulary.part.get(wish.part);
      const fixed = known?.side && known.side !== "center" ? known.side : null;
      const mirror = vocabulary.mirror(wish.part);
      side.hidden = !wish.part || (!mirror && known?.side === "center");
      side.replaceChildren(el("legend", {}, "Side, seen from the driver's seat"), ...SIDES.filter((name) => !fixed || name !== "center").map((name) =>
        el("label", { class: "pick" }, el("input", { type: "radio", name: "side", value: name, checked: (fixed ?? wish.side) === name, onchange: () => {
          if (fixed && name !== fixed) { part.value = wish.part = mirror.name; }
          wish.side = name;
          drawSide();
        } }), name)));
    };
    const part = el("select", { name: "part", onchange: () => { wish.part = part.value; wish.side = vocabulary.part.get(wish.part)?.side ?? null; drawSide(); } }, ...parts(photo, vocabulary, wish.part));
    const search = el("input", { type: "search", placeholder: "Filter: rust, glass, ...", "aria-label": "Filter the damages", oninput: () => {
      for (const pick of list.children) pick.hidden = !pick.textContent.toLowerCase().includes(search.value.trim().toLowerCase());
    } });
    const likely = (finding ? vocabulary.candidates(finding) : []).map((candidate) => candidate.damage);
    const ordered = [...vocabulary.damages].sort((a, b) => rank(likely, a.name) - rank(likely, b.name) || vocabulary.taught.has(b.name) - vocabulary.taught.has(a.name));
    const list = el("div", { class: "picks", role: "radiogroup", "aria-label": "Damage" }, ordered.map((damage) =>
      el("label", { class: "pick" }, el("input", { type: "radio", name: "damage", required: true, value: damage.name, checked: damage.name === start.damage, onchange: () => { wish.damage = damage.name; } }), damage.display)));
    search.addEventListener("keydown", (event) => {
      const only = [...list.children].filter((pick) => !pick.hidden);
      if (event.key !== "Enter" || !search.value || only.length === 0) return;
      event.preventDefault(); // what the filter leaves first is taken; a second Enter saves
      only[0].querySelector("input").click();
      search.value = "";
      search.dispatchEvent(new Event("input"));
    });
    const form = el("form", { method: "dialog" },
      el("h2", { id: "choose-title" }, finding ? "What is it really?" : "What is it?"),
      el("fieldset", {}, el("legend", {}, "Damage"), search, list),
      el("label", { class: "field" }, "Part", part), side,
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"), el("button", { value: "save", class: "primary" }, finding ? "Save" : "Add")));
    drawSide();
    dialog.replaceChildren(form);
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "save" ? changes(start, wish, vocabulary) : null), { once: true });
    dialog.showModal();
    const typed = matchMedia("(pointer: fine)").matches; // on a phone the keyboard would cover the list
    if (first === "part" || typed) (first === "part" ? part : search).focus();
    else (list.querySelector(":checked") ?? list.querySelector("input"))?.focus();
  });
}

const rank = (likely, name) => (likely.indexOf(name) + 1 || 99);

/** Only what differs; a side is sent alone where the part's name does not say it. */
function changes(start, wish, vocabulary) {
  const changed = {};
  if (wish.damage !== start.damage) changed.damage = wish.damage;
  if (wish.part && wish.part !== start.part) changed.part = wish.part;
  if (wish.side && wish.side !== start.side && !vocabulary.part.get(wish.part)?.side) changed.side = wish.side;
  return changed;
}

/** Parts that the photo shows come first. */
function parts(photo, vocabulary, current) {
  const seen = new Set(photo.parts.map((part) => part.name));
  const option = (part) => el("option", { value: part.name, selected: part.name === current }, part.display);
  const group = (label, members) => members.length > 0 && el("optgroup", { label }, members.map(option));
  return [
    !current && el("option", { value: "", selected: true }, "Not recognised"),
    group("On this photo", vocabulary.parts.filter((part) => seen.has(part.name))),
    group("All others", vocabulary.parts.filter((part) => !seen.has(part.name))),
  ].filter(Boolean);
}
