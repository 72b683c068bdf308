// A claim under review as a whole: nothing was found on it, or a photo failed. All its photos, and why it is here.

import { el } from "./dom.js";

const DONE = { accept: "Agreed: nothing is missing", reject: "Rejected: it is not right", ask: "A better photo was asked for" };
const FAILED = { failed: "Unreadable", rejected: "Generated", canceled: "Canceled" };

/** What the case asks, in a few words. */
export function headline({ claim, decision }) {
  const codes = new Set((decision ? [] : claim.reasons).map((reason) => reason.code));
  if (codes.has("no_damage")) return "Nothing found?";
  if (codes.has("photo_failed")) return "Enough without that photo?";
  return "The whole claim";
}

/** Nodes of the panel; `act` has look(photo) and draw(). */
export function wholePanel(held, act) {
  const { claim, photos, photo, decision } = held;
  return [
    el("header", { class: "what" },
      el("p", { class: "kicker" }, claim.external_ref ?? claim.id, held.state === "done" && " · decided"),
      el("h1", {}, headline(held)),
      el("p", { class: "where" }, photos.length === 1 ? "One photo" : `${photos.length} photos`)),
    decision && el("p", { class: "decided" }, el("strong", {}, DONE[decision.action]), ` by ${decision.reviewer ?? "somebody"}, ${new Date(decision.at).toLocaleString()}.`, decision.note ? ` ${decision.note}` : ""),
    claim.reasons.length > 0 && el("ul", { class: "reasons" }, claim.reasons.map((reason) => el("li", {}, reason.text))),
    el("section", {}, el("h2", {}, "Photos"), el("div", { class: "shots" }, photos.map((shot, index) => tile(shot, index, shot.id === photo.id, act)))),
    held.state === "open" && el("section", {}, el("h2", {}, "Is a damage missing?"),
      el("button", { type: "button", class: "choice other draw", onclick: () => act.draw() }, el("kbd", {}, "D"), el("b", {}, "Draw it on the photo"), el("span", {}))),
    el("p", { class: "soft small" }, el("a", { href: `/?claim=${encodeURIComponent(claim.id)}` }, "The whole claim")),
  ].filter(Boolean);
}

function tile(photo, index, current, act) {
  const count = photo.findings.length;
  const said = FAILED[photo.status] ?? (count === 0 ? "Nothing found" : count === 1 ? "One damage" : `${count} damages`);
  return el("button", { type: "button", class: current ? "shot current" : "shot", "aria-pressed": current, "aria-label": `Photo ${index + 1}: ${said}`, onclick: () => act.look(photo) },
    photo.links.preview ? el("img", { src: photo.links.preview, alt: "", loading: "lazy" }) : el("span", { class: "blank" }, "×"),
    el("small", {}, el("kbd", {}, index + 1), ` ${said}`));
}
