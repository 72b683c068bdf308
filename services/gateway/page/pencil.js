// Drawing a box on the photo: by mouse, pen or finger from corner to corner, or by keyboard with arrows.

import { el } from "./dom.js";

const LEAST = 0.01; // of the photo: less was a click, not a box
const STEP = 0.01;
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

export class Pencil {
  /** `done(box)` hears of a box that was drawn; `told(text)` of what to do. */
  constructor(view, done, told) {
    Object.assign(this, { view, done, told, box: null, pointer: null });
    this.rubber = el("div", { class: "rubber" });
    this.button = view.button("Draw", "Draw a damage that is missing", () => (this.on ? this.stop() : this.start()));
    this.button.setAttribute("aria-pressed", "false");
    this.button.setAttribute("aria-keyshortcuts", "D");
    view.tools.querySelector(".grow").after(this.button);
    const heard = { pointerdown: "down", pointermove: "move", pointerup: "up", pointercancel: "stop", keydown: "key", dblclick: "hush" };
    for (const [event, method] of Object.entries(heard)) view.stage.addEventListener(event, (happened) => this.on && this[method](happened), true);
  }

  get on() {
    return this.view.stage.classList.contains("drawing");
  }

  start() {
    this.view.stage.classList.add("drawing");
    this.button.setAttribute("aria-pressed", "true");
    this.view.stage.focus({ preventScroll: true });
    const keys = matchMedia("(pointer: fine)").matches ? " By keyboard: arrows move it, with Shift they resize, Enter takes it, Escape stops." : "";
    this.told(`Draw a box around the damage, from corner to corner.${keys}`);
  }

  stop() {
    this.view.stage.classList.remove("drawing");
    this.button.setAttribute("aria-pressed", "false");
    this.rubber.remove();
    this.box = this.pointer = null;
  }

  hush(event) {
    event.preventDefault();
    event.stopPropagation();
  }

  /** The pointer in the photo's own coordinates. */
  at(event) {
    const { x, y, width, height } = this.view.sheet.getBoundingClientRect();
    const within = (share) => Math.min(1, Math.max(0, share));
    return [within((event.clientX - x) / width), within((event.clientY - y) / height)];
  }

  down(event) {
    this.hush(event);
    if (this.pointer !== null || event.button > 0) return;
    this.pointer = event.pointerId;
    this.view.stage.setPointerCapture(event.pointerId);
    this.from = this.at(event);
  }

  move(event) {
    this.hush(event);
    if (event.pointerId !== this.pointer) return;
    const [[a, b], [c, d]] = [this.from, this.at(event)];
    this.show([Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)]);
  }

  up(event) {
    this.move(event);
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.take();
  }

  key(event) {
    if (event.key === "Escape") return this.hush(event), this.stop();
    if (event.key === "Enter") return this.hush(event), this.take();
    if (!(event.key in MOVES)) return;
    this.hush(event);
    const [dx, dy] = MOVES[event.key];
    const [x0, y0, x1, y1] = this.box ?? [0.4, 0.4, 0.6, 0.6];
    const next = event.shiftKey ? [x0, y0, x1 + dx, y1 + dy] : [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
    if (Math.min(...next) >= 0 && Math.max(...next) <= 1 && next[2] - next[0] > LEAST && next[3] - next[1] > LEAST) this.show(next);
  }

  show(box) {
    this.box = box;
    const [x0, y0, x1, y1] = box.map((share) => 100 * share);
    Object.assign(this.rubber.style, { left: `${x0}%`, top: `${y0}%`, width: `${x1 - x0}%`, height: `${y1 - y0}%` });
    this.rubber.style.setProperty("--thin", 1 / this.view.scale);
    this.view.sheet.append(this.rubber);
  }

  take() {
    const { box } = this;
    if (!box || box[2] - box[0] < LEAST || box[3] - box[1] < LEAST) return void (this.box = null);
    this.stop();
    this.done(box.map((share) => Math.round(share * 1e4) / 1e4));
  }
}
