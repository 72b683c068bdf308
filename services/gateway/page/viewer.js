// A photo with its findings drawn on it: zoom by wheel, pinch, buttons or keys, pan by dragging or arrows.

import { el, svg } from "./dom.js";

const MAX_SCALE = 8;

/** How a finding is drawn: what a person drew, what is not looked at now, or by its route. */
function kind(finding, focus) {
  if (finding.source === "human" && focus !== finding.id) return "human";
  if (focus ? focus !== finding.id : finding.review?.action === "reject") return "other";
  return finding.route;
}

export class Viewer {
  /** `pick(id)` hears of a finding that was clicked on the photo. */
  constructor(root, pick) {
    this.pick = pick;
    this.focus = null; // id of the only finding that counts; the others are drawn faintly
    this.detail = null; // {box, source}: a sharper picture of a part of the photo
    this.layers = { findings: true, parts: false };
    this.pointers = new Map();
    this.sheet = el("div", { class: "sheet" });
    this.stage = el("div", {
      class: "stage", tabindex: 0, role: "group", "aria-label": "Photo. Plus and minus zoom, arrows move, zero resets.",
      onwheel: (event) => this.wheel(event), onkeydown: (event) => this.key(event), ondblclick: () => this.zoom(this.scale > 1 ? 0 : 2.5),
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.move(event),
      onpointerup: (event) => this.up(event), onpointercancel: (event) => this.up(event),
    }, this.sheet);
    this.download = el("a", { target: "_blank", rel: "noopener" }, "Picture");
    this.tools = el("div", { class: "tools" },
      this.button("−", "Zoom out", () => this.zoom(1 / 1.5)), this.button("+", "Zoom in", () => this.zoom(1.5)),
      this.button("Fit", "Whole photo", () => this.zoom(0)), el("span", { class: "grow" }),
      (this.mask = this.toggle("Damage", "findings")), this.toggle("Parts", "parts"), this.download);
    root.replaceChildren(this.stage, this.tools);
    this.reset();
    addEventListener("resize", () => this.framed && this.frame(this.framed));
  }

  /** Show `photo`; `source` is where its pixels come from. */
  show(photo, source) {
    if (this.photo?.id !== photo.id) this.reset();
    if (this.source !== source) {
      this.source = source;
      this.image = source ? el("img", { src: source, alt: "The photo", draggable: "false", width: photo.width, height: photo.height }) : el("p", { class: "soft" }, "This photo cannot be shown.");
    }
    this.photo = photo;
    this.download.hidden = !photo.links.overlay;
    if (photo.links.overlay) this.download.href = photo.links.overlay;
    this.draw();
  }

  light(id, on) {
    for (const shape of this.sheet.querySelectorAll("polygon")) shape.classList.toggle("lit", on && shape.dataset.finding === id);
  }

  draw() {
    const layer = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    const place = ([x0, y0, x1, y1]) => ({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 });
    const box = (corners, kind, name) => layer.append(svg("rect", { ...place(corners), class: kind }, svg("title", {}, name)));
    if (this.detail) layer.append(svg("image", { ...place(this.detail.box), href: this.detail.source, preserveAspectRatio: "none" }));
    if (this.layers.parts) for (const part of this.photo.parts) box(part.box, "part", part.display);
    if (this.layers.findings) {
      for (const fake of this.focus ? [] : this.photo.lookalikes) box(fake.box, "fake", fake.display);
      for (const finding of this.photo.findings)
        for (const ring of finding.polygons) {
          const shape = svg("polygon", { points: ring.map((point) => point.join()).join(" "), class: kind(finding, this.focus), onclick: () => this.pick(finding.id) }, svg("title", {}, finding.title));
          shape.dataset.finding = finding.id;
          layer.append(shape);
        }
    }
    this.sheet.replaceChildren(this.image, layer);
  }

  button(text, label, act) {
    return el("button", { type: "button", "aria-label": label, onclick: act }, text);
  }

  toggle(text, layer) {
    const button = this.button(text, `Show ${layer}`, () => {
      this.layers[layer] = !this.layers[layer];
      button.setAttribute("aria-pressed", this.layers[layer]);
      this.draw();
    });
    button.setAttribute("aria-pressed", this.layers[layer]);
    return button;
  }

  reset() {
    [this.scale, this.x, this.y] = [1, 0, 0];
    this.framed = null;
    this.apply();
  }

  /** Bring a box of the photo to the middle, with about as much around it as it is large. */
  frame(box) {
    const { offsetWidth: width, offsetHeight: height, offsetLeft: left, offsetTop: top } = this.sheet;
    const [x0, y0, x1, y1] = box;
    const fits = 0.42 * Math.min(this.stage.clientWidth / ((x1 - x0) * width), this.stage.clientHeight / ((y1 - y0) * height));
    this.scale = Math.max(1, Math.min(MAX_SCALE / 2, fits));
    this.x = this.stage.clientWidth / 2 - left - (this.scale * (x0 + x1) * width) / 2;
    this.y = this.stage.clientHeight / 2 - top - (this.scale * (y0 + y1) * height) / 2;
    if (this.scale === 1) [this.x, this.y] = [0, 0];
    this.framed = box;
    this.apply();
  }

  /** Zoom by `factor` (0: back to the whole photo) around a point of the stage, its centre by default. */
  zoom(factor, at) {
    if (factor === 0) return this.reset();
    const sheet = this.sheet.getBoundingClientRect();
    const stage = this.stage.getBoundingClientRect();
    const [x, y] = at ?? [stage.x + stage.width / 2, stage.y + stage.height / 2];
    const scale = Math.max(1, Math.min(MAX_SCALE, this.scale * factor));
    this.x += (x - sheet.x) * (1 - scale / this.scale);
    this.y += (y - sheet.y) * (1 - scale / this.scale);
    this.scale = scale;
    if (scale === 1) [this.x, this.y] = [0, 0];
    this.framed = null;
    this.apply();
  }

  apply() {
    // The middle of the stage stays on the photo: nobody loses it by dragging.
    const within = (at, length, from, size) => Math.min(length / 2 - from, Math.max(length / 2 - from - this.scale * size, at));
    if (this.scale > 1) {
      this.x = within(this.x, this.stage.clientWidth, this.sheet.offsetLeft, this.sheet.offsetWidth);
      this.y = within(this.y, this.stage.clientHeight, this.sheet.offsetTop, this.sheet.offsetHeight);
    }
    this.stage.style.touchAction = this.scale > 1 ? "none" : "pan-y"; // a finger scrolls the page until zoomed in
    this.sheet.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
  }

  wheel(event) {
    if (!event.ctrlKey && this.scale === 1 && event.deltaY > 0) return; // a plain wheel scrolls the page on
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 300), [event.clientX, event.clientY]);
  }

  key(event) {
    const step = 60;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.reset();
    else if (event.key in moves && this.scale > 1) this.shift(...moves[event.key]);
    else return;
    event.preventDefault();
  }

  shift(dx, dy) {
    this.framed = null;
    this.x += dx;
    this.y += dy;
    this.apply();
  }

  down(event) {
    this.pointers.set(event.pointerId, event);
    if (this.scale > 1) this.stage.setPointerCapture(event.pointerId);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (others.length === 1) {
      const gap = (pointer) => Math.hypot(pointer.clientX - others[0].clientX, pointer.clientY - others[0].clientY);
      this.zoom(gap(event) / Math.max(gap(before), 1), [(event.clientX + others[0].clientX) / 2, (event.clientY + others[0].clientY) / 2]);
    } else if (this.scale > 1) {
      this.stage.classList.add("moving");
      this.shift(event.clientX - before.clientX, event.clientY - before.clientY);
    }
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.stage.classList.remove("moving");
  }
}
