"use strict";
// Draws the episode whose data stands in the page. Texts of the data are only ever written as textContent.
const data = JSON.parse(document.getElementById("episode").textContent);
const { arrivals, troubles } = data;
const count = arrivals.arrival_s.length, sites = data.sites.length, CLOUD = sites;
const byId = (id) => document.getElementById(id);
const [LANE, TOP, TRACK, FEET, MEMORY] = [114, 36, 42, 80, 85]; // heights of a lane: backlog, blocks, memory
const endOf = (value) => (value === null ? data.end_s : value);

function element(parent, kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// Last place in a rising list that is at most a value, -1 if there is none.
function last(rising, value) {
  let low = 0, high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle] <= value) low = middle + 1; else high = middle;
  }
  return low - 1;
}

// Rows for intervals [from, until] that overlap: each takes the first row that is free.
function rows(items) {
  const free = [];
  for (const item of items) {
    let row = free.findIndex((until) => until <= item.from + 1e-9);
    if (row < 0) row = free.push(0) - 1;
    free[row] = item.until;
    item.row = row;
  }
  return free.length;
}

function tableRows(table) {
  const names = Object.keys(table);
  return table[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, table[name][i]])));
}

// What one policy made of the episode: sums by request, and what every site did.
function prepared(policy) {
  const { served, loads, queues, residents } = policy;
  const sums = { utility: [0], late: [0], refused: [0], cloud: [0] };
  const lanes = Array.from({ length: sites + 1 }, () => ({ blocks: [], loads: [], refused: [], at: [], free: [], memory: [] }));
  for (let k = 0; k < count; k++) {
    const site = served.site[k], refused = site > sites;
    sums.utility.push(sums.utility[k] + served.utility[k]);
    sums.late.push(sums.late[k] + (served.late[k] ? 1 : 0));
    sums.refused.push(sums.refused[k] + (refused ? 1 : 0));
    sums.cloud.push(sums.cloud[k] + (site === CLOUD ? 1 : 0));
    const at = arrivals.arrival_s[k], begun = at + served.wait_s[k] + (site === CLOUD ? 0 : served.load_s[k]);
    if (refused) lanes[arrivals.home[k]].refused.push({ k, from: at });
    else if (site === CLOUD) lanes[site].blocks.push({ k, from: at, run: at + served.transfer_s[k], until: at + served.delay_s[k] });
    else lanes[site].blocks.push({ k, from: begun, run: begun, until: begun + served.generation_s[k] });
  }
  for (const load of tableRows(loads)) lanes[load.site].loads.push({ ...load, from: load.begun_s, until: load.done_s });
  for (const queue of tableRows(queues)) { lanes[queue.site].at.push(queue.at_s); lanes[queue.site].free.push(queue.free_s); }
  for (const held of tableRows(residents)) lanes[held.site].memory.push({ ...held, from: held.from_s, until: endOf(held.until_s) });
  for (const lane of lanes) {
    lane.memory.sort((one, other) => one.from - other.from);
    lane.slots = rows(lane.memory);
    lane.backlog = (t) => { const i = last(lane.at, t); return i < 0 ? 0 : Math.max(lane.free[i] - t, 0); };
    lane.longest = lane.at.reduce((most, at, i) => Math.max(most, lane.free[i] - at), 0);
  }
  lanes[CLOUD].slots = rows(lanes[CLOUD].blocks);
  const at = loads.at_s.slice().sort((one, other) => one - other);
  return { ...policy, sums, lanes, loadsUntil: (t) => last(at, t) + 1 };
}

const policies = data.policies.map(prepared);
const scale_s = Math.max(1e-9, ...policies.flatMap((policy) => policy.lanes.map((lane) => lane.longest)));
const troubleOf = tableRows(troubles).reduce((all, one) => { (all[one.site] ||= []).push(one); return all; }, {});
const meanBacklog = (policy, t) => policy.lanes.slice(0, sites).reduce((sum, lane) => sum + lane.backlog(t), 0) / sites;
const MOMENTS = 400;
for (const policy of policies) {
  policy.mean = Array.from({ length: MOMENTS + 1 }, (_, i) => meanBacklog(policy, (i / MOMENTS) * data.end_s));
}
const meanScale_s = Math.max(1e-9, ...policies.flatMap((policy) => policy.mean));

// State, and what of the time is shown.
let now = data.end_s, length = data.end_s, playing = false, before = 0, colours = {};
const view = () => Math.min(Math.max(now - length / 2, 0), data.end_s - length);

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "quiet", "line", "timely", "late", "refused", "load", "backlog", "trouble", "card"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}
const modelColour = (model) => `hsl(${(model * 137.5 + 20) % 360} 45% 58%)`;

// Drawing of one lane.
function drawLane(cell) {
  const { canvas, policy, site } = cell, ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const draw = canvas.getContext("2d"), start = view(), x = (t) => ((t - start) / length) * width;
  draw.scale(ratio, ratio);
  const box = (from, until, top, size, colour, alpha = 1) => {
    const left = x(from), right = x(until);
    if (right < 0 || left > width) return 0;
    draw.globalAlpha = alpha; draw.fillStyle = colour;
    draw.fillRect(left, top, Math.max(right - left - (right - left > 3 ? 0.8 : 0), 0.6), size);
    draw.globalAlpha = 1;
    return Math.min(right, width) - Math.max(left, 0);
  };
  const write = (text, from, until, y, colour, size = 10) => {
    draw.font = `${size}px system-ui, sans-serif`; draw.fillStyle = colour; draw.textAlign = "center";
    draw.fillText(text, (Math.max(x(from), 0) + Math.min(x(until), width)) / 2, y);
  };
  for (const one of troubleOf[site] || []) box(one.from_s, endOf(one.until_s), 0, height, colours.trouble, 0.8);
  drawTicks(draw, x, start, width, height, site < 0);
  if (site < 0) return drawMean(draw, policy, x, height);
  const lane = policy.lanes[site], cloud = site === CLOUD;
  if (!cloud) drawBacklog(draw, lane, x, start, width);
  for (const load of lane.loads) {
    const shown = box(load.from, load.until, TRACK, FEET - TRACK, colours.load);
    if (shown > 16) write(load.model, load.from, load.until, TRACK + 22, colours.card);
  }
  for (const block of lane.blocks) {
    const { served } = policy, share = Math.min(served.steps[block.k] / arrivals.asked[block.k], 1);
    const colour = served.late[block.k] ? colours.late : colours.timely;
    const top = cloud ? 5 + block.row * cell.row : TRACK, size = cloud ? cell.row - 1.5 : FEET - TRACK;
    if (cloud) box(block.from, block.run, top + size / 2 - 0.5, 1, colour, 0.7);
    box(block.run, block.until, top, size, colour, served.late[block.k] ? 0.45 : 0.25);
    const shown = box(block.run, block.until, top + size * (1 - share), size * share, colour);
    if (shown > 16 && size > 12) write(arrivals.model[block.k], block.run, block.until, top + size - 4, colours.card);
  }
  for (const one of lane.refused) {
    const middle = x(one.from);
    draw.strokeStyle = colours.refused; draw.lineWidth = 2;
    draw.beginPath(); draw.moveTo(middle - 4, TRACK); draw.lineTo(middle + 4, TRACK + 8);
    draw.moveTo(middle + 4, TRACK); draw.lineTo(middle - 4, TRACK + 8); draw.stroke();
  }
  if (cloud) return;
  const thick = (height - MEMORY - 3) / Math.max(lane.slots, 1);
  for (const held of lane.memory) {
    const top = MEMORY + held.row * thick;
    const shown = box(held.from, held.until, top, Math.max(thick - 0.8, 0.8), modelColour(held.model), 0.85);
    if (shown > 16 && thick > 7) write(held.model, held.from, held.until, top + thick / 2 + 3, colours.card, 9);
  }
}

function drawTicks(draw, x, start, width, height, labels) {
  const wish = (length / width) * 90, power = 10 ** Math.floor(Math.log10(wish));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= wish);
  draw.strokeStyle = colours.line; draw.fillStyle = colours.quiet; draw.font = "11px system-ui, sans-serif"; draw.lineWidth = 1;
  for (let i = Math.ceil(start / step); i * step <= start + length; i++) {
    const place = Math.round(x(i * step)) + 0.5;
    draw.beginPath(); draw.moveTo(place, 0); draw.lineTo(place, height); draw.stroke();
    if (labels) { draw.textAlign = "left"; draw.fillText(`${+(i * step).toPrecision(6)} s`, place + 3, 11); }
  }
  draw.setLineDash([3, 3]); draw.strokeStyle = colours.quiet;
  draw.beginPath(); draw.moveTo(x(data.duration_s), 0); draw.lineTo(x(data.duration_s), height); draw.stroke();
  draw.setLineDash([]);
}

function area(draw, points, foot) {
  if (!points.length) return;
  draw.beginPath(); draw.moveTo(points[0][0], foot);
  for (const [px, py] of points) draw.lineTo(px, py);
  draw.lineTo(points[points.length - 1][0], foot); draw.closePath();
  draw.globalAlpha = 0.22; draw.fillStyle = colours.backlog; draw.fill(); draw.globalAlpha = 1;
  draw.beginPath(); points.forEach(([px, py], i) => (i ? draw.lineTo(px, py) : draw.moveTo(px, py)));
  draw.strokeStyle = colours.backlog; draw.lineWidth = 1.2; draw.stroke();
}

function drawBacklog(draw, lane, x, start, width) {
  const y = (value) => TOP - (value / scale_s) * (TOP - 4), points = [[x(0), TOP]];
  for (let i = Math.max(last(lane.at, start) - 1, 0); i < lane.at.length && lane.at[i] <= start + length; i++) {
    const at = lane.at[i], left = i ? lane.free[i - 1] - at : 0;
    if (left <= 0 && i) points.push([x(lane.free[i - 1]), TOP]);
    points.push([x(at), y(Math.max(left, 0))], [x(at), y(lane.free[i] - at)]);
  }
  const i = last(lane.at, start + length);
  if (i >= 0) points.push([x(Math.max(lane.free[i], lane.at[i])), TOP]);
  points.push([Math.max(width, points[points.length - 1][0]), TOP]);
  area(draw, points, TOP);
}

function drawMean(draw, policy, x, height) {
  const y = (value) => height - 3 - (value / meanScale_s) * (height - 20);
  area(draw, policy.mean.map((value, i) => [x((i / MOMENTS) * data.end_s), y(value)]), height - 3);
}

// The page: a head row, a row over all sites, a row per site, and the cloud's.
const cells = [], main = byId("lanes");
const watcher = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    const cell = cells[target.dataset.cell];
    cell.visible = isIntersecting;
    if (isIntersecting) { drawLane(cell); tell(cell); } else cell.canvas.width = cell.canvas.height = 0; // gives its memory back
  }
}, { rootMargin: "200px" });

function addRow(title, small, site, height) {
  const name = element(main, "div", "name", title);
  if (small) element(name, "small", "", small);
  policies.forEach((policy, i) => {
    const lane = element(main, "div", i ? "lane again" : "lane");
    lane.style.height = `${height}px`;
    lane.dataset.cell = cells.length;
    lane.dataset.policy = policy.label; // shown where there is no room for columns with a head
    lane.classList.toggle("of-all", site < 0);
    const cell = { lane, canvas: element(lane, "canvas"), policy, site, row: 9, visible: false };
    element(lane, "div", "veil");
    cell.note = element(lane, "div", "backlog");
    if (site === CLOUD) cell.row = (height - 10) / Math.max(policy.lanes[CLOUD].slots, 1);
    cells.push(cell);
    lane.addEventListener("pointermove", (event) => point(cell, event));
    lane.addEventListener("pointerleave", () => { byId("facts").hidden = true; });
    lane.addEventListener("click", (event) => { pause(); moveTo(timeAt(cell, event)); });
    watcher.observe(lane);
  });
}

function build() {
  document.documentElement.style.setProperty("--columns", policies.length);
  byId("title").textContent = `${data.scenario}: episode ${data.episode}, seed ${data.seed}`;
  byId("description").textContent = data.description;
  element(element(main, "div", "name"), "small", "", `backlogs: up to ${scale_s.toFixed(1)} s`);
  policies.forEach((policy, i) => {
    element(main, "div", i ? "head again" : "head", policy.label).title = policy.information;
  });
  addRow("all sites", `mean backlog, up to ${meanScale_s.toFixed(1)} s`, -1, 62);
  data.sites.forEach((text, site) => addRow(`site ${site}`, text, site, LANE));
  const most = Math.max(...policies.map((policy) => policy.lanes[CLOUD].slots));
  addRow("cloud", "requests side by side", CLOUD, Math.min(Math.max(most * 12 + 10, 40), 240));
  const select = (id, options, chosen) => {
    for (const [value, text] of options) element(byId(id), "option", "", text).value = value;
    byId(id).value = chosen;
  };
  select("speed", [1, 2, 5, 10, 20, 60].map((one) => [one, `${one}×`]), 5);
  const windows = [1800, 600, 300, 120, 60, 30, 10].filter((one) => one < 0.9 * data.end_s);
  select("window", [[data.end_s, "whole episode"], ...windows.map((one) => [one, `${one} s`])], data.end_s);
  byId("time").max = data.end_s;
  const head = element(element(byId("numbers"), "thead"), "tr");
  for (const title of ["", "requests", "utility", "mean", "late", "refused", "cloud", "loads", "mean backlog", "longest backlog"]) element(head, "th", "", title);
  const body = element(byId("numbers"), "tbody");
  for (const policy of policies) {
    const row = element(body, "tr");
    element(row, "th", "", policy.label).title = policy.label;
    policy.numbers = Array.from({ length: 9 }, () => element(row, "td"));
  }
}

// Numbers at the moment.
function tell(cell) {
  if (cell.site >= 0 && cell.site < CLOUD) cell.note.textContent = `backlog ${cell.policy.lanes[cell.site].backlog(now).toFixed(1)} s`;
}

function numbersAt(policy, t) {
  const arrived = last(arrivals.arrival_s, t) + 1, { sums } = policy;
  const share = (sum) => (arrived ? `${((100 * sum[arrived]) / arrived).toFixed(1)} %` : "–");
  const waits = policy.lanes.slice(0, sites).map((lane) => lane.backlog(t));
  return [
    arrived, sums.utility[arrived].toFixed(1), arrived ? (sums.utility[arrived] / arrived).toFixed(3) : "–",
    share(sums.late), share(sums.refused), share(sums.cloud), policy.loadsUntil(t),
    `${(waits.reduce((sum, one) => sum + one, 0) / sites).toFixed(2)} s`, `${Math.max(...waits).toFixed(1)} s`,
  ];
}

function moveTo(t) {
  now = Math.min(Math.max(t, 0), data.end_s);
  byId("time").value = now;
  byId("moment").textContent = `${now.toFixed(1)} s`;
  main.style.setProperty("--now", (now - view()) / length);
  for (const policy of policies) numbersAt(policy, now).forEach((text, i) => { policy.numbers[i].textContent = text; });
  for (const cell of cells) if (cell.visible) { if (length < data.end_s) drawLane(cell); tell(cell); }
}

function redraw() {
  readColours();
  for (const cell of cells) if (cell.visible) drawLane(cell);
}

function pause() { playing = false; byId("play").textContent = "\u25b6\ufe0e"; }

function tick(stamp) {
  if (!playing) return;
  moveTo(now + Math.min((stamp - before) / 1000, 0.1) * byId("speed").value);
  before = stamp;
  if (now >= data.end_s) pause(); else requestAnimationFrame(tick);
}

function toggle() {
  if (playing) return pause();
  if (now >= data.end_s) moveTo(0);
  playing = true; before = performance.now();
  byId("play").textContent = "\u23f8\ufe0e";
  requestAnimationFrame(tick);
}

// Facts of what is pointed at.
function timeAt(cell, event) {
  const box = cell.lane.getBoundingClientRect();
  return view() + ((event.clientX - box.left) / box.width) * length;
}

const seconds = (value) => `${value.toFixed(2)} s`;

function requestFacts(policy, k) {
  const { served } = policy, site = served.site[k], refused = site > sites;
  const facts = [
    ["arrives", `${seconds(arrivals.arrival_s[k])} at site ${arrivals.home[k]}`],
    ["model", `${arrivals.model[k]} (${data.models[arrivals.model[k]]})`],
    ["pictures", arrivals.pictures[k]], ["worth", arrivals.weight[k]], ["promised delay", seconds(arrivals.deadline_s[k])],
  ];
  if (!refused) facts.push(
    ["delay", seconds(served.delay_s[k])], ["\u2003way there", seconds(served.transfer_s[k])], ["\u2003wait", seconds(served.wait_s[k])],
    ["\u2003load", seconds(served.load_s[k])], ["\u2003generation", seconds(served.generation_s[k])], ["\u2003way back", seconds(served.return_s[k])],
    ["steps", `${served.steps[k]} of ${arrivals.asked[k]}`], ["quality", served.quality[k].toFixed(3)],
  );
  facts.push(["utility", served.utility[k].toFixed(3)]);
  const fate = refused ? "refused" : served.late[k] ? "late" : "in time";
  const where = refused ? "" : site === CLOUD ? " in the cloud" : ` at site ${site}`;
  return [`Request ${k}: ${fate}${where}`, facts];
}

function factsAt(cell, t, y) {
  const { policy, site } = cell, slack = (3 / cell.lane.clientWidth) * length;
  const within = (item) => item.from <= t && t <= item.until, near = (item) => item.from - slack <= t && t <= item.until + slack;
  if (site < 0) return ["All sites", [["at", seconds(t)], ["mean backlog", seconds(meanBacklog(policy, t))]]];
  const lane = policy.lanes[site];
  if (site === CLOUD) {
    const row = Math.floor((y - 5) / cell.row), block = lane.blocks.find((one) => one.row === row && near(one));
    return block && requestFacts(policy, block.k);
  }
  if (y >= TRACK && y < FEET) {
    const turned = y < TRACK + 9 && lane.refused.find((one) => Math.abs(one.from - t) < 2 * slack);
    if (turned) return requestFacts(policy, turned.k);
    const load = lane.loads.find(within), block = lane.blocks.find(within) || (!load && lane.blocks.find(near));
    if (block) return requestFacts(policy, block.k);
    return load && [`Load of model ${load.model}`, [
      ["for", load.request < 0 ? "the site's plan" : `request ${load.request}`], ["decided", seconds(load.at_s)],
      ["begins", seconds(load.begun_s)], ["takes", seconds(load.done_s - load.begun_s)],
    ]];
  }
  if (y >= MEMORY) {
    const thick = (cell.lane.clientHeight - MEMORY - 3) / Math.max(lane.slots, 1);
    const held = lane.memory.find((one) => one.row === Math.floor((y - MEMORY) / thick) && within(one));
    return held && [`Model ${held.model} in memory`, [["it", data.models[held.model]], ["from", seconds(held.from)], ["until", held.until_s === null ? "the end" : seconds(held.until)]]];
  }
  const waiting = lane.blocks.filter((one) => arrivals.arrival_s[one.k] <= t && t < one.until).length;
  return [`Site ${site}`, [["at", seconds(t)], ["backlog", seconds(lane.backlog(t))], ["requests there", waiting]]];
}

function point(cell, event) {
  const box = cell.lane.getBoundingClientRect(), found = factsAt(cell, timeAt(cell, event), event.clientY - box.top), facts = byId("facts");
  facts.hidden = !found;
  if (!found) return;
  facts.replaceChildren();
  element(facts, "b", "", found[0]);
  for (const [name, value] of found[1]) { const line = element(facts, "div"); element(line, "span", "", name); element(line, "span", "", value); }
  facts.style.left = `${Math.min(event.clientX + 14, innerWidth - facts.offsetWidth - 8)}px`;
  facts.style.top = `${Math.max(Math.min(event.clientY + 14, innerHeight - facts.offsetHeight - 8), 8)}px`;
}

readColours();
build();
byId("play").addEventListener("click", toggle);
byId("time").addEventListener("input", (event) => { pause(); moveTo(+event.target.value); });
byId("window").addEventListener("change", (event) => { length = +event.target.value; moveTo(now); redraw(); });
window.addEventListener("resize", redraw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
document.addEventListener("keydown", (event) => { if (event.key === " " && event.target === document.body) { event.preventDefault(); toggle(); } });
moveTo(data.end_s);
