// The form of a prompt: what may be chosen comes from the models and the schema of the service.
import { byId, fillSelect, show, write } from "./elements.js";

const FIELDS = { prompt: "prompt", model: "model", size: "size", n: "number", num_inference_steps: "steps", seed: "seed", deadline_s: "deadline", quality: "quality", negative_prompt: "negative" };
const QUALITIES = [["", "auto"], ["low", "low"], ["medium", "medium"], ["high", "high"]];

export class Form {
  constructor(send) {
    this.models = [];
    this.streaming = {};
    this.form = byId("form");
    this.form.noValidate = true;  // the service says in one sentence what is wrong
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(send); });
    this.form.addEventListener("input", () => this.complain(null));
    byId("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.submit(send); }
    });
    byId("model").addEventListener("change", () => this.fitModel());
  }

  // Takes over the models, and the schema of a request's body.
  learn(models, schema) {
    this.models = models.filter((model) => !model.edgegen.alias_of);
    const of = (name) => {
      const field = schema?.properties?.[name] ?? {};
      return field.anyOf?.find((option) => option.type !== "null") ?? field;
    };
    const streams = of("stream").type === "boolean" && of("stream").const !== false && !of("stream").enum;
    this.streaming = streams ? { stream: true, partial_images: of("partial_images").maximum, progress: true } : {};
    if (of("prompt").maxLength) byId("prompt").maxLength = of("prompt").maxLength;
    if (of("n").maximum) byId("number").max = of("n").maximum;
    if (of("deadline_s").maximum) byId("deadline").max = of("deadline_s").maximum;
    show(byId("quality-field"), "quality" in (schema?.properties ?? {}));
    fillSelect(byId("quality"), QUALITIES);
    fillSelect(byId("model"), this.models.map((model) => [model.id, model.id]));
    this.fitModel();
  }

  fitModel() {
    const card = this.models.find((model) => model.id === byId("model").value)?.edgegen;
    if (!card) return;
    fillSelect(byId("size"), card.sizes.map((size) => [size, size.replace("x", " × ")]));
    byId("steps").max = card.max_steps;
    byId("steps").placeholder = card.default_steps;
  }

  // The body of a request; fields that are empty are left out.
  body() {
    const body = { prompt: byId("prompt").value };
    for (const name of ["model", "size", "quality", "negative_prompt"]) if (byId(FIELDS[name]).value) body[name] = byId(FIELDS[name]).value;
    for (const name of ["n", "num_inference_steps", "seed", "deadline_s"]) {
      const field = byId(FIELDS[name]);
      if (field.validity.badInput) body[name] = NaN;
      else if (field.value !== "") body[name] = Number(field.value);
    }
    return body;
  }

  submit(send) {
    this.complain(null);
    const body = this.body();
    const wrong = Object.keys(body).find((name) => Number.isNaN(body[name]));
    if (wrong) this.complain("This is no number.", wrong);
    else if (!body.prompt.trim()) this.complain("A prompt says what is to be painted; it must not be empty.", "prompt");
    else send(body);
  }

  // Shows a sentence, and the field that it is about.
  complain(sentence, param = null) {
    write(byId("form-error"), sentence ?? "");
    for (const id of Object.values(FIELDS)) byId(id).removeAttribute("aria-invalid");
    const field = param && FIELDS[param] && byId(FIELDS[param]);
    if (field) {
      field.setAttribute("aria-invalid", "true");
      field.focus();
    }
  }
}
