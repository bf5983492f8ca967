// What the gateway says of the fleet: the whole state first, then what has changed.
import { ask, askJson, events } from "./service.js";

const LISTS = { decisions: 64, happenings: 64, requests: 100 };
const SAMPLES = 60;
const AGAIN_S = [1, 2, 5, 10];
const POLL_S = 5;
const SILENT_S = 25;  // the service says at least something every ten seconds
const pause = (time_s, signal) => new Promise((done) => {
  const timer = setTimeout(done, time_s * 1000);
  signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
});

export class Fleet {
  constructor(changed, connection) {
    this.changed = changed;
    this.connection = connection;
    this.gateway = null;
    this.state = {};
    this.edges = new Map();
    this.queues = new Map();
    this.held = [];
    this.counts = {};
    for (const name of Object.keys(LISTS)) this[name] = [];
  }

  // Begins again, for example with another key.
  restart() {
    this.leave?.abort();
    this.leave = new AbortController();
    this.run(this.leave.signal);
  }

  async run(signal) {
    let failed = 0;
    while (!signal.aborted) {
      try {
        await this.follow(signal);
        failed = 0;
        continue;  // a stream that has ended as it should
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 503 && (await this.look(signal))) {  // too many viewers, but the state can be asked for
          await pause(POLL_S, signal);
          continue;
        }
        this.connection("lost", error);
      }
      await pause(AGAIN_S[Math.min(failed++, AGAIN_S.length - 1)], signal);
    }
  }

  async follow(signal) {
    const silent = new AbortController();
    let timer = setTimeout(() => silent.abort(), SILENT_S * 1000);
    const answer = await ask("/v1/fleet/events", { signal: AbortSignal.any([signal, silent.signal]) });
    try {
      for await (const { event, data } of events(answer)) {
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), SILENT_S * 1000);
        if (event === "fleet") { this.begin(data); this.connection("live"); }
        if (event === "change") this.change(data);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async look(signal) {
    try {
      this.begin(await askJson("/v1/fleet", { signal }));
      this.connection("polled");
      return true;
    } catch {
      return false;
    }
  }

  begin(data) {
    this.state = data.state;
    this.edges = new Map(data.edges.map((edge) => [edge.name, edge]));
    this.queues = new Map(Object.entries(data.history.edges));
    this.held = data.history.held;
    this.step_s = data.history.step_s;
    this.sampled = data.at;
    this.counts = data.counts;
    const other = this.gateway !== data.gateway;
    for (const name of Object.keys(LISTS)) {
      // What another gateway told before stays in the list, by its time.
      const before = this[name].map((entry) => ({ ...entry, foreign: entry.foreign || other }));
      this[name] = this.merged(name, before, data[name]);
    }
    this.gateway = data.gateway;
    this.changed();
  }

  change(data) {
    for (const part of data.edges ?? []) Object.assign(this.edges.get(part.name), part);
    if (data.state) this.state = data.state;
    this.counts = data.counts;
    for (const name of Object.keys(LISTS)) if (data[name]) this[name] = this.merged(name, this[name], data[name]);
    while (data.at - this.sampled >= this.step_s) {
      this.sampled += this.step_s;
      for (const [name, samples] of this.queues) this.sample(samples, requestsOn(this.edges.get(name)));
      this.sample(this.held, this.state.waiting ?? 0);
    }
    this.changed();
  }

  sample(samples, value) {
    samples.push(value);
    if (samples.length > SAMPLES) samples.shift();
  }

  // The latest first; entries of one gateway are known by their numbers.
  merged(name, before, fresh) {
    const known = new Set(before.filter((entry) => !entry.foreign).map((entry) => entry.number));
    const added = fresh.filter((entry) => !known.has(entry.number));
    return [...added, ...before].sort((one, other) => other.at - one.at || other.number - one.number).slice(0, LISTS[name]);
  }
}

export const requestsOn = (edge) => edge.waiting + (edge.in_work ? 1 : 0);
