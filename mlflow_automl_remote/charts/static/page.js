// Draws all charts from the numbers in the page; every value is text or a number, never markup.
const { title, charts } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLOURS = ["#4e79a7", "#f28e2b", "#e15759", "#59a198", "#59a14f", "#d6af32", "#b07aa1", "#e6828c", "#9c755f", "#8c8c96"];
const share = (value) => value.toFixed(3);
const short = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5
  ? String(Number(value.toPrecision(4))) : value.toExponential(1));
const make = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};

const panels = [];
const tip = $("tip");
const hideTip = () => { tip.hidden = true; };
const showTip = (event, text) => {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 6)) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 6)) + "px";
};

function panel(name, hint, draw, point, extra) {
  const node = make("section", undefined, "panel");
  const head = make("div", undefined, "head");
  const heading = make("h2");
  const enlarge = make("button", name);
  enlarge.type = "button";
  enlarge.setAttribute("aria-expanded", "false");
  enlarge.title = "Enlarge";
  heading.append(enlarge);
  head.append(heading);
  if (extra) head.append(extra);
  const plot = make("div", undefined, "plot");
  const [back, front] = [make("canvas"), make("canvas")];
  back.setAttribute("role", "img");
  back.setAttribute("aria-label", name + ": " + hint);
  plot.append(back, front);
  node.append(head, make("p", hint, "hint"), plot);
  const one = {
    node, back, front, draw: () => { one.area = draw(sheet(back)); one.mark(null); }, area: null,
    mark: (marks) => {
      const paper = sheet(front);
      for (const mark of marks || []) dot(paper.pen, one.area.x(mark.x), one.area.y(mark.y), 4.5, mark.colour);
    },
  };
  enlarge.addEventListener("click", () => {
    const large = node.classList.toggle("large");
    enlarge.setAttribute("aria-expanded", String(large));
    drawAll();
  });
  back.addEventListener("pointermove", (event) => {
    const box = back.getBoundingClientRect();
    point(one, event, event.clientX - box.left, event.clientY - box.top);
  });
  back.addEventListener("pointerleave", () => { hideTip(); panels.forEach((other) => other.mark(null)); });
  panels.push(one);
  $("panels").append(node);
  return one;
}

const dot = (pen, x, y, radius, fill) => {
  pen.fillStyle = fill;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
};

function axes({ pen, width, height }, [x0, x1], [y0, y1], xName) {
  const [left, right, top, bottom] = [44, width - 10, 8, height - 36];
  const x = (value) => left + ((value - x0) / (x1 - x0)) * (right - left);
  const y = (value) => bottom - ((value - y0) / (y1 - y0)) * (bottom - top);
  pen.strokeStyle = colour("--line");
  pen.fillStyle = colour("--muted");
  pen.lineWidth = 1;
  pen.textAlign = "center";
  for (const value of ticks(x0, x1, (right - left) / 70)) {
    const at = Math.round(x(value)) + 0.5;
    pen.beginPath(); pen.moveTo(at, top); pen.lineTo(at, bottom); pen.stroke();
    pen.fillText(short(value), at, bottom + 11);
  }
  pen.textAlign = "right";
  for (const value of ticks(y0, y1, (bottom - top) / 45)) {
    const at = Math.round(y(value)) + 0.5;
    pen.beginPath(); pen.moveTo(left, at); pen.lineTo(right, at); pen.stroke();
    pen.fillText(short(value), left - 6, at);
  }
  pen.fillText(xName, right, bottom + 27);
  const path = (xs, ys, stroke, thick, dashes = []) => {
    pen.strokeStyle = stroke;
    pen.lineWidth = thick;
    pen.setLineDash(dashes);
    pen.beginPath();
    for (let i = 0; i < xs.length; i += 1) i ? pen.lineTo(x(xs[i]), y(ys[i])) : pen.moveTo(x(xs[i]), y(ys[i]));
    pen.stroke();
    pen.setLineDash([]);
  };
  return { x, y, left, right, top, bottom, path, pen };
}

const drawAll = () => panels.forEach((one) => one.draw());

// ---- classification

function seriesOf() {
  const list = [];
  const derived = (one) => {
    const fraction = one.tpr.map((tpr, i) => tpr * one.positives + one.fpr[i] * (1 - one.positives));
    const precision = one.tpr.map((tpr, i) => (fraction[i] > 0 ? Math.min(1, (tpr * one.positives) / fraction[i]) : 1));
    precision[0] = precision[Math.min(1, precision.length - 1)];
    return {
      threshold: one.threshold, roc: [one.fpr, one.tpr], pr: [one.tpr, precision],
      gains: [fraction, one.tpr], lift: [fraction, precision.map((value) => value / one.positives)],
    };
  };
  charts.classes.forEach((one, i) => {
    list.push({ name: one.name, tint: COLOURS[i % COLOURS.length], dashes: i >= COLOURS.length ? [5, 3] : [], thick: 1.3,
      calibration: charts.calibration.classes[i], ...derived(one) });
  });
  if (charts.micro) list.push({ name: "micro", accent: "--accent", thick: 2.4, dashes: [], calibration: charts.calibration.micro, ...derived(charts.micro) });
  if (charts.macro) {
    const { grid, roc, precision, gains, lift } = charts.macro;
    list.push({ name: "macro", accent: "--ink", thick: 2.4, dashes: [], roc: [grid, roc], pr: [grid, precision], gains: [grid, gains], lift: [grid, lift] });
  }
  return list;
}

function classification() {
  const series = seriesOf();
  const few = charts.classes.length <= 10;
  series.forEach((one) => { one.shown = few || Boolean(one.accent); });
  const tint = (one) => one.tint || colour(one.accent);
  const visible = () => series.filter((one) => one.shown);

  const chips = () => {
    const row = $("series");
    row.hidden = false;
    const all = make("button", visible().length === series.length ? "means only" : "all", "all");
    all.type = "button";
    all.addEventListener("click", () => {
      const every = visible().length === series.length;
      series.forEach((one) => { one.shown = !every || Boolean(one.accent); });
      chips();
      drawAll();
    });
    row.replaceChildren(all);
    for (const one of [...series.filter((s) => s.accent).reverse(), ...series.filter((s) => !s.accent)]) {
      const chip = make("button");
      const mark = make("i");
      mark.style.background = tint(one);
      chip.type = "button";
      chip.append(mark, make("span", one.name));
      chip.setAttribute("aria-pressed", String(one.shown));
      chip.addEventListener("click", () => {
        one.shown = !one.shown;
        chip.setAttribute("aria-pressed", String(one.shown));
        all.textContent = visible().length === series.length ? "means only" : "all";
        drawAll();
      });
      row.append(chip);
    }
  };

  const linked = ["roc", "pr", "gains", "lift"];
  const nearest = (area, kind, px, py) => {
    let best = null;
    for (const one of visible()) {
      const line = kind === "calibration" ? one.calibration && [one.calibration.predicted, one.calibration.observed] : one[kind];
      if (!line) continue;
      for (let i = 0; i < line[0].length; i += 1) {
        const far = (area.x(line[0][i]) - px) ** 2 + (area.y(line[1][i]) - py) ** 2;
        if (!best || far < best.far) best = { far, one, i, x: line[0][i], y: line[1][i] };
      }
    }
    return best;
  };

  const curve = (kind, name, hint, xName, names, range, chance) => {
    const made = panel(name, hint, (paper) => {
      const area = axes(paper, [0, 1], range(), xName);
      if (chance) area.path([0, 1], chance, colour("--muted"), 1, [3, 3]);
      for (const one of visible()) if (one[kind]) area.path(...one[kind], tint(one), one.thick, one.dashes);
      return area;
    }, (self, event, px, py) => {
      const found = nearest(self.area, kind, px, py);
      if (!found) return;
      const { one, i } = found;
      const lines = [one.name, names[0] + " " + share(found.x), names[1] + " " + share(found.y)];
      if (one.threshold) lines.push("threshold " + share(one.threshold[i]));
      showTip(event, lines.join("\n"));
      for (const other of panels) {
        if (other.kind && (other === self || one.threshold) && one[other.kind]) {
          other.mark([{ x: one[other.kind][0][i], y: one[other.kind][1][i], colour: tint(one) }]);
        } else other.mark(null);
      }
    });
    made.kind = linked.includes(kind) ? kind : null;
  };

  confusion();
  const unit = () => [0, 1];
  curve("roc", "ROC", "true positive rate", "false positive rate", ["false positive rate", "true positive rate"], unit, [0, 1]);
  curve("pr", "Precision and recall", "precision", "recall", ["recall", "precision"], unit, null);
  panel("Calibration", "share that came true", (paper) => {
    const area = axes(paper, [0, 1], [0, 1], "predicted probability");
    area.path([0, 1], [0, 1], colour("--muted"), 1, [3, 3]);
    for (const one of visible()) {
      const bins = one.calibration;
      if (!bins) continue;
      area.path(bins.predicted, bins.observed, tint(one), one.thick, one.dashes);
      bins.predicted.forEach((x, i) => dot(area.pen, area.x(x), area.y(bins.observed[i]), 1.5 + 4 * Math.sqrt(bins.weight[i]), tint(one)));
    }
    return area;
  }, (self, event, px, py) => {
    const found = nearest(self.area, "calibration", px, py);
    if (!found) return;
    showTip(event, [found.one.name, "predicted " + share(found.x), "came true " + share(found.y),
      (found.one.calibration.weight[found.i] * 100).toFixed(1) + " % of the rows"].join("\n"));
  });
  curve("gains", "Cumulative gains", "share of the class found", "share of rows", ["share of rows", "share found"], unit, [0, 1]);
  const top = () => [0, Math.max(1.5, 1.05 * Math.max(0, ...visible().map((one) => Math.max(...one.lift[1]))))];
  curve("lift", "Lift", "times better than chance", "share of rows", ["share of rows", "lift"], top, [1, 1]);
  chips();
}

function confusion() {
  const { labels, counts } = charts.confusion;
  const totals = counts.map((row) => row.reduce((sum, value) => sum + value, 0));
  let percent = false;
  const toggle = make("button", "%");
  toggle.type = "button";
  toggle.title = "Numbers of rows, or percent of the true class";
  toggle.setAttribute("aria-pressed", "false");
  toggle.addEventListener("click", () => {
    percent = !percent;
    toggle.textContent = percent ? "123" : "%";
    toggle.setAttribute("aria-pressed", String(percent));
    drawAll();
  });
  const part = (row, column) => (totals[row] > 0 ? counts[row][column] / totals[row] : 0);
  panel("Confusion", "true (rows), predicted (columns)", ({ pen, width, height }) => {
    const [left, top, right, bottom] = [58, 4, width - 4, height - 22];
    const [across, down] = [(right - left) / labels.length, (bottom - top) / labels.length];
    for (let row = 0; row < labels.length; row += 1) {
      pen.textAlign = "right";
      pen.fillStyle = colour("--muted");
      if (down >= 10 || row % 2 === 0) pen.fillText(fitted(pen, labels[row], left - 8), left - 5, top + (row + 0.5) * down);
      for (let column = 0; column < labels.length; column += 1) {
        const value = part(row, column);
        pen.globalAlpha = row === column ? value : Math.sqrt(value);
        pen.fillStyle = colour(row === column ? "--accent" : "--warm");
        pen.fillRect(left + column * across + 0.5, top + row * down + 0.5, across - 1, down - 1);
        pen.globalAlpha = 1;
        if (across < 21 || down < 12 || counts[row][column] === 0) continue;
        pen.textAlign = "center";
        pen.fillStyle = colour((row === column ? value : Math.sqrt(value)) > 0.55 ? "--panel" : "--ink");
        const text = percent ? (value * 100).toFixed(value < 0.1 ? 1 : 0) : short(counts[row][column]);
        pen.fillText(text, left + (column + 0.5) * across, top + (row + 0.5) * down);
      }
    }
    pen.textAlign = "center";
    pen.fillStyle = colour("--muted");
    labels.forEach((label, column) => {
      if (across >= 18 || column % 3 === 0) pen.fillText(fitted(pen, label, Math.max(across, 18) - 2), left + (column + 0.5) * across, bottom + 11);
    });
    return { left, top, across, down };
  }, (self, event, px, py) => {
    const { left, top, across, down } = self.area;
    const [row, column] = [Math.floor((py - top) / down), Math.floor((px - left) / across)];
    if (!(row >= 0 && column >= 0 && row < labels.length && column < labels.length)) return hideTip();
    return showTip(event, `true ${labels[row]}\npredicted ${labels[column]}\n${short(counts[row][column])} rows, ${(part(row, column) * 100).toFixed(1)} % of ${labels[row]}`);
  }, toggle);
}

// ---- regression

const extent = (...lists) => {
  let [low, high] = [Infinity, -Infinity];
  for (const list of lists) for (const value of list) { low = Math.min(low, value); high = Math.max(high, value); }
  const room = 0.03 * (high - low) || Math.abs(high) * 0.1 || 0.5;
  return [low - room, high + room];
};

function scatter(name, hint, xName, xs, ys, xRange, yRange, below, above, words) {
  panel(name, hint, (paper) => {
    const area = axes(paper, xRange, yRange, xName);
    below(area);
    area.pen.globalAlpha = xs.length > 600 ? 0.35 : 0.6;
    xs.forEach((x, i) => dot(area.pen, area.x(x), area.y(ys[i]), 2, colour("--accent")));
    area.pen.globalAlpha = 1;
    above(area);
    return area;
  }, (self, event, px, py) => {
    let best = null;
    xs.forEach((x, i) => {
      const far = (self.area.x(x) - px) ** 2 + (self.area.y(ys[i]) - py) ** 2;
      if (!best || far < best.far) best = { far, i };
    });
    if (!best || best.far > 900) { hideTip(); self.mark(null); return; }
    showTip(event, words(best.i));
    self.mark([{ x: xs[best.i], y: ys[best.i], colour: colour("--warm") }]);
  });
}

function regression() {
  const { true: truth, predicted, bins, residuals } = charts;
  const wrong = truth.map((value, i) => value - predicted[i]);
  const words = (i) => `true ${short(truth[i])}\npredicted ${short(predicted[i])}\nresidual ${short(wrong[i])}`;
  const both = extent(truth, predicted);
  scatter("Predicted against true", "predicted; the line: mean of rows of like true value", "true", truth, predicted, both, both,
    (area) => area.path(both, both, colour("--muted"), 1, [3, 3]),
    (area) => {
      area.path(bins.true, bins.predicted.map((value, i) => value + bins.spread[i]), colour("--warm"), 1, [2, 3]);
      area.path(bins.true, bins.predicted.map((value, i) => value - bins.spread[i]), colour("--warm"), 1, [2, 3]);
      area.path(bins.true, bins.predicted, colour("--warm"), 2.2);
    }, words);
  const across = extent(predicted);
  scatter("Residuals", "true minus predicted", "predicted", predicted, wrong, across, extent(wrong),
    (area) => area.path(across, [0, 0], colour("--muted"), 1, [3, 3]), () => {}, words);
  const { edges, weights } = residuals;
  panel("Histogram of residuals", `mean ${short(residuals.mean)}, standard deviation ${short(residuals.deviation)}`, (paper) => {
    const area = axes(paper, [edges[0], edges[edges.length - 1]], [0, 1.06 * Math.max(...weights) || 1], "true minus predicted");
    area.pen.fillStyle = colour("--accent");
    weights.forEach((weight, i) => {
      const [from, to] = [area.x(edges[i]), area.x(edges[i + 1])];
      area.pen.fillRect(from + 0.5, area.y(weight), to - from - 1, area.bottom - area.y(weight));
    });
    return area;
  }, (self, event, px) => {
    const i = edges.findIndex((edge, n) => n < weights.length && px >= self.area.x(edge) && px < self.area.x(edges[n + 1]));
    if (i < 0) return hideTip();
    return showTip(event, `${short(edges[i])} to ${short(edges[i + 1])}\n${short(weights[i])} rows`);
  });
}

$("title").textContent = title;
document.title = title;
const facts = [charts.n_rows.toLocaleString("en") + " rows that the model was not fitted on"];
if (charts.n_drawn && charts.n_drawn < charts.n_rows) facts.push(charts.n_drawn.toLocaleString("en") + " of them drawn");
if (charts.n_hidden) facts.push(charts.n_hidden + " rare classes without a curve");
$("facts").textContent = facts.join(" \u00b7 ");
if (charts.task === "classification") classification();
else regression();
drawAll();
new ResizeObserver(drawAll).observe($("panels"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
