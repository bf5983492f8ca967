// Who decides: the policies in charge, a canary, a shadow, and how they do.
import { byId, definitions, make, show, write } from "./elements.js";
import { counted, percent, signed } from "./words.js";

const HEALTH = { ok: "all is well", degraded: "degraded", unavailable: "unavailable" };

export function drawPolicies(fleet) {
  const { status, policy, policies, cacher } = fleet.state;
  const pill = byId("health");
  pill.dataset.state = status;
  write(pill, HEALTH[status] ?? status);
  write(byId("charge"), `decided by ${policy.label}`);
  definitions(byId("policies"), [
    ...Object.entries(policies).map(([role, label]) => [role, label === null ? "each edge by itself" : label]),
    ["decisions", recordOf(policy)],
    ["trouble", policy.last_failure],
    ["canary", canaryOf(policy.canary)],
    ["shadow", shadowOf(policy.shadow)],
    ["cacher", cacher?.failures ? `failed in ${counted(cacher.failures, "frame")}: ${cacher.last_failure}` : null],
  ]);
  show(byId("changes-title"), policy.events.length > 0);
  const told = policy.events.join("\n");
  if (byId("changes").dataset.told !== told) {
    byId("changes").dataset.told = told;
    byId("changes").replaceChildren(...[...policy.events].reverse().map((text) => make("li", { text })));
  }
}

function recordOf(policy) {
  const parts = [String(policy.decisions)];
  if (policy.fallbacks) parts.push(`${policy.fallbacks} by least work instead`);
  if (policy.late) parts.push(`${policy.late} took too long`);
  if (policy.failures) parts.push(`${policy.failures} failed`);
  return parts.join(", ");
}

function canaryOf(canary) {
  if (!canary) return null;
  const parts = [`${canary.name} gets ${percent(canary.share)}`];
  if (canary.interval) parts.push(`${signed(canary.difference)} (${canary.interval.map(signed).join(" to ")}) in ${counted(canary.blocks, "block")}`);
  else parts.push("too early to say more");
  if (canary.failures) parts.push(`${canary.failures} failed`);
  return parts.join(", ");
}

function shadowOf(shadow) {
  if (!shadow) return null;
  const parts = [shadow.decisions ? `${shadow.name} agrees in ${percent(shadow.agreement)} of ${shadow.decisions}, would gain ${signed(shadow.expected_gain)} each` : shadow.name];
  if (shadow.failures) parts.push(`${shadow.failures} failed`);
  return parts.join(", ");
}
