// A finding under review, in words: what it may be, where, why it is here, what the experts and past cases say.

import { bar, el, percent, words } from "./dom.js";
import { place } from "./findings.js";

/** Nodes of the panel; `act` has choose(candidate) and change(). */
export function panel(held, vocabulary, act) {
  const { finding, photo, claim } = held;
  const candidates = vocabulary.candidates(finding);
  return [
    el("header", { class: "what" },
      el("p", { class: "kicker" }, claim.external_ref ?? claim.id, held.state === "done" && " · decided"),
      el("h1", {}, finding.review ? finding.title : `${finding.display}?`),
      el("p", { class: "where" }, finding.part ? place(finding.part) : "No part recognised", " ",
        held.state === "open" && el("button", { type: "button", class: "link", onclick: () => act.change("part") }, "change", el("kbd", {}, "P")))),
    finding.review && decision(finding, held),
    finding.reasons.length > 0 && el("ul", { class: "reasons" }, finding.reasons.map((reason) => el("li", {}, reason.text))),
    held.state === "open" && section("What is it?", el("div", { class: "choices" }, candidates.map((candidate, index) => choice(candidate, index, finding, act)),
      el("button", { type: "button", class: "choice other", onclick: () => act.change("damage") }, el("kbd", {}, "C"), el("b", {}, "Something else"), el("span", {})))),
    section("Past cases like this", el("div", { id: "similar", class: "similar", "aria-busy": "true" }, el("p", { class: "soft" }, "Looking them up."))),
    section("Real, or only looks like it", bar(finding.fake.display ? `Only ${finding.fake.display.toLowerCase()}` : "No damage at all", finding.fake.score)),
    section("Which experts spoke", el("div", { class: "gates" }, finding.opinion.gates.map(gate))),
    el("p", { class: "soft small" }, because(held), " ", el("a", { href: `/?claim=${encodeURIComponent(claim.id)}` }, "The whole claim"),
      photo.width ? ` · photo of ${photo.width} × ${photo.height}` : ""),
  ].filter(Boolean);
}

const section = (title, ...content) => el("section", {}, el("h2", {}, title), ...content);

function choice(candidate, index, finding, act) {
  const fill = el("i");
  fill.style.width = `${Math.min(1, candidate.share) * 100}%`;
  return el("button", {
    type: "button", class: candidate.damage === finding.damage ? "choice own" : "choice", "aria-keyshortcuts": index + 1,
    "aria-label": `${candidate.display}, ${percent(candidate.share)}${candidate.by && `, says the ${candidate.by}`}`, onclick: () => act.choose(candidate),
  }, el("kbd", {}, index + 1), el("b", {}, candidate.display, candidate.by && el("small", {}, candidate.by)),
    el("span", { class: "meter" }, fill), el("span", { class: "share" }, percent(candidate.share)));
}

function gate(share, index) {
  const fill = el("i");
  fill.style.height = `${Math.max(2, share * 100)}%`;
  return el("div", { class: "gate", role: "meter", "aria-label": `Expert ${index + 1}`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share * 100), title: `Expert ${index + 1}: ${percent(share)}` },
    el("span", {}, fill), el("small", {}, `E${index + 1}`, el("br"), percent(share)));
}

/** The three signals that put it where it stands in the queue. */
function because({ informative }) {
  const told = [["unsure", informative.uncertainty], ["opinions differ", informative.disagreement], ["new to the memory", informative.novelty]];
  return `Why now: ${told.map(([name, value]) => `${name} ${percent(value)}`).join(", ")}.`;
}

const DONE = { accept: "Confirmed", correct: "Corrected", reject: "Rejected as no damage", add: "Drawn" };
const LEARNED = { kept: "The memory learned it.", wanted: "The memory learns it as soon as it can be reached.", refused: "The memory did not take it:", none: "Nothing to learn from it." };

function decision(finding, held) {
  const { review } = finding;
  const before = finding.source === "human" || review.before.damage === finding.damage ? "" : ` Before: ${review.before.display}.`;
  return el("p", { class: "decided" }, el("strong", {}, DONE[review.action]), ` by ${review.reviewer ?? "somebody"}, ${new Date(review.at).toLocaleString()}.${before} `,
    LEARNED[held.memory] ?? "", held.memory_note ? ` ${held.memory_note}` : "");
}

/** Past cases, the nearest first; a picture is only there where it is a reviewed crop of one's own. */
export function similar(cases) {
  if (cases.length === 0) return [el("p", { class: "soft" }, "Nothing in the memory comes near.")];
  const pictured = cases.filter((near) => near.picture);
  const others = cases.filter((near) => !near.picture);
  const said = (near) => (near.source === "human" ? "a person said so" : near.source === "model" ? "a model said so" : "from training");
  return [
    pictured.length > 0 && el("div", { class: "tiles" }, pictured.map((near) => el("figure", {},
      el("img", { src: `${near.picture}?side=192`, alt: `Reviewed crop: ${words(near.label)}`, loading: "lazy" }),
      el("figcaption", {}, el("b", {}, words(near.label)), el("small", {}, `${percent(1 - near.distance)} alike, ${said(near)}`))))),
    others.length > 0 && el("ul", { class: "near" }, others.map((near) =>
      el("li", {}, el("span", {}, words(near.label), " ", el("small", {}, said(near))), el("span", { class: "soft" }, `${percent(1 - near.distance)} alike`)))),
  ].filter(Boolean);
}
