// How the models are doing, drawn anew every two seconds.

const PERIOD = 2000;
const POINTS = 30;
const list = document.getElementById("served");
const history = new Map();
let before = null;

for (const charts of list.querySelectorAll(".charts")) charts.hidden = false;
follow();

async function follow() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((resolve) => setTimeout(resolve, PERIOD));
  }
}

async function look() {
  let models;
  try {
    const answer = await fetch(list.dataset.address, { headers: { Accept: "application/json" } });
    models = (await answer.json()).models;
  } catch {
    return; // the server starts again, or has gone; the next look will tell
  }
  const now = performance.now();
  for (const model of models) {
    const item = [...list.children].find((one) => one.dataset.model === model.model);
    if (item) show(item, model, now);
  }
  before = { now, counts: new Map(models.map((model) => [model.model, model.counts])) };
}

function show(item, model, now) {
  const { requests, errors, inside, seconds } = model.counts;
  const say = (fact, text) => { item.querySelector(`[data-fact=${fact}]`).textContent = text; };
  say("requests", requests.toLocaleString("en"));
  say("inside", inside);
  say("failed", `${(requests ? (100 * errors) / requests : 0).toFixed(1)} %`);
  say("latency", requests ? `${Math.round((1000 * seconds) / requests)} ms` : "–");
  const last = before?.counts.get(model.model);
  if (!last || requests < last.requests) return;
  const more = requests - last.requests;
  chart(item, model.model, "rate", (more * 1000) / (now - before.now), (value) => value.toFixed(1));
  chart(item, model.model, "errors", more ? (100 * (errors - last.errors)) / more : 0, (value) => value.toFixed(1));
  chart(item, model.model, "latency", more ? (1000 * (seconds - last.seconds)) / more : 0, (value) => value.toFixed(0));
  chart(item, model.model, "inside", inside, String);
}

function chart(item, name, key, value, told) {
  const id = `${name} ${key}`;
  const values = [...(history.get(id) ?? []), value].slice(-POINTS);
  history.set(id, values);
  const top = Math.max(...values, 1);
  const points = values.map((one, index) => `${((index + POINTS - values.length) * 100) / (POINTS - 1)},${29 - (28 * one) / top}`);
  item.querySelector(`[data-chart=${key}]`).setAttribute("points", points.join(" "));
  item.querySelector(`[data-now=${key}]`).textContent = told(value);
}
