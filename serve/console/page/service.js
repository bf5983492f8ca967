// The service: every question to it goes through here, with the API key if there is one.
const STORE = "edgegen-key";

export const key = {
  get value() { return sessionStorage.getItem(STORE) ?? ""; },
  set value(secret) { if (secret) sessionStorage.setItem(STORE, secret); else sessionStorage.removeItem(STORE); },
};

// An answer that is an error, as the one sentence that the service says about it.
export class Refusal extends Error {
  constructor(message, status, param = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key.value) headers.Authorization = `Bearer ${key.value}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The service can not be reached.", 0);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

async function refusal(answer) {
  try {
    return refused((await answer.json()).error, answer.status);
  } catch {
    return new Refusal(`The service answered ${answer.status}.`, answer.status);
  }
}

export function refused(error, status) {
  if (typeof error?.message !== "string") throw new TypeError("no error of the API");
  return new Refusal(error.message, status, error.param);
}

// Server-sent events of an answer, as {event, data}. EventSource can not send a key.
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new Refusal("The connection to the service was lost.", 0);
      });
      if (done) return;
      const messages = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = messages.pop();
      for (const message of messages) yield parsed(message);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(message) {
  const found = { event: "message", data: null }, lines = [];
  for (const line of message.split("\n")) {
    if (line.startsWith("event:")) found.event = line.slice(6).trim();
    if (line.startsWith("data:")) lines.push(line.slice(5).trimStart());
  }
  if (lines.length && lines[0] !== "[DONE]") found.data = JSON.parse(lines.join("\n"));
  return found;
}
