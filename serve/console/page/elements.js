// Elements of the page. Texts, wherever they come from, are only ever written as text.
export const byId = (id) => document.getElementById(id);

export function make(tag, options = {}, ...children) {
  const { text, name, ...attributes } = options;
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

// Only what differs is written: selections and screen readers stay where they are.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

// Chooses among values; what was chosen stays chosen if it is still there.
export function fillSelect(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value, text })));
  if (options.some(([value]) => value === before)) select.value = before;
}

const defined = new WeakMap();

// Terms and what they mean; those without a meaning are left out.
export function definitions(list, pairs) {
  const shown = pairs.filter(([, meaning]) => meaning !== null && meaning !== undefined && meaning !== "");
  const told = JSON.stringify(shown);
  if (defined.get(list) === told) return;
  defined.set(list, told);
  list.replaceChildren(...shown.map(([term, meaning]) => make("div", {}, make("dt", { text: term }), make("dd", { text: meaning }))));
}
