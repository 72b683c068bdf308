// What was found, in words: the verdict on the claim and a card for every finding.

import { bar, el, percent, words } from "./dom.js";

const VERDICTS = {
  auto: ["auto", "Clear", "Nothing here asks for a person."],
  review: ["review", "Review", "A person should look at this claim."],
  failed: ["failed", "Failed", "The claim could not be assessed."],
  queued: ["busy", "Waiting", "The claim is in the queue."],
  processing: ["busy", "Looking", "The photos are being looked at."],
  canceled: ["", "Canceled", "The claim was stopped."],
  expired: ["failed", "Expired", "The claim was not concluded in time."],
};

export function verdict(claim) {
  const state = claim.summary ? claim.summary.route : claim.status;
  const [kind, label, sentence] = VERDICTS[state] ?? ["", claim.status, ""];
  const { done, total } = claim.progress;
  const reasons = claim.summary ? claim.summary.reasons.map((reason) => reason.text) : claim.error ? [claim.error.detail] : [];
  const fill = el("i");
  fill.style.width = `${(100 * done) / Math.max(total, 1)}%`;
  const names = new Map(claim.photos.flatMap((photo) => photo.findings).map((finding) => [finding.damage, finding.display.toLowerCase()]));
  const ahead = claim.queue && claim.queue.position ? ` ${claim.queue.position} before it.` : "";
  return [
    el(
      "header",
      {},
      el("span", { class: `badge ${kind}` }, label),
      el("h1", {}, sentence + ahead),
      el("span", { class: "id" }, claim.id),
    ),
    claim.completed_at === null &&
      el("div", { class: "progress", role: "progressbar", "aria-label": "Photos done", "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": done }, fill),
    reasons.length > 0 && el("ul", { class: "reasons" }, reasons.map((text) => el("li", {}, text))),
    claim.summary?.parts.length > 0 &&
      el("ul", { class: "chips", "aria-label": "Damaged parts" }, claim.summary.parts.map((part) =>
        el("li", {}, el("strong", {}, place(part)), ` ${part.damages.map((damage) => names.get(damage) ?? words(damage)).join(", ")}`))),
  ].filter(Boolean);
}

/** Cards of one photo; `light(id, on)` tells that a finding is pointed at. */
export function cards(photo, light) {
  if (photo.status === "queued") return [el("p", { class: "empty" }, "This photo is being looked at.")];
  if (photo.error) return [failure(photo)]; // failed, or rejected: made by a generator
  if (photo.status === "canceled") return [el("p", { class: "empty" }, "The claim was stopped before this photo was looked at.")];
  const found = photo.findings.map((finding) => card(finding, light));
  const notes = photo.reasons.map((reason) => el("p", { class: "empty" }, reason.text));
  if (found.length === 0) notes.unshift(el("p", { class: "empty" }, "No damage was found on this photo."));
  if (photo.lookalikes.length > 0) notes.push(lookalikes(photo.lookalikes));
  return [...found, ...notes];
}

function failure(photo) {
  return el("article", { class: "card failed" }, el("h3", {}, photo.error.title), el("p", {}, photo.error.detail));
}

function lookalikes(fakes) {
  const names = [...new Set(fakes.map((fake) => fake.display.toLowerCase()))].join(", ");
  return el("p", { class: "empty" }, `Looks like damage but is none: ${names}.`);
}

export function place(part) {
  const told = part.display.toLowerCase();
  return part.side && part.side !== "center" && !told.includes(part.side) ? `${part.display} (${part.side})` : part.display;
}

function card(finding, light) {
  const { opinion, fake } = finding;
  const on = finding.part ? place(finding.part) : "No part recognised";
  return el(
    "article",
    {
      class: `card ${finding.review?.action === "reject" ? "rejected" : finding.route}`, id: finding.id, tabindex: 0, "aria-label": `${finding.title}, ${on}`,
      onmouseenter: () => light(finding.id, true), onmouseleave: () => light(finding.id, false),
      onfocusin: () => light(finding.id, true), onfocusout: () => light(finding.id, false),
    },
    el(
      "header",
      {},
      el("div", {}, el("h3", {}, finding.title, " ", finding.review ? el("span", { class: "badge" }, CHECKED[finding.review.action]) : badge(finding.route)), el("p", { class: "where" }, on)),
      !finding.review && el("div", { class: "figure" }, percent(finding.title_confidence), " ", el("small", {}, "sure")),
    ),
    (finding.review || finding.route === "review") && el("p", { class: "person" },
      finding.review && `${finding.review.reviewer ?? "Somebody"}, ${new Date(finding.review.at).toLocaleString()}. ${finding.source === "human" ? "The models had missed it." : `The models had said: ${finding.review.before.display}.`}`, " ",
      el("a", { href: `/review?finding=${encodeURIComponent(finding.id)}` }, finding.review ? "Decide again" : "Review this finding")),
    finding.reasons.length > 0 && el("ul", { class: "reasons" }, finding.reasons.map((reason) => el("li", {}, reason.text))),
    el("ul", { class: "facts" }, facts(finding).map((fact) => el("li", {}, fact))),
    el(
      "details",
      {},
      el("summary", {}, "Why"),
      el("h4", {}, "First opinion, from the whole photo"),
      el("div", { class: "rows" }, bar(finding.display, finding.name_probability, true),
        finding.alternatives.slice(0, 2).map((other) => bar(other.display, other.score))),
      el("h4", {}, `Second opinion, from the damage alone (${SOURCES[opinion.source]})`),
      el("div", { class: "rows" }, ranked(opinion.probabilities).map(([name, p]) => bar(words(name), p, name === opinion.label))),
      el("h4", {}, "Share of each expert in it"),
      el("div", { class: "rows" }, opinion.gates.map((share, index) => bar(`Expert ${index + 1}`, share))),
      el("h4", {}, "Real or fake"),
      el("div", { class: "rows" }, bar(fake.display ? `Only ${fake.display.toLowerCase()}` : "Only looks like damage", fake.score)),
      finding.neighbours.length > 0 && [
        el("h4", {}, "Most similar past cases"),
        el("ul", { class: "near" }, finding.neighbours.map((near) =>
          el("li", {}, el("span", {}, `${words(near.label)}, ${near.source === "human" ? "checked by a person" : "from training"}`),
            el("span", { class: "soft" }, `${percent(1 - near.distance)} alike`)))),
      ],
    ),
  );
}

const CHECKED = { accept: "Confirmed", correct: "Corrected", reject: "Rejected", add: "Drawn by a person" };

const badge = (route) => el("span", { class: `badge ${route}` }, VERDICTS[route][1]);

const SOURCES = { model: "sure alone", blended: "together with past cases", review: "not sure" };

const ranked = (probabilities) =>
  Object.entries(probabilities).filter(([, p]) => p >= 0.005).sort((a, b) => b[1] - a[1]).slice(0, 6);

function facts(finding) {
  return [
    finding.size[0].toUpperCase() + finding.size.slice(1),
    `${(finding.area_share * 100).toFixed(1)} % of the photo`,
    finding.reasons.some(({ code }) => code === "looks_fake") ? "Possibly fake" : "Looks real",
    finding.opinion.agrees ? "Both opinions agree" : `Second opinion: ${words(finding.opinion.label)}`,
    finding.second_part && `${percent(finding.second_part.share)} on ${place(finding.second_part).toLowerCase()}`,
  ].filter(Boolean);
}
