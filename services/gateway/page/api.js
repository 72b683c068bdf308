// Asking the gateway: answers as JSON, and failures as errors in the words of their problem documents.

import { askForKey } from "./key.js";

/** {answer, body}; body is null where there is none. Throws an Error with `status` and the `problem`. */
export async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    throw Object.assign(new Error("The gateway cannot be reached. Check the connection and try again."), { status: 503, problem: {} });
  }
  if (answer.status === 304 || answer.status === 204) return { answer, body: null };
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    await askForKey(tell(body));
    return ask(url, options);
  }
  if (!answer.ok) throw Object.assign(new Error(tell(body)), { status: answer.status, problem: body });
  return { answer, body };
}

/** Send `body` as JSON. */
export function post(url, body, headers = {}) {
  return ask(url, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers }, keepalive: true });
}

/** What a problem document says, and what it says about each photo. */
export function tell(problem) {
  const each = (problem.photos ?? []).slice(1).map((photo) => photo.detail);
  return [problem.detail ?? problem.title ?? "The service gave no answer. Try again.", ...new Set(each)].join("\n");
}
