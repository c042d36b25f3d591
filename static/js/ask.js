// Ask the server, in the way the page needs it: with progress, with patience, and with errors in words.

import { pause } from "./ui.js";

const TRIES = 20;
const LONGEST_WAIT = 30;
const LASTING = ["ModelUnavailable", "NoWorker"];
const UNREACHED = "The server cannot be reached. Is it running, and are you connected?";

// A reason that is fit to be shown. `passes` tells whether another try may succeed.
export class Refused extends Error {
  constructor(message, passes = false) {
    super(message);
    this.passes = passes;
  }
}

// Send a form. `tell` is called with what is going on: {sent: 0..1} or {busy: seconds}.
// `part` is what the server sends back of the page: "result" (HTML) or "row" (JSON).
// Resolves to the text of the answer; rejects with Refused.
export async function ask(address, form, tell = () => {}, part = "result") {
  for (let tries = 1; ; tries++) {
    const answer = await send(address, form, tell, part);
    if (answer.status < 400) return answer.text;
    if (!mayPass(answer) || tries === TRIES) throw refused(answer);
    const seconds = Math.min(answer.retryAfter, LONGEST_WAIT);
    tell({ busy: seconds });
    await pause(seconds * 1000);
  }
}

let first = null;

// The first answer brings the cookie by which the server knows this browser: until then, other requests wait
async function send(...request) {
  if (first) await first.catch(() => {});
  const sending = transmit(...request);
  first ??= sending;
  return sending;
}

// fetch() tells nothing while it sends
function transmit(address, form, tell, part) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-Part", part);
    request.upload.onprogress = (event) => event.lengthComputable && tell({ sent: event.loaded / event.total });
    request.onload = () => resolve({
      status: request.status,
      text: request.responseText,
      retryAfter: Number(request.getResponseHeader("Retry-After")),
    });
    request.onerror = () => reject(new Refused(UNREACHED, true));
    request.send(form);
  });
}

// Get a document that may take a while, as parsed JSON or as the text of a part of the page.
export async function get(address, { part = "", waiting = () => {} } = {}) {
  for (let tries = 1; ; tries++) {
    let answer;
    try {
      answer = await fetch(address, { headers: { Accept: "application/json", ...(part && { "X-Part": part }) } });
    } catch {
      throw new Refused(UNREACHED, true);
    }
    if (answer.ok) return part === "result" ? answer.text() : answer.json();
    const refusal = { status: answer.status, retryAfter: Number(answer.headers.get("Retry-After")), text: await answer.text() };
    if (!mayPass(refusal) || tries === TRIES) throw refused(refusal);
    waiting(refusal.retryAfter);
    await pause(1000 * Math.min(refusal.retryAfter, LONGEST_WAIT));
  }
}

function refused(answer) {
  if (mayPass(answer)) return new Refused("The model is busy. Try again later.", true);
  return new Refused(problemOf(answer).message || `The server answered ${answer.status}.`);
}

// A busy model has time again soon; one that is not loaded, or has no worker, has not.
function mayPass(answer) {
  return answer.status === 503 && answer.retryAfter > 0 && !LASTING.includes(problemOf(answer).type);
}

function problemOf(answer) {
  try {
    return JSON.parse(answer.text);
  } catch {
    return {};
  }
}
