// Numbers and times as people read them.
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

export const timeOf = (at_s) => clock.format(new Date(at_s * 1000));

export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value > 0 && value < 0.0995) return `${+(value * 1000).toPrecision(2)} ms`;
  return value < 99.5 ? `${+value.toPrecision(value < 10 ? 2 : 3)} s` : `${Math.round(value)} s`;
}

export const percent = (share) => `${+(100 * share).toPrecision(2)} %`;

export const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${+Math.abs(value).toPrecision(2)}`;

export const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
