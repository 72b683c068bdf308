// The review page: one finding after the other, by keyboard or by touch.

import { ask } from "./api.js";
import { panel, similar } from "./case.js";
import { choose } from "./choose.js";
import { Desk } from "./desk.js";
import { el } from "./dom.js";
import { openHelp, openName } from "./dialogs.js";
import { Viewer } from "./viewer.js";
import { Vocabulary } from "./vocabulary.js";

const $ = (id) => document.getElementById(id);
const LOOK_AGAIN_MS = 15_000;
const view = new Viewer($("viewer"), () => {});
const desk = new Desk(toast);
let vocabulary = new Vocabulary({});
let busy = false; // between two cases a key must not decide the wrong one
let idle = 0;

function toast(text, tone = "", undo = false) {
  $("live").textContent = text;
  const node = el("div", { class: `toast ${tone}` }, el("span", {}, text), undo && el("button", { type: "button", onclick: () => { node.remove(); act.undo(); } }, "Undo", el("kbd", {}, "U")),
    !undo && el("button", { type: "button", "aria-label": "Close", onclick: () => node.remove() }, "×"));
  if (tone === "bad") node.setAttribute("role", "alert");
  for (const old of document.querySelectorAll(".toast:not(.bad)")) old.remove();
  $("toasts").append(node);
  setTimeout(() => node.remove(), tone === "bad" ? 15_000 : 7000);
}

/** Show a case, or that nothing is left. */
async function show(held) {
  $("undo").disabled = desk.decided.length === 0 && desk.saving.size === 0;
  clearTimeout(idle);
  $("desk").hidden = !held;
  $("nothing").hidden = Boolean(held);
  document.title = held ? `${held.finding.display} - Review` : "Review - Claimsight";
  if (!held) return nothing();
  const { finding, photo } = held;
  history.replaceState({}, "", `/review?finding=${held.finding_id}`);
  $("case").replaceChildren(...panel(held, vocabulary, act));
  $("case").scrollTop = 0;
  $("actions").replaceChildren(...actions(held));
  view.focus = finding.id;
  view.detail = null;
  view.show(photo, photo.links.preview);
  view.image.decode?.().catch(() => {}).then(() => desk.current === held && view.frame(finding.box));
  view.frame(finding.box);
  $("live").textContent = `${finding.display} on ${finding.part?.display ?? "no known part"}. ${finding.reasons.map((reason) => reason.text).join(" ")}`;
  sharpen(held);
  recall(held);
}

/** Past cases like this. What was just decided is one already, so it is let in first. */
async function recall(held) {
  await Promise.all(desk.saving.values());
  await ask(held.links.similar).then(({ body }) => fill(held, similar(body.data)), (error) => fill(held, [el("p", { class: "soft" }, error.message)]));
}

/** Lay the close-up, which is cut from the photo as it came, over the preview. */
async function sharpen(held) {
  const picture = new Image();
  picture.src = held.links.crop;
  await picture.decode().catch(() => {});
  if (desk.current !== held || !picture.naturalWidth) return;
  view.detail = { box: held.crop, source: held.links.crop };
  view.draw();
}

function fill(held, nodes) {
  if (desk.current !== held) return;
  $("similar")?.replaceChildren(...nodes);
  $("similar")?.setAttribute("aria-busy", "false");
}

async function nothing() {
  history.replaceState({}, "", "/review");
  const { body: day } = await ask(today()).catch(() => ({ body: { done: 0, open: 0 } }));
  $("nothing").replaceChildren(el("h1", {}, day.open ? "The rest is in other hands." : "Nothing waits for you."),
    el("p", { class: "lead" }, day.done ? `${day.done} decided today. ` : "", "New findings appear here by themselves."),
    el("p", {}, el("a", { class: "button", href: "/" }, "Assess photos"), " ", desk.decided.length > 0 && el("button", { type: "button", class: "button", onclick: () => act.undo() }, "Undo the last decision")));
  idle = setTimeout(advance, LOOK_AGAIN_MS);
}

const today = () => `/v1/reviews/progress?since=${encodeURIComponent(new Date(new Date().setHours(0, 0, 0, 0)).toISOString())}`;

async function progress() {
  const { body: day } = await ask(today()).catch(() => ({ body: null }));
  if (!day) return;
  const fillBar = el("i");
  fillBar.style.width = `${(100 * day.done) / Math.max(1, day.done + day.open)}%`;
  $("day").replaceChildren(el("span", {}, el("b", {}, day.done), " today", el("span", { class: "soft" }, ` · ${day.open} left`)),
    el("div", { class: "progress", role: "progressbar", "aria-label": "Decided today", "aria-valuemin": 0, "aria-valuemax": day.done + day.open, "aria-valuenow": day.done }, fillBar));
}

/** One step at a time: what is pressed meanwhile is dropped, not applied to the next finding. */
async function step(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    toast(error.message, "bad");
  } finally {
    busy = false;
  }
}

const advance = () => step(async () => show(await desk.next()));

function decide(verdict, text) {
  return step(async () => {
    if (desk.current?.state !== "open") return;
    const saved = desk.decide(verdict, text).then((done) => done && progress());
    toast(text, "", true);
    await show(await desk.next());
    if (!desk.current) await saved.then(nothing);
  });
}

const act = {
  accept: () => desk.current && decide({ action: "accept" }, `Confirmed: ${desk.current.finding.display}`),
  reject: () => desk.current && decide({ action: "reject" }, "Rejected: no damage"),
  choose: (candidate) => (candidate.damage === desk.current.finding.damage ? act.accept() : decide({ action: "correct", damage: candidate.damage }, `Corrected: ${candidate.display}`)),
  async change(first) {
    const held = desk.current;
    if (held?.state !== "open" || $("choose").open) return;
    if (vocabulary.damages.length === 0) await learnNames();
    const wish = await choose($("choose"), held, vocabulary, first);
    if (!wish || desk.current !== held) return;
    const named = [vocabulary.damages.find((one) => one.name === wish.damage)?.display, vocabulary.part.get(wish.part)?.display, wish.side].filter(Boolean).join(", ");
    if (named) decide({ action: "correct", ...wish }, `Corrected: ${named}`);
    else act.accept();
  },
  skip: () => step(async () => {
    if (desk.current?.state !== "open") return;
    await desk.skip();
    toast("Skipped: it comes back later");
    await show(await desk.next());
  }),
  undo: () => step(async () => {
    const back = await desk.undo();
    if (!back) return toast("Nothing to undo in this tab");
    toast(`Taken back: ${back.finding.display} is open again`);
    await Promise.all([show(back), progress()]);
  }),
  undoThis: () => step(async () => {
    await Promise.all([show(await desk.undo(desk.current.finding_id)), progress()]);
  }),
};

function actions(held) {
  const button = (kind, key, text, run, hint) => el("button", { type: "button", class: `act ${kind}`, "aria-keyshortcuts": key, onclick: run }, el("b", {}, text), el("kbd", {}, hint ?? key));
  if (held.state === "done") return [button("later", "U", "Undo", act.undoThis), button("accept", "N", "Next finding", advance)];
  return [button("reject", "R", "No damage", act.reject), button("later", "S", "Skip", act.skip), button("correct", "C", "Correct", () => act.change("damage")), button("accept", "A", "Confirm", act.accept)];
}

const KEYS = {
  a: act.accept, r: act.reject, s: act.skip, u: act.undo, c: () => act.change("damage"), p: () => act.change("part"),
  n: () => desk.current?.state === "done" && advance(), m: () => view.mask.click(), f: () => view.frame(desk.current.finding.box),
  "?": () => openHelp($("help")), "+": () => view.zoom(1.5), "=": () => view.zoom(1.5), "-": () => view.zoom(1 / 1.5), "0": () => view.reset(),
};

function key(event) {
  if (event.defaultPrevented || document.querySelector("dialog[open]") || event.target.closest?.("input, select, textarea")) return;
  const name = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && name === "z") return event.preventDefault(), act.undo();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || localStorage.getItem("claimsight-keys") === "off") return;
  const number = Number(name);
  const run = number >= 1 && number <= 9 ? () => document.querySelectorAll(".choice:not(.other)")[number - 1]?.click() : KEYS[name];
  if (!run || (!desk.current && !["u", "?"].includes(name))) return;
  event.preventDefault();
  run();
}

async function learnNames() {
  const { body } = await ask("/v1/models");
  vocabulary = new Vocabulary(body);
}

function named() {
  $("who").replaceChildren(desk.reviewer ?? "Your name");
  $("who").setAttribute("aria-label", desk.reviewer ? `You review as ${desk.reviewer}. Change the name` : "Say your name");
}

async function start() {
  addEventListener("keydown", key);
  $("undo").addEventListener("click", act.undo);
  $("help-open").addEventListener("click", () => openHelp($("help")));
  $("who").addEventListener("click", () => openName($("name"), desk.reviewer, (name) => { desk.reviewer = name; named(); }));
  named();
  await learnNames().catch((error) => toast(error.message, "bad"));
  progress();
  setInterval(progress, 60_000);
  const id = new URLSearchParams(location.search).get("finding");
  await step(async () => {
    const held = id && (await desk.open(id).catch((error) => toast(error.message, "bad")));
    await show(held || (await desk.next()));
  });
}

start();
