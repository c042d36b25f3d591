"use strict";

// Swagger UI with Dimple's own API first and open; the other APIs are closed, and routes of pages are left out.

const OPEN = ["Pictures", "What an answer rests on", "Health", "Metrics"];
const LEFT_OUT = ["The page", "Documents"];
const place = document.getElementById("docs");

// Only the operations and the button for the token: the page has its own title, and one server. What would be a control
// inside a control is left out.
const parts = (system) => ({
  components: {
    OperationsAlone: ({ getComponent }) => {
      const create = system.React.createElement;
      return create("div", { className: "swagger-ui" },
        create("div", { className: "scheme-container" }, create(getComponent("AuthorizeBtnContainer", true))),
        create(getComponent("operations", true)));
    },
    CopyToClipboardBtn: () => null,
    JumpToPath: () => null,
  },
});

fetch(place.dataset.document)
  .then((answer) => answer.json())
  .then((spec) => {
    const page = SwaggerUIBundle({
      spec: forPeople(spec),
      domNode: place,
      layout: "OperationsAlone",
      plugins: [parts],
      displayRequestDuration: true,
      defaultModelsExpandDepth: -1,
      syntaxHighlight: false,
      validatorUrl: null, // the document is nobody else's business
    });
    for (const { name } of spec.tags) if (!OPEN.includes(name)) page.layoutActions.show(["operations-tag", name], false);
    new MutationObserver(repair).observe(place, { childList: true, subtree: true });
    repair();
  });

function forPeople(spec) {
  const paths = {};
  for (const [path, operations] of Object.entries(spec.paths)) {
    const rest = Object.entries(operations).filter(([method, operation]) => method === "parameters" || !LEFT_OUT.includes(operation.tags[0]));
    if (rest.some(([method]) => method !== "parameters")) paths[path] = Object.fromEntries(rest);
  }
  return { ...spec, paths, tags: spec.tags.filter((tag) => !LEFT_OUT.includes(tag.name)) };
}

// What Swagger UI's markup lacks for assistive technology. Attributes only: the elements are React's.
function repair() {
  for (const pre of place.querySelectorAll("pre:not([tabindex])")) pre.tabIndex = 0;
  for (const field of place.querySelectorAll("input:not([aria-label]), select:not([aria-label]), textarea:not([aria-label])")) {
    const row = field.closest("tr");
    const name = row?.querySelector(".parameter__name")?.firstChild?.textContent ?? row?.dataset.paramName;
    field.setAttribute("aria-label", name ?? field.getAttribute("placeholder") ?? field.closest("[class*=content-type]")?.className ?? "Value");
  }
}
