// The edges: models in memory, queue, capacity and health of each.
import { byId, make, show, write } from "./elements.js";
import { requestsOn } from "./fleet.js";
import { Timeline } from "./timeline.js";
import { counted, seconds } from "./words.js";

class Row {
  constructor(edge) {
    this.state = make("span", { name: "state" });
    this.models = make("ul", { name: "plain models", "aria-label": `Models of ${edge.name}` });
    this.line = make("div", { name: "spark" });
    this.timeline = new Timeline(this.line);
    this.queue = make("span");
    this.facts = make("span", { name: "hint" });
    this.numbers = make("p", { name: "numbers" }, this.queue, " ", this.facts);
    this.reason = make("p", { name: "reason" });
    const title = make("h4", {}, make("span", { text: edge.name }), this.state);
    this.element = make("li", { name: "edge" }, title, this.models, this.line, this.numbers, this.reason);
    this.chips = "";
  }

  draw(edge, samples, most) {
    this.element.dataset.state = edge.healthy ? (edge.in_work ? "busy" : "idle") : "lost";
    const words = edge.healthy ? (edge.in_work ? "working" : "idle") : "not healthy";
    write(this.state, edge.cloud ? `${words}, cloud` : words);
    this.drawModels(edge);
    this.timeline.draw(samples, requestsOn(edge), most, `Requests on ${edge.name}`);
    const queue = edge.waiting ? `${edge.waiting} waiting, ${seconds(edge.wait_s)}` : edge.in_work ? `free in ${seconds(edge.wait_s)}` : "nothing waits";
    write(this.queue, queue);
    write(this.facts, `${edge.capacity_gcycles_s} Gcycle/s, ${counted(edge.pictures, "picture")}`);
    write(this.reason, edge.healthy ? "" : (edge.reason ?? ""));
  }

  drawModels(edge) {
    const chips = edge.models.map((model) => [model, chipOf(edge, model)]);
    if (JSON.stringify(chips) === this.chips) return;
    this.chips = JSON.stringify(chips);
    this.models.replaceChildren(...chips.map(([model, [kind, words]]) => {
      const chip = make("li", { name: `model ${kind}`, title: `${model}: ${words}` }, make("span", { text: model }));
      chip.append(make("span", { name: "unseen", text: `, ${words}` }));
      return chip;
    }));
  }
}

function chipOf(edge, model) {
  const there = edge.resident.includes(model), stays = edge.expected.includes(model);
  if (!there && (stays || edge.loading.includes(model))) return ["coming", "on its way in"];
  if (there) return stays ? ["resident", "in memory"] : ["leaving", "on its way out"];
  return ["", "not in memory"];
}

export class Edges {
  constructor() {
    this.rows = new Map();
    this.total = new Timeline(byId("queue-line"));
    byId("filter").addEventListener("input", () => this.filter());
  }

  draw(fleet) {
    const edges = [...fleet.edges.values()];
    if (edges.length !== this.rows.size || edges.some((edge) => !this.rows.has(edge.name))) {
      this.rows = new Map(edges.map((edge) => [edge.name, new Row(edge)]));
      byId("edges").replaceChildren(...edges.map((edge) => this.rows.get(edge.name).element));
      this.models = new Map(edges.map((edge) => [edge.name, edge.models.join(" ")]));
      this.filter();
    }
    const counts = (edge) => fleet.queues.get(edge.name) ?? [];
    const most = Math.max(4, ...edges.map((edge) => Math.max(requestsOn(edge), ...counts(edge))));
    for (const edge of edges) this.rows.get(edge.name).draw(edge, counts(edge), most);
    const lost = edges.filter((edge) => !edge.healthy).length;
    const busy = edges.filter((edge) => edge.in_work).length;
    write(byId("edge-words"), `${edges.length}, ${busy} working${lost ? `, ${lost} not healthy` : ""}`);
    this.drawTotal(fleet, edges, counts);
  }

  drawTotal(fleet, edges, counts) {
    const samples = fleet.held.map((held, index) => held + edges.reduce((sum, edge) => sum + (counts(edge)[index] ?? 0), 0));
    const held = fleet.state.waiting ?? 0, now = held + edges.reduce((sum, edge) => sum + requestsOn(edge), 0);
    const most = Math.max(now, ...samples), waiting = now - edges.filter((edge) => edge.in_work).length;
    this.total.draw(samples, now, Math.max(most, 4), "Requests in the service");
    write(byId("queue-most"), String(Math.max(most, 4)));
    write(byId("queue-words"), `${now - waiting} in work, ${waiting} waiting${held ? ` (${held} of them for a turn)` : ""}; at most ${most}`);
  }

  filter() {
    const wanted = byId("filter").value.trim().toLowerCase();
    for (const [name, row] of this.rows) show(row.element, `${name} ${this.models.get(name)}`.toLowerCase().includes(wanted));
  }
}
