// From dropped photos to a claim that fills in as it is assessed.

import { ask, tell } from "./api.js";
import { el } from "./dom.js";
import { cards, verdict } from "./findings.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const FINAL = ["succeeded", "failed", "canceled", "expired"];
let shown = null; // id of the photo in the viewer
let local = []; // object URLs of the photos that were just dropped, in their order
let view = null;
let sending = false; // photos are on their way: others have to wait for their turn
let visit = 0; // counts what was opened: what belongs to an earlier visit draws nothing any more

function alarm(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
  if (text) window.scrollTo({ top: 0 });
}

/** Send the photos; `progress(share)` hears how far they are, which fetch cannot tell. */
function send(files, progress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    for (const file of files) form.append("photos", file);
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/claims");
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => progress(loaded / total);
    request.onload = () => (request.status < 300 ? resolve(request.response) : reject(new Error(tell(request.response ?? {}))));
    request.onerror = () => reject(new Error("The photos could not be sent. Check the connection and try again."));
    request.send(form);
  });
}

function uploading(count, share) {
  const fill = el("i");
  fill.style.width = `${share * 100}%`;
  $("verdict").replaceChildren(
    el("header", {}, el("span", { class: "badge busy" }, "Sending"), el("h1", {}, `Sending ${count} ${count === 1 ? "photo" : "photos"}.`)),
    el("div", { class: "progress" }, fill),
  );
}

async function submit(files) {
  if (files.length === 0) return;
  if (sending) return alarm("The photos before these are still being sent. Add these once that claim is shown.");
  alarm("");
  const mine = ++visit;
  hold(files);
  open();
  uploading(files.length, 0);
  let claim;
  sending = true;
  try {
    claim = await send(files, (share) => mine === visit && uploading(files.length, share));
  } catch (error) {
    if (mine === visit) home();
    return alarm(error.message);
  } finally {
    sending = false;
  }
  if (mine !== visit) return; // the person went elsewhere; the claim is in the list
  alarm("");
  history.pushState({}, "", `/?claim=${claim.id}`);
  render(claim);
  await follow(claim.links.self, mine).catch((error) => mine === visit && alarm(error.message)); // accepted: it stays visible
}

/** Keep these files to be shown until there are previews; the memory of those before is given back. */
function hold(files) {
  local.forEach((url) => URL.revokeObjectURL(url));
  local = files.map((file) => URL.createObjectURL(file));
}

/** Ask for the claim until it is final; each answer comes as soon as something has changed. */
async function follow(url, mine) {
  let tag = "";
  for (let quiet = 0; mine === visit; ) {
    try {
      const { answer, body } = await ask(tag ? `${url}?wait=25` : url, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      quiet = 0;
      if (body && mine === visit) {
        tag = answer.headers.get("ETag");
        render(body);
        if (FINAL.includes(body.status)) return;
        if (!tag) await pause(1000);
      }
    } catch (error) {
      if (error.status < 500 || ++quiet > 5) throw error;
      await pause(1000 * quiet); // a gateway that starts anew is back in a moment
    }
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function render(claim) {
  $("verdict").replaceChildren(...verdict(claim));
  $("live").textContent = `${claim.progress.done} of ${claim.progress.total} photos done. ${claim.status}.`;
  const photos = claim.photos;
  if (!photos.some((photo) => photo.id === shown)) shown = (photos.find((photo) => photo.status !== "failed") ?? photos[0]).id;
  $("strip").replaceChildren(...photos.map((photo, index) => thumbnail(claim, photo, index)));
  const index = photos.findIndex((photo) => photo.id === shown);
  view.show(photos[index], source(photos[index], index));
  const opened = new Set([...document.querySelectorAll(".card details[open]")].map((node) => node.closest(".card").id));
  $("findings").replaceChildren(...cards(photos[index], (id, on) => view.light(id, on)));
  for (const id of opened) document.getElementById(id)?.querySelector("details")?.setAttribute("open", "");
}

/** Our own upright preview; until it exists, the file that was dropped. */
const source = (photo, index) => (photo.status === "queued" && local[index]) || photo.links.preview || null;

function thumbnail(claim, photo, index) {
  const from = local[index] && photo.status !== "failed" ? local[index] : photo.links.preview;
  const doubts = photo.findings.some((finding) => finding.route === "review");
  const [kind, text] =
    photo.status === "queued" ? ["", "Looking"]
    : photo.error ? ["failed", photo.status === "rejected" ? "Generated" : "Not usable"]
    : photo.status === "canceled" ? ["", "Canceled"]
    : photo.findings.length === 0 ? ["", "No damage"]
    : [doubts ? "review" : "auto", `${photo.findings.length} found`];
  const picture = from ? el("img", { src: from, alt: "" }) : el("span", { class: "none" }, "No picture");
  if (from && from !== photo.links.preview) picture.addEventListener("error", () => photo.links.preview && (picture.src = photo.links.preview), { once: true });
  return el("li", {}, el("button", {
    type: "button", "aria-current": photo.id === shown ? "true" : "false", "aria-label": `Photo ${index + 1}: ${text}`,
    onclick: () => { shown = photo.id; render(claim); },
  }, picture, el("span", { class: `tag ${kind}` }, text)));
}

function open() {
  $("start").hidden = true;
  $("claim").hidden = $("again").hidden = false;
  shown = null;
  view ??= new Viewer($("viewer"), pick);
  $("strip").replaceChildren(...local.map((url) => el("li", {}, el("button", { type: "button", disabled: true }, el("img", { src: url, alt: "" }), el("span", { class: "tag" }, "Sending")))));
  $("findings").replaceChildren();
}

function pick(id) {
  const card = document.getElementById(id);
  card?.scrollIntoView({ block: "center", behavior: "smooth" });
  card?.focus({ preventScroll: true });
}

async function home() {
  alarm("");
  $("start").hidden = false;
  $("claim").hidden = $("again").hidden = true;
  $("files").value = "";
  ask("/v1/reviews/progress").then(({ body: day }) => { $("to-review").textContent = day.open ? `Review (${day.open})` : "Review"; }, () => {}); // a key may lack the scope
  const { body } = await ask("/v1/claims?page_size=6").catch(() => ({ body: { data: [] } }));
  $("recent").hidden = body.data.length === 0;
  $("recent-list").replaceChildren(...body.data.map((claim) => {
    const state = claim.summary?.route ?? claim.status;
    const parts = claim.summary?.parts.map((part) => part.display).join(", ") || claim.external_ref || claim.id;
    return el("li", {}, el("a", { href: `/?claim=${claim.id}` }, el("span", { class: `badge ${state}` }, state), parts,
      el("time", { datetime: claim.created_at }, new Date(claim.created_at).toLocaleString())));
  }));
}

async function route() {
  const id = new URLSearchParams(location.search).get("claim");
  const mine = ++visit;
  hold([]);
  if (!id) return home();
  open();
  try {
    await follow(`/v1/claims/${encodeURIComponent(id)}`, mine);
  } catch (error) {
    if (mine !== visit) return;
    await home();
    alarm(error.message);
  }
}

function listen() {
  const drop = $("drop");
  $("files").addEventListener("change", (event) => submit([...event.target.files]));
  addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); submit([...event.dataTransfer.files]); });
  addEventListener("paste", (event) => submit([...(event.clipboardData?.files ?? [])]));
  addEventListener("popstate", route);
  route();
}

listen();
