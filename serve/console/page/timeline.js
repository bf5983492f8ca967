// A line of numbers over the last minutes, as SVG; what it shows is said in words, too.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 40, SAMPLES = 60;

export class Timeline {
  constructor(parent) {
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("class", "timeline");
    this.area = this.svg.appendChild(document.createElementNS(SVG, "path"));
    this.line = this.svg.appendChild(document.createElementNS(SVG, "path"));
    this.area.setAttribute("class", "area");
    this.line.setAttribute("class", "line");
    parent.append(this.svg);
  }

  // Draws samples, the latest at the right edge; `most` is the top of the scale.
  draw(samples, now, most, what) {
    const values = [...samples.slice(1 - SAMPLES), now], top = Math.max(most, 1);
    const x = (index) => (WIDTH * (SAMPLES - values.length + index)) / (SAMPLES - 1);
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 3);
    // Steps: a queue has so many requests until it has another number.
    let path = "";
    values.forEach((value, index) => {
      const height = y(value).toFixed(1);
      path += index ? `H${x(index).toFixed(1)}V${height}` : `M${x(0).toFixed(1)} ${height}`;
    });
    this.line.setAttribute("d", path);
    this.area.setAttribute("d", `${path}V${HEIGHT}H${x(0).toFixed(1)}Z`);
    const words = `${what}: ${now} now, ${Math.max(...values)} at most in the last five minutes`;
    if (this.svg.getAttribute("aria-label") !== words) this.svg.setAttribute("aria-label", words);
  }
}
