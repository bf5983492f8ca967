// A request for pictures on its way, and its card: progress, previews, the pictures and how they were made.
import { byId, definitions, make, show, write } from "./elements.js";
import { Refusal, ask, events, refused } from "./service.js";
import { counted, seconds } from "./words.js";

const PATH = "/v1/images/generations";
const MOST_CARDS = 12;
const say = (text) => write(byId("said"), text);

function stageOf({ status, edge, position, wait_s, step, steps }) {
  const about = wait_s ? `, about ${seconds(wait_s)}` : "";
  if (status === "held") return `Waits for its turn${about}`;
  if (status === "queued") return `Waits on ${edge}${position ? `: ${position} before it` : ""}${about}`;
  return step ? `${edge} paints: step ${step} of ${steps}` : `${edge} begins`;
}

export class Picture {
  constructor(body) {
    this.body = body;
    this.abort = new AbortController();
    this.urls = [];
    this.begun = performance.now();
    this.status = make("p", { name: "status", text: "Sent" });
    this.progress = make("progress", { "aria-label": "Progress" });
    this.frames = make("div", { name: "frames" });
    this.facts = make("dl", { name: "facts" });
    this.button = make("button", { type: "button", text: "Cancel" });
    this.button.addEventListener("click", () => (this.working ? this.abort.abort() : this.remove()));
    const title = make("h3", { name: "asked", text: body.prompt, title: body.prompt });
    this.card = make("article", { name: "card picture" }, title, this.status, this.progress, this.frames, this.facts, this.button);
    byId("pictures").prepend(this.card);
    this.card.picture = this;
    this.card.scrollIntoView({ block: "nearest" });  // on a phone it may be below the window
    for (const old of [...byId("pictures").children].slice(MOST_CARDS)) if (!old.picture.working) old.picture.remove();
  }

  // Asks for the pictures, in a stream if fields are given that ask for one; returns the refusal if there is one.
  async paint(streaming) {
    this.working = true;
    this.watch = setInterval(() => this.tick(), 250);
    this.stage = "Waiting";
    this.tick();
    say("The request is on its way.");
    try {
      const body = { ...this.body, ...streaming };
      const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: this.abort.signal };
      const answer = await ask(PATH, options);
      if ((answer.headers.get("content-type") ?? "").startsWith("text/event-stream")) await this.follow(answer);
      else this.finish(await answer.json());
    } catch (error) {
      const left = error.name === "AbortError";
      const known = left || error instanceof Refusal;
      this.end(left ? "Cancelled." : known ? error.message : "The answer of the service can not be read.", left ? "left" : "failed");
      if (!known) throw error;
      return left ? null : error;
    } finally {
      clearInterval(this.watch);
      this.working = false;
    }
    return null;
  }

  async follow(answer) {
    const finished = [];
    for await (const { event, data } of events(answer)) {
      if (event === "error") throw refused(data.error, 0);
      if (event === "edgegen.progress") this.proceed(data.edgegen);
      if (event === "image_generation.partial_image") this.preview(data);
      if (event === "image_generation.completed") finished[data.edgegen.image_index] = data;
    }
    if (!finished.length) throw new Refusal("The stream ended before the picture was finished.", 0);
    this.finish({ data: finished, edgegen: finished.at(-1).edgegen });
  }

  // Tells how far the request is.
  proceed(doing) {
    const stage = stageOf(doing);
    if (doing.step) {
      this.progress.max = doing.steps;
      this.progress.value = doing.step;
    }
    if (stage.split(":")[0] !== this.stage.split(":")[0]) say(stage);  // not every step
    this.stage = stage;
    this.tick();
  }

  preview(data) {
    const { image_index, step, steps } = data.edgegen;
    const frame = this.put(image_index, data, `Preview of “${this.body.prompt}” after ${step} of ${steps} steps`);
    frame.classList.add("preview");
    say(`Preview after ${step} of ${steps} steps.`);
  }

  finish(answer) {
    const served = answer.edgegen ?? {};
    answer.data.forEach((picture, at) => {
      const seed = served.seed === undefined ? null : (served.seed + at) % 2 ** 32;
      const frame = this.put(at, picture, this.body.prompt);
      frame.classList.remove("preview");
      const kind = picture.output_format ?? answer.output_format ?? "png";
      const name = `edgegen-${this.body.model ?? "picture"}-${seed ?? at}.${kind}`.replaceAll(/[^\w.-]+/g, "_");
      const caption = frame.querySelector("figcaption") ?? frame.appendChild(make("figcaption"));
      caption.replaceChildren(make("span", { text: seed === null ? "" : `seed ${seed}` }), make("a", { href: frame.querySelector("img").src, download: name, text: "Download", "aria-label": `Download picture ${at + 1} of “${this.body.prompt}”` }));
    });
    definitions(this.facts, [
      ["edge", served.server],
      ["from", served.home !== served.server ? served.home : null],
      ["model", this.body.model],
      ["steps", served.steps],
      ["wait", seconds(served.queue_s)],
      ["load", served.load_s ? seconds(served.load_s) : "none"],
      ["painting", seconds(served.generation_s)],
      ["whole", seconds(served.total_s)],
      ["decision", seconds(served.decision_s)],
      ["not by policy", served.fallback],
    ]);
    this.served = served;
    const what = counted(answer.data.length, "picture");
    this.end(`${what} in ${seconds((performance.now() - this.begun) / 1000)}`, "served");
    say(`${what} of “${this.body.prompt}” finished${served.server ? ` by ${served.server}` : ""}.`);
  }

  // Puts a picture, or a preview of it, into its place.
  put(at, picture, words) {
    while (this.frames.children.length <= at) this.frames.append(make("figure", {}, make("img", { alt: "" })));
    const frame = this.frames.children[at], image = frame.querySelector("img");
    const bytes = Uint8Array.from(atob(picture.b64_json), (letter) => letter.charCodeAt(0));
    URL.revokeObjectURL(this.urls[at]);
    image.src = this.urls[at] = URL.createObjectURL(new Blob([bytes], { type: `image/${picture.output_format ?? "png"}` }));
    image.alt = words;
    return frame;
  }

  tick() {
    write(this.status, `${this.stage} · ${Math.round((performance.now() - this.begun) / 1000)} s`);
  }

  end(text, state) {
    write(this.status, text);
    this.card.dataset.state = state;
    show(this.progress, false);
    this.button.textContent = "Remove";
    if (state !== "served") say(text);
  }

  remove() {
    const next = this.card.nextElementSibling ?? this.card.previousElementSibling;
    const focused = this.card.contains(document.activeElement);
    this.card.remove();
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    if (focused) (next?.querySelector("button") ?? byId("prompt")).focus();
  }
}
