// The names that a correction may use, from the models' own vocabulary.

/** Look-ups over `GET /v1/models`. A model that does not answer leaves only the names that a finding brings. */
export class Vocabulary {
  constructor(models) {
    const { vocabulary, supported = {} } = models.classifier?.vocabulary ? models.classifier : models.segmenter ?? {};
    this.damages = vocabulary?.damages ?? [];
    this.parts = [...(vocabulary?.parts ?? []), ...(vocabulary?.coarse ?? []).map((coarse) => ({ ...coarse, side: null }))];
    this.taught = new Set([...(models.segmenter?.supported?.damages ?? []), ...(supported.damages ?? [])]);
    this.part = new Map(this.parts.map((part) => [part.name, part]));
  }

  /** The damage that a class of the second opinion most plainly means: one that means nothing else, a taught one first. */
  meaning(cls) {
    const meant = this.damages.filter((damage) => damage.agrees.includes(cls));
    const plain = meant.filter((damage) => damage.agrees.length === 1);
    return plain.find((damage) => this.taught.has(damage.name)) ?? plain[0] ?? meant[0] ?? null;
  }

  /**
   * What it could be, likeliest first: [{damage, display, share, by}]. The finding's own name leads; then come the
   * second opinion's classes by their calibrated probability, and the segmenter's other names.
   */
  candidates(finding) {
    const { probabilities } = finding.opinion;
    const known = new Map(this.damages.map((damage) => [damage.name, damage]));
    const share = (name) => (known.get(name)?.agrees ?? []).reduce((sum, cls) => sum + (probabilities[cls] ?? 0), 0);
    const found = [{ damage: finding.damage, display: finding.display, share: finding.confidence, by: "first opinion" }];
    const add = (damage, by) => damage && !found.some((one) => one.damage === damage.name) && found.push({ damage: damage.name, display: damage.display, share: share(damage.name), by });
    const ranked = Object.entries(probabilities).filter(([, p]) => p >= 0.005).sort((a, b) => b[1] - a[1]);
    for (const [cls] of ranked) {
      const own = known.get(finding.damage)?.agrees.includes(cls);
      if (own && found[0].by === "first opinion" && cls === finding.opinion.label) found[0].by = "both opinions";
      if (!own) add(this.meaning(cls), cls === finding.opinion.label ? "second opinion" : "");
    }
    for (const other of finding.alternatives.slice(0, 2)) add(known.get(other.label), "");
    return found.slice(0, 6);
  }

  /** The part on the other side of the car, or null. */
  mirror(name) {
    return this.part.get(this.part.get(name)?.mirror) ?? null;
  }
}
