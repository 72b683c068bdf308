// The smallest helper that keeps every text a text: nothing from a claim is ever parsed as HTML.

/** An element with attributes, listeners (on...) and children (nodes or texts; null and false are left out). */
export function el(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
  return node;
}

/** Never "100 %" for what is only nearly sure, nor "0 %" for what is only unlikely. */
export function percent(share) {
  if (share > 0.99 && share < 1) return ">99 %";
  if (share > 0 && share < 0.01) return "<1 %";
  return `${Math.round(share * 100)} %`;
}
export const words = (name) => name.replaceAll("_", " ");

/** A labelled bar: [label | bar | value]. */
export function bar(label, share, best = false) {
  const fill = el("i");
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  const meter = el(
    "div",
    { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share * 100) },
    fill,
  );
  return el("div", { class: best ? "row best" : "row" }, el("b", {}, label), meter, el("span", {}, percent(share)));
}
