// What the model says of the camera's picture, beside it.

import { watch } from "./camera.js";
import { element, shape } from "./ui.js";

const MOST = 5;
const place = document.getElementById("said");
const before = place && [...place.children];

watch(
  (faces, predictions) => {
    if (!faces) place.replaceChildren(...predictions.slice(0, MOST).map((one, index) => bar(named(one.class), one.probability, index ? "bar" : "bar first")));
    else if (!faces.length) place.replaceChildren(...before);
    else place.replaceChildren(element("div", { class: "faces bars" }, ...faces.map(({ id, predictions: [first], kind }) => bar(named(first.class), first.probability, `bar kind-${kind}`, id))));
  },
  () => place.replaceChildren(...before),
);

function bar(name, probability, kind, id) {
  const which = id ? [element("span", { class: "which" }, String(id)), " "] : [];
  return element("p", { class: kind },
    shape("svg", { "aria-hidden": "true" }, shape("rect", { class: "fill", width: `${probability * 100}%`, height: "100%" })),
    element("span", {}, ...which, name), element("span", { class: "number" }, `${Math.round(probability * 100)}%`));
}

// As the server writes names: without WordNet's number and synonyms
function named(label) {
  const plain = label.replace(/^n\d{8} ([^,]+).*/, "$1").replace(/^(non|not|no)[-_ ]/, "not ");
  return plain[0].toUpperCase() + plain.slice(1);
}
