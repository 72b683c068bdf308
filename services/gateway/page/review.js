// The review page: one case after the other, by keyboard or by touch.

import { ask } from "./api.js";
import { panel, similar } from "./case.js";
import { choose } from "./choose.js";
import { Desk } from "./desk.js";
import { el } from "./dom.js";
import { openHelp, openName, openNote } from "./dialogs.js";
import { Pencil } from "./pencil.js";
import { Viewer } from "./viewer.js";
import { Vocabulary } from "./vocabulary.js";
import { headline, wholePanel } from "./whole.js";

const $ = (id) => document.getElementById(id);
const LOOK_AGAIN_MS = 15_000;
const view = new Viewer($("viewer"), () => {});
const pencil = new Pencil(view, drawn, (text) => toast(text));
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
  pencil.stop();
  document.title = held ? `${held.finding?.display ?? headline(held)} - Review` : "Review - Claimsight";
  if (!held) return nothing();
  history.replaceState({}, "", held.finding ? `/review?finding=${held.id}` : `/review?case=${held.id}`);
  $("case").replaceChildren(...(held.finding ? panel(held, vocabulary, act) : wholePanel(held, act)));
  $("case").scrollTop = 0;
  $("actions").replaceChildren(...actions(held));
  view.focus = held.finding?.id ?? null;
  view.detail = null;
  look(held);
  if (held.finding) zoomed(held);
  else $("live").textContent = `${headline(held)} ${held.claim.reasons.map((reason) => reason.text).join(" ")}`;
}

/** The photo in the viewer, with everything that stands on it now. */
function look({ photo }) {
  view.show(photo, photo.links.preview ?? null);
  pencil.button.hidden = photo.status !== "succeeded";
}

/** A finding fills the viewer, and what the memory knows of it is asked for. */
function zoomed(held) {
  const { finding } = held;
  view.image.decode?.().catch(() => {}).then(() => desk.current === held && view.frame(finding.box));
  view.frame(finding.box);
  $("live").textContent = `${finding.display} on ${finding.part?.display ?? "no known part"}. ${finding.reasons.map((reason) => reason.text).join(" ")}`;
  sharpen(held);
  recall(held);
}

/** Take over what a drawn damage, or its undoing, has changed of the claim in hand. */
function adopt(changed) {
  const held = desk.current;
  if (held?.claim.id !== changed.claim.id) return;
  held.claim = changed.claim;
  held.photos = held.photos.map((photo) => (photo.id === changed.photo.id ? changed.photo : photo));
  if (held.photo.id === changed.photo.id) held.photo = changed.photo;
  if (!held.finding) $("case").replaceChildren(...wholePanel(held, act));
  look(held);
  $("undo").disabled = desk.decided.length === 0;
}

/** The smallest part of the photo that the middle of the box lies on. */
function underneath(photo, [x0, y0, x1, y1]) {
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const size = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  return photo.parts.filter(({ box }) => box[0] <= x && x <= box[2] && box[1] <= y && y <= box[3]).sort((a, b) => size(a) - size(b))[0]?.name;
}

async function drawn(box) {
  const held = desk.current;
  const { photo } = held;
  if (vocabulary.damages.length === 0) await learnNames();
  const wish = await choose($("choose"), { finding: null, photo, guess: underneath(photo, box) }, vocabulary);
  if (!wish || desk.current !== held) return;
  await step(async () => {
    const added = await desk.add(photo, { ...wish, box });
    toast(added.memory === "refused" ? `Added: ${added.finding.display}. The memory did not learn it: ${added.memory_note}` : `Added: ${added.finding.display}`, "", true);
    adopt(added);
  });
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
  accept: () => desk.current && decide({ action: "accept" }, desk.current.finding ? `Confirmed: ${desk.current.finding.display}` : "Agreed: nothing is missing"),
  reject: () => desk.current && (desk.current.finding ? decide({ action: "reject" }, "Rejected: no damage") : act.object()),
  look(photo) {
    desk.current.photo = photo;
    pencil.stop();
    adopt(desk.current);
  },
  draw: () => desk.current && !pencil.button.hidden && (pencil.on ? pencil.stop() : pencil.start()),
  async note(action, question, said) {
    const held = desk.current;
    if (held?.state !== "open" || $("note").open) return;
    const note = await openNote($("note"), question);
    if (note !== null && desk.current === held) decide({ action, ...(note && { note }) }, said);
  },
  object: () => act.note("reject", { title: "What is not right?", hint: "In a few words, for whoever handles the claim (may stay empty)" }, "Rejected: it stays with people"),
  ask: () => act.note("ask", { title: "Ask for a better photo", hint: "What should be photographed, and how?", required: true, suggestions: ["The whole vehicle", "The damage from close by", "Sharper, in daylight", "Another side"] }, "Asked for a better photo"),
  choose: (candidate) => (candidate.damage === desk.current.finding.damage ? act.accept() : decide({ action: "correct", damage: candidate.damage }, `Corrected: ${candidate.display}`)),
  async change(first) {
    const held = desk.current;
    if (!held?.finding || held.state !== "open" || $("choose").open) return;
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
    if (back.state === "gone") {
      adopt(back);
      $("undo").disabled = desk.decided.length === 0;
      return toast(`Taken back: ${back.finding.display} is gone`);
    }
    toast(`Taken back: ${back.finding?.display ?? "the claim"} is open again`);
    await Promise.all([show(back), progress()]);
  }),
  undoThis: () => step(async () => {
    const back = await desk.undo(desk.current.id);
    await Promise.all([show(back.state === "gone" ? await desk.next() : back), progress()]);
  }),
};

function actions(held) {
  const button = (kind, key, text, run, hint) => el("button", { type: "button", class: `act ${kind}`, "aria-keyshortcuts": key, onclick: run }, el("b", {}, text), el("kbd", {}, hint ?? key));
  if (held.state === "done") return [button("later", "U", "Undo", act.undoThis), button("accept", "N", "Next", advance)];
  if (!held.finding) return [button("reject", "R", "Not right", act.object), button("later", "S", "Skip", act.skip), button("correct", "B", "Better photo", act.ask), button("accept", "A", "Nothing missing", act.accept)];
  return [button("reject", "R", "No damage", act.reject), button("later", "S", "Skip", act.skip), button("correct", "C", "Correct", () => act.change("damage")), button("accept", "A", "Confirm", act.accept)];
}

const KEYS = {
  a: act.accept, r: act.reject, d: act.draw, b: () => desk.current.finding || act.ask(), s: act.skip, u: act.undo, c: () => act.change("damage"), p: () => act.change("part"),
  n: () => desk.current?.state === "done" && advance(), m: () => view.mask.click(), f: () => (desk.current.finding ? view.frame(desk.current.finding.box) : view.reset()),
  "?": () => openHelp($("help")), "+": () => view.zoom(1.5), "=": () => view.zoom(1.5), "-": () => view.zoom(1 / 1.5), "0": () => view.reset(),
};

function key(event) {
  if (event.defaultPrevented || document.querySelector("dialog[open]") || event.target.closest?.("input, select, textarea")) return;
  const name = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && name === "z") return event.preventDefault(), act.undo();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || localStorage.getItem("claimsight-keys") === "off") return;
  const number = Number(name);
  const run = number >= 1 && number <= 9 ? () => document.querySelectorAll(".choice:not(.other), .shot")[number - 1]?.click() : KEYS[name];
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
  const asked = new URLSearchParams(location.search);
  const id = asked.get("finding") ?? asked.get("case");
  await step(async () => {
    const held = id && (await desk.open(id).catch((error) => toast(error.message, "bad")));
    if (held?.state === "gone") toast("That damage was taken back", "note");
    await show(held && held.state !== "gone" ? held : await desk.next());
  });
}

start();
