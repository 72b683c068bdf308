// A reviewer's place in the queue: the case in hand, the next one already held, decisions on their way, what can be undone.

import { ask, post } from "./api.js";

const UNDO = "claimsight-undo"; // what this tab decided, so that a reload does not take the way back

export class Desk {
  /** `told(text, tone)` hears what a person should know. */
  constructor(told) {
    this.told = told;
    this.current = null;
    this.ahead = null; // a promise of the next case, and that case once it is there
    this.upcoming = null;
    this.waiting = []; // cases that come before anything from the queue
    this.decided = JSON.parse(sessionStorage.getItem(UNDO) ?? "[]");
    this.saving = new Map(); // case id -> its decision, while it is on its way
    addEventListener("pagehide", () => this.leave());
    addEventListener("pageshow", (event) => event.persisted && location.reload()); // what it held was let go
  }

  get reviewer() {
    return localStorage.getItem("claimsight-reviewer") || null;
  }

  set reviewer(name) {
    localStorage.setItem("claimsight-reviewer", name);
  }

  /** The next case, or null where there is none; the one after it is fetched meanwhile. */
  async next() {
    this.current = null;
    this.current = this.waiting.shift() ?? (await this.ahead) ?? (await this.take());
    if (this.current === this.upcoming) this.ahead = this.upcoming = null;
    if (this.current && !this.ahead) this.look();
    this.beat();
    return this.current;
  }

  look() {
    this.ahead = this.take(true).then((held) => {
      if (held) new Image().src = held.photo.links.preview;
      return (this.upcoming = held);
    });
  }

  async take(quietly = false) {
    try {
      return (await post("/v1/reviews/next", { reviewer: this.reviewer })).body;
    } catch (error) {
      if (quietly) return null; // it is asked for again when it is needed
      throw error;
    }
  }

  /** One case by its id: held where it is open, as it is where it was decided. */
  async open(id) {
    const { body } = await ask(`/v1/reviews/${encodeURIComponent(id)}`, { cache: "no-store" });
    this.current = body.state !== "open" ? body : (await post(`${body.links.self}/lease`, { reviewer: this.reviewer })).body;
    this.beat();
    return this.current;
  }

  /** Decide the current case. It is sent while the next one is shown; where that fails, the case comes back. */
  decide(verdict, text) {
    const { id, lease, version, links } = this.current;
    const held = this.current;
    const saving = post(`${links.self}/decision`, { ...verdict, lease, reviewer: this.reviewer }, { "If-Match": `"${version}"` })
      .then(({ body }) => {
        this.remember({ id, version: body.version, text });
        if (body.memory === "refused") this.told(`Saved. The memory did not learn it: ${body.memory_note}`, "note");
        return true;
      })
      .catch((error) => {
        if (error.status === 409 || error.status === 412) this.told(`Not saved: ${error.message}`, "bad");
        else {
          this.waiting.unshift(held);
          this.told(`Not saved, so it comes back: ${error.message}`, "bad");
        }
        return false;
      })
      .finally(() => this.saving.delete(id));
    this.saving.set(id, saving);
    return saving;
  }

  /** Add a damage that was drawn on `photo`; answers its case. */
  async add(photo, drawn) {
    const { body } = await post(`/v1/claims/${this.current.claim.id}/photos/${photo.id}/findings`, { ...drawn, reviewer: this.reviewer });
    this.remember({ id: body.id, version: body.version, text: body.finding.display });
    return body;
  }

  /** Leave the current case to others, behind everything that was not skipped yet. */
  async skip() {
    const { links, lease } = this.current;
    await post(`${links.self}/skip`, { lease }).catch((error) => this.told(error.message, "note"));
  }

  /** Take the latest decision back; answers its case, held again (or `gone`), or null where there is nothing to undo. */
  async undo(id = null) {
    await Promise.all(this.saving.values());
    const latest = id ? this.decided.find((one) => one.id === id) : this.decided.at(-1);
    const version = id && this.current?.id === id ? this.current.version : latest?.version;
    if (!id && !latest) return null;
    try {
      const { body } = await post(`/v1/reviews/${id ?? latest.id}/undo`, { reviewer: this.reviewer }, { "If-Match": `"${version}"` });
      this.forget(id ?? latest.id);
      if (body.state === "gone") return body; // a drawn damage: what is in hand stays there
      if (this.current && this.current.id !== body.id && this.current.state === "open") this.waiting.unshift(this.current);
      this.current = body;
      return body;
    } catch (error) {
      if (error.status < 500) this.forget(id ?? latest.id);
      throw error;
    }
  }

  remember(decision) {
    this.decided = [...this.decided.slice(-49), decision];
    sessionStorage.setItem(UNDO, JSON.stringify(this.decided));
  }

  forget(id) {
    this.decided = this.decided.filter((one) => one.id !== id);
    sessionStorage.setItem(UNDO, JSON.stringify(this.decided));
  }

  /** Hold on to what is open: somebody who thinks for long must not lose it. */
  beat() {
    clearInterval(this.pulse);
    if (!this.current?.held) return;
    const left = new Date(this.current.held.until) - Date.now();
    this.pulse = setInterval(() => this.prolong(), Math.max(1000, left / 3));
  }

  async prolong() {
    for (const held of this.holding()) {
      const { body } = await post(`${held.links.self}/lease`, { reviewer: this.reviewer, lease: held.lease }).catch((error) => {
        if (held === this.current && error.status === 409) this.told(`While you were away: ${error.message}`, "bad");
        return { body: null };
      });
      if (body) Object.assign(held, { held: body.held, lease: body.lease, version: body.version });
    }
  }

  /** Everything that this tab holds. */
  holding() {
    return [this.current, this.upcoming, ...this.waiting].filter((held) => held?.lease && !this.saving.has(held.id));
  }

  leave() {
    for (const held of this.holding()) post(`${held.links.self}/release`, { lease: held.lease }).catch(() => {});
  }
}
