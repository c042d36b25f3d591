// Ask the server, in the way the page needs it: with progress, with patience, and with errors in words.

const TRIES = 20;
const LONGEST_WAIT = 30;
const LASTING = ["ModelUnavailable", "NoWorker"];
const UNREACHED = "The server cannot be reached. Is it running, and are you connected?";

export class Refused extends Error {}

// Send a form. `tell` is called with what is going on: {sent: 0..1} or {busy: seconds}.
// Resolves to the text of the answer; rejects with Refused, whose message is fit to be shown.
export async function ask(address, form, tell = () => {}) {
  for (let tries = 1; ; tries++) {
    const answer = await send(address, form, tell);
    if (answer.status < 400) return answer.text;
    if (!mayPass(answer) || tries === TRIES) throw new Refused(words(answer));
    const seconds = Math.min(answer.retryAfter, LONGEST_WAIT);
    tell({ busy: seconds });
    await pause(seconds);
  }
}

// fetch() tells nothing while it sends
function send(address, form, tell) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-Part", "result");
    request.upload.onprogress = (event) => event.lengthComputable && tell({ sent: event.loaded / event.total });
    request.onload = () => resolve({
      status: request.status,
      text: request.responseText,
      retryAfter: Number(request.getResponseHeader("Retry-After")),
    });
    request.onerror = () => reject(new Refused(UNREACHED));
    request.send(form);
  });
}

// A picture that takes a while, as an address that an <img> can have.
export async function pictureAt(address, busy) {
  for (let tries = 1; ; tries++) {
    let answer;
    try {
      answer = await fetch(address, { headers: { Accept: "image/png" } });
    } catch {
      throw new Refused(UNREACHED);
    }
    if (answer.ok) return dataOf(await answer.blob());
    const seconds = Number(answer.headers.get("Retry-After"));
    const refusal = { status: answer.status, retryAfter: seconds, text: await answer.text() };
    if (!mayPass(refusal) || tries === TRIES) throw new Refused(words(refusal));
    busy(seconds);
    await pause(Math.min(seconds, LONGEST_WAIT));
  }
}

// The page's policy allows no blob: addresses
function dataOf(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

function words(answer) {
  if (mayPass(answer)) return "The model has been busy all the time. Try again later.";
  return told(answer).message || `The server answered ${answer.status}.`;
}

// A busy model has time again soon; one that is not loaded, or has no worker, has not.
function mayPass(answer) {
  return answer.status === 503 && answer.retryAfter > 0 && !LASTING.includes(told(answer).type);
}

function told(answer) {
  try {
    return JSON.parse(answer.text);
  } catch {
    return {};
  }
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// The server's own markup of an answer, as elements. Scripts inside would not run: DOMParser makes them inert.
export function parsed(markup) {
  return new DOMParser().parseFromString(markup, "text/html").body.firstElementChild;
}
