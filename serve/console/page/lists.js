// What happens: decisions, models and edges that come and go, and requests that have ended. The latest are first.
import { byId, make, write } from "./elements.js";
import { counted, seconds, timeOf } from "./words.js";

const HAPPENED = {
  loaded: (one) => `${one.edge} loaded ${one.model}`,
  evicted: (one) => `${one.edge} dropped ${one.model}`,
  lost: (one) => `${one.edge} is not healthy${one.reason ? `: ${one.reason}` : ""}`,
  back: (one) => `${one.edge} is healthy again`,
};
const MARKS = { loaded: "+", evicted: "−", lost: "!", back: "✓" };
const OUTCOMES = { served: "served", late: "late", gone: "client left" };

// Entries never change: rows are made once and moved out at the end of the list.
class List {
  constructor(id, make) {
    this.body = byId(id);
    this.make = make;
    this.rows = new Map();
  }

  draw(entries) {
    const rows = new Map(entries.map((entry) => {
      const name = `${entry.at} ${entry.number}`;
      return [name, this.rows.get(name) ?? this.make(entry)];
    }));
    for (const [name, row] of this.rows) if (!rows.has(name)) row.remove();
    let place = this.body.firstChild;
    for (const row of rows.values()) {
      if (row === place) place = place.nextSibling;
      else this.body.insertBefore(row, place);
    }
    this.rows = rows;
  }
}

const cell = (text, name) => make("td", { text: text ?? "", ...(name && { name }) });
const time = (at) => make("td", {}, make("time", { text: timeOf(at), datetime: new Date(at * 1000).toISOString() }));

function decisionRow(one) {
  const by = one.fallback ? "least work" : one.policy || "nobody asked";
  const differs = one.shadow && one.shadow !== one.edge;
  const row = make("tr", {}, time(one.at), cell(one.model), cell(one.home), cell(one.edge));
  row.append(cell(one.canary ? `${by}, canary` : by, one.fallback ? "odd" : ""), cell(one.shadow ? (differs ? one.shadow : "agrees") : "", differs ? "odd" : ""));
  row.append(cell(seconds(one.decision_s), "number"));
  if (one.fallback) row.title = one.fallback;
  return row;
}

function happeningRow(one) {
  const mark = make("span", { name: "mark", text: MARKS[one.kind], "aria-hidden": "true" });
  return make("li", { "data-kind": one.kind }, make("time", { text: timeOf(one.at) }), mark, make("span", { text: HAPPENED[one.kind](one) }));
}

export class Lists {
  // `prompts` are those of this page, by seed and model.
  constructor(prompts) {
    this.decisions = new List("decisions", decisionRow);
    this.happenings = new List("happenings", happeningRow);
    this.requests = new List("log", (one) => this.requestRow(one, prompts));
  }

  requestRow(one, prompts) {
    const own = prompts.get(`${one.seed} ${one.model}`), prompt = own ?? one.prompt;
    const size = `${one.size.replace("x", " × ")}${one.pictures > 1 ? `, ${one.pictures} times` : ""}`;
    const row = make("tr", { "data-state": one.outcome }, time(one.at), cell(OUTCOMES[one.outcome] ?? one.reason ?? one.outcome, "outcome"), cell(one.model), cell(size), cell(one.edge));
    for (const text of [one.steps, seconds(one.queue_s), one.load_s ? seconds(one.load_s) : "", seconds(one.generation_s), seconds(one.total_s), one.seed]) row.append(cell(text === undefined ? "" : String(text), "number"));
    row.append(cell(prompt ?? "not shown", prompt ? "prompt" : "prompt hint"));
    return row;
  }

  draw(fleet) {
    this.decisions.draw(fleet.decisions);
    this.happenings.draw(fleet.happenings);
    this.requests.draw(fleet.requests);
    write(byId("decision-words"), counted(fleet.counts.decisions ?? 0, "decision", "in all"));
    write(byId("request-words"), `the latest ${fleet.requests.length} of ${fleet.counts.requests ?? 0}`);
  }
}
