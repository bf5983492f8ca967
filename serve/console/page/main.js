// The console: what people do on the left, what the fleet does on the right, and what came of it below.
import { byId, show, write } from "./elements.js";
import { Edges } from "./edges.js";
import { Fleet } from "./fleet.js";
import { Form } from "./form.js";
import { setUpKey } from "./key.js";
import { Lists } from "./lists.js";
import { Picture } from "./picture.js";
import { drawPolicies } from "./policies.js";
import { askJson } from "./service.js";

const AGAIN_MS = 3000;
const SENT = 500;  // prompts of this page that are remembered for its log
const prompts = new Map();
let paused = false, learned = false, due = false;

const form = new Form(paint);
const edges = new Edges();
const lists = new Lists(prompts);
const fleet = new Fleet(draw, connection);

async function paint(body) {
  const picture = new Picture(body);
  const error = await picture.paint(form.streaming);
  if (picture.served?.seed !== undefined) {
    prompts.set(`${picture.served.seed} ${body.model}`, body.prompt);
    if (prompts.size > SENT) prompts.delete(prompts.keys().next().value);
  }
  if (error) {
    form.complain(error.message, error.param);
    if (error.status === 401 || error.status === 403) notice(`${error.message} Give it under “API key”.`);
  }
}

// Draws at most once a frame, and nothing while nobody looks.
function draw() {
  if (paused || due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (paused) return;
    edges.draw(fleet);
    drawPolicies(fleet);
    lists.draw(fleet);
    write(byId("gateway"), `Gateway ${fleet.gateway}.`);
  });
}

function connection(state, error) {
  if (state === "lost") {
    byId("health").dataset.state = "unknown";
    write(byId("health"), "not connected");
    notice(error.message);
    learned = false;
    return;
  }
  notice(null);
  if (!learned) learn();
}

// Takes over what may be asked for.
async function learn() {
  learned = true;
  try {
    const [models, schema] = await Promise.all([askJson("/v1/models"), askJson("/openapi.json").catch(() => null)]);
    form.learn(models.data, schema?.paths?.["/v1/images/generations"]?.post?.requestBody?.content?.["application/json"]?.schema);
  } catch (error) {
    learned = false;
    notice(error.message);
    setTimeout(() => learned || learn(), AGAIN_MS);
  }
}

function notice(sentence) {
  write(byId("notice"), sentence ?? "");
  show(byId("notice"), Boolean(sentence));
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  draw();
});
setUpKey(() => { learned = false; fleet.restart(); });
fleet.restart();
