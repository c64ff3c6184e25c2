// The drawings: beeswarm and scatter on canvas, waterfall in SVG. They read numbers and a view.
const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

const lowToHigh = () => {
  const [low, middle, high] = ["--low", "--middle", "--high"].map((name) => channels(colour(name)));
  const missing = colour("--missing");
  const between = (a, b, t) => a.map((from, i) => Math.round(from + (b[i] - from) * t));
  const steps = Array.from({ length: 65 }, (_, i) => {
    const t = i / 64;
    const rgb = t < 0.5 ? between(low, middle, t * 2) : between(middle, high, t * 2 - 1);
    return `rgb(${rgb.join(",")})`;
  });
  return (share) => (Number.isFinite(share) ? steps[Math.round(share * 64)] : missing);
};

const extent = (list) => {
  let low = Infinity;
  let high = -Infinity;
  for (const value of list) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  if (low === high) { const pad = Math.abs(low) * 0.1 || 0.5; return [low - pad, high + pad]; }
  return [low, high];
};

const scaleOf = (low, high, from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);

const dot = (pen, x, y, radius, fill) => {
  pen.fillStyle = fill;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
};

const ring = (pen, x, y) => {
  pen.strokeStyle = colour("--ink");
  pen.lineWidth = 1.8;
  pen.beginPath();
  pen.arc(x, y, 5.5, 0, 7);
  pen.stroke();
};

const axisX = (pen, x, low, high, top, bottom, width, feature = -1) => {
  pen.textAlign = "center";
  const texts = numbers.raw.levels[feature];
  const whole = texts && texts.length > 0;
  const all = ticks(low, high, width / (texts ? 120 : 90));
  for (const tick of whole ? all.filter(Number.isInteger) : all) {
    pen.strokeStyle = tick === 0 ? colour("--muted") : colour("--line");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x(tick), top);
    pen.lineTo(x(tick), bottom);
    pen.stroke();
    pen.fillStyle = colour("--muted");
    pen.fillText(fitted(pen, numbers.written(feature, tick).slice(0, whole ? 80 : texts ? 10 : 80), width / 4), x(tick), bottom + 11);
  }
};

const radiusFor = (n) => (n > 800 ? 1.8 : n > 200 ? 2.3 : 3);

// Give dots of one line their height: those that share a place are stacked around the middle.
const stacked = (xs, room) => {
  const taken = new Map();
  const level = xs.map((x) => {
    const bin = Math.round(x / 2.5);
    const count = taken.get(bin) || 0;
    taken.set(bin, count + 1);
    return (count % 2 ? 1 : -1) * Math.ceil(count / 2);
  });
  const most = Math.max(1, ...taken.values()) / 2;
  const step = Math.min(2.4, room / most);
  return level.map((l) => l * step);
};

const drawSwarm = (canvas, view) => {
  const { pen, width, height } = sheet(canvas);
  const shown = numbers.ranking(view).slice(0, Math.max(3, Math.floor((height - 24) / 25)));
  const line = Math.min(42, (height - 24) / shown.length);
  const bottom = line * shown.length;
  const left = Math.min(170, width * 0.3);
  const columns = shown.map((j) => Array.from({ length: numbers.n }, (_, r) => numbers.valueIn(view, j, r)));
  const [low, high] = extent(columns.flat().concat(0));
  const x = scaleOf(low, high, left + 14, width - 12);
  axisX(pen, x, low, high, 0, bottom, width - left);
  const paint = lowToHigh();
  const spots = [];
  columns.forEach((values, place) => {
    const feature = shown[place];
    const middle = line * (place + 0.5);
    if (feature === view.feature) {
      pen.fillStyle = colour("--accent-soft");
      pen.fillRect(0, line * place + 1, left, line - 2);
    }
    pen.fillStyle = feature === view.feature ? colour("--accent") : colour("--ink");
    pen.textAlign = "right";
    pen.fillText(fitted(pen, numbers.names[feature], left - 8), left - 4, middle);
    const share = numbers.shareOf(feature);
    const xs = values.map(x);
    stacked(xs, line * 0.44).forEach((offset, r) => {
      dot(pen, xs[r], middle + offset, radiusFor(numbers.n), paint(share[r]));
      spots.push({ x: xs[r], y: middle + offset, row: r, feature });
    });
    const mine = spots[place * numbers.n + view.row];
    ring(pen, mine.x, mine.y);
  });
  return { spots, featureAt: (y) => shown[Math.floor(y / line)] };
};

const drawScatter = (canvas, view, by) => {
  const { pen, width, height } = sheet(canvas);
  const feature = view.feature;
  const rows = Array.from({ length: numbers.n }, (_, r) => r);
  const ys = rows.map((r) => numbers.valueIn(view, feature, r));
  const xs = rows.map((r) => numbers.dataOf(feature, r));
  const [lowX, highX] = extent(xs);
  const [lowY, highY] = extent(ys.concat(0));
  const left = 50;
  const bottom = height - 36;
  const known = xs.every(Number.isFinite) ? left + 8 : left + 30;
  const x = scaleOf(lowX, highX, known, width - 10);
  const y = scaleOf(lowY, highY, bottom - 8, 8);
  axisX(pen, x, lowX, highX, 0, bottom, width - left, feature);
  pen.textAlign = "right";
  for (const tick of ticks(lowY, highY, height / 55)) {
    pen.strokeStyle = tick === 0 ? colour("--muted") : colour("--line");
    pen.beginPath();
    pen.moveTo(left, y(tick));
    pen.lineTo(width, y(tick));
    pen.stroke();
    pen.fillStyle = colour("--muted");
    pen.fillText(short(tick), left - 6, y(tick));
  }
  pen.textAlign = "center";
  pen.fillText(fitted(pen, numbers.names[feature], width - left - 40), left + (width - left) / 2, height - 8);
  const paint = lowToHigh();
  const share = by < 0 ? null : numbers.shareOf(by);
  const accent = colour("--accent");
  const spots = rows.map((r) => ({ x: Number.isFinite(xs[r]) ? x(xs[r]) : left + 10, y: y(ys[r]), row: r, feature }));
  pen.globalAlpha = 0.85;
  for (const spot of spots) dot(pen, spot.x, spot.y, radiusFor(numbers.n) + 0.7, share ? paint(share[spot.row]) : accent);
  pen.globalAlpha = 1;
  ring(pen, spots[view.row].x, spots[view.row].y);
  return { spots };
};

const svgPart = (parent, kind, attributes, text) => {
  const part = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
  if (text !== undefined) part.textContent = text;
  parent.append(part);
  return part;
};

// The steps from the base value to the output: the largest columns, the rest as one step first.
const stepsOf = (view, count) => {
  const all = Array.from({ length: numbers.d }, (_, j) => ({ feature: j, value: numbers.valueIn(view, j, view.row) }));
  all.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  if (all.length <= count) return all;
  const rest = all.slice(count - 1);
  return [...all.slice(0, count - 1), { feature: -1, n: rest.length, value: rest.reduce((sum, s) => sum + s.value, 0) }];
};

const stepParts = (step, row) => {
  if (step.feature < 0) return [`${step.n} other features`, ""];
  if (step.feature >= numbers.named) return [numbers.names[step.feature], ""];
  return [numbers.names[step.feature], ` = ${numbers.written(step.feature, numbers.dataOf(step.feature, row)).slice(0, 24)}`];
};
const stepName = (step, row) => stepParts(step, row).join("");
const fittedStep = (pen, step, row, width) => {
  const [name, value] = stepParts(step, row);
  return fitted(pen, name, width - pen.measureText(value).width) + value;
};

const drawWaterfall = (svg, view) => {
  const { width, height } = svg.getBoundingClientRect();
  svg.replaceChildren();
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "11.5px system-ui, sans-serif";
  const steps = stepsOf(view, Math.max(3, Math.min(11, Math.floor((height - 40) / 21))));
  const k = numbers.classOf(view, view.row);
  const base = numbers.raw.base[k];
  const output = base + steps.reduce((sum, step) => sum + step.value, 0);
  let at = output;
  const spans = steps.map((step) => { const span = [at - step.value, at]; at = span[0]; return span; });
  const [low, high] = extent(spans.flat());
  const left = Math.min(190, width * 0.36);
  const x = scaleOf(low, high, left + 60, width - 56);
  const line = Math.min(30, (height - 40) / steps.length);
  const top = 20;
  const bottom = top + line * steps.length;
  for (const [value, y, words] of [[output, 9, "output"], [base, bottom + 11, "base"]]) {
    svgPart(svg, "line", { x1: x(value), x2: x(value), y1: top - 2, y2: bottom, class: "zero" });
    const anchor = x(value) > width - 90 ? "end" : x(value) < left + 90 ? "start" : "middle";
    svgPart(svg, "text", { x: x(value), y: y + 3, "text-anchor": anchor, class: "soft" }, `${words} ${short(value)}`);
  }
  steps.forEach((step, i) => {
    const [from, to] = spans[i].map(x);
    const y = top + line * i;
    const group = svgPart(svg, "g", {});
    svgPart(group, "title", {}, `${stepName(step, view.row)}: ${signed(step.value)}`);
    svgPart(group, "text", { x: left - 2, y: y + line / 2 + 4, "text-anchor": "end" }, fittedStep(pen, step, view.row, left - 6));
    svgPart(group, "rect", {
      x: Math.min(from, to), y: y + 2, width: Math.max(Math.abs(to - from), 1.5), height: Math.max(line - 4, 3), rx: 2,
      class: step.value < 0 ? "down" : "up",
    });
    const side = step.value < 0 ? Math.min(from, to) - 4 : Math.max(from, to) + 4;
    svgPart(group, "text", { x: side, y: y + line / 2 + 4, "text-anchor": step.value < 0 ? "end" : "start", class: "soft" }, signed(step.value));
    if (i + 1 < steps.length) svgPart(svg, "line", { x1: from, x2: from, y1: y + 2, y2: y + 2 * line - 2 });
  });
  return { base, output, steps };
};
