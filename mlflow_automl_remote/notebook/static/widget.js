// Shows a sweep as it grows. All text comes from a target and is only ever set as text.
const N = { number: 0, pipeline: 1, model: 2, state: 3, seconds: 4, score: 5, best: 6, reason: 7, metrics: 8, params: 9, folds: 10 };
const COLUMNS = [
  ["Iteration", N.number, true], ["Pipeline", N.pipeline, false], ["State", N.state, false],
  ["Duration", N.seconds, true], ["Score", N.score, true], ["Best", N.best, true],
];
const BUSY_MS = 3000; // without an answer for so long: the kernel runs a cell
const FIRST_ROWS = 200; // more on request: a page of a thousand rows is slow to lay out
const W = 520, H = 230, LEFT = 56, RIGHT = 10, TOP = 10, BOTTOM = 26;

function make(tag, attributes = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") one.textContent = value;
    else if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
    else one.setAttribute(name, value);
  }
  one.append(...children);
  return one;
}

function draw(tag, attributes, text) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  if (text !== undefined) one.textContent = text;
  return one;
}

const duration = (s) => {
  if (s === null || s === undefined) return "";
  const whole = Math.round(s);
  const two = (n) => String(n).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
};
const score = (v) => (v === null || v === undefined ? "" : v.toFixed(5));
const isBad = (state) => !["RUNNING", "COMPLETED", "CANCELLED"].includes(state);

// A button that asks once more before it does something that cannot be undone.
function confirming(label, question, act) {
  const box = make("span");
  const first = () => {
    box.replaceChildren(make("button", { text: label, type: "button", onclick: () => {
      const yes = make("button", { text: question, type: "button", class: "danger", onclick: () => { act(); first(); } });
      const no = make("button", { text: "Keep it", type: "button", onclick: () => { first(); box.firstChild.focus(); } });
      box.replaceChildren(yes, " ", no);
      no.focus();
    } }));
  };
  first();
  return box;
}

class View {
  constructor(model, el) {
    this.model = model;
    this.rows = new Map();
    this.trs = new Map();
    this.sort = { column: N.number, down: false };
    this.selected = null;
    this.all = false;
    this.build(el);
    this.listeners = [
      ["msg:custom", (message) => this.receive(message)],
      ["change:head", () => this.head()],
      ["change:importance", () => this.importance()],
      ["change:rows", () => { if (!this.merging) this.restore(); }],
    ];
    for (const [name, listener] of this.listeners) model.on(name, listener);
    this.themes = new MutationObserver(() => this.theme()); // of JupyterLab and VS Code: both mark the body
    this.themes.observe(document.body, { attributes: true });
    this.restore();
    this.head();
    this.importance();
  }

  close() {
    this.themes.disconnect();
    clearTimeout(this.unheard);
    clearTimeout(this.unanswered);
    for (const [name, listener] of this.listeners) this.model.off(name, listener);
  }

  build(el) {
    this.status = make("p", { class: "status", role: "status", "aria-live": "polite" });
    this.progress = make("progress", { "aria-label": "Iterations that have ended", max: 1, value: 0 });
    this.link = make("span");
    this.cancel = confirming("Cancel sweep", "Really cancel the sweep", () => this.stop());
    this.said = make("p", { class: "dim", role: "status", "aria-live": "polite", style: "margin:2px 0" });
    this.filter = make("input", { type: "search", placeholder: "Filter by pipeline or state", "aria-label": "Filter by pipeline or state", oninput: () => this.table() });
    this.count = make("span", { class: "dim", role: "status" });
    this.headRow = make("tr");
    for (const [label, column, isNumber] of COLUMNS) {
      const button = make("button", { text: label, type: "button", onclick: () => this.order(column) });
      this.headRow.append(make("th", { scope: "col", class: isNumber ? "number" : "", "data-column": column }, button));
    }
    this.body = make("tbody");
    this.more = make("button", { type: "button", text: "Show all rows", onclick: () => { this.all = true; this.table(); } });
    const rows = make("div", { class: "rows", tabindex: "-1" }, make("table", { "aria-label": "Iterations" }, make("thead", {}, this.headRow), this.body));
    this.metric = make("select", { "aria-label": "Metric of the chart", onchange: () => this.chart() });
    this.svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    this.importances = make("div");
    this.detail = make("section", { class: "detail", "aria-live": "polite", hidden: "" });
    this.el = make("section", { class: "automl-remote", "aria-label": "AutoML sweep" },
      make("div", { class: "top" }, this.status, this.progress, this.link, this.cancel),
      this.said,
      make("div", { class: "panes" },
        make("div", { class: "left" }, make("div", { class: "bar" }, this.filter, this.count), rows, this.more, this.detail),
        make("div", { class: "right" },
          make("label", { class: "bar" }, "Metric ", this.metric), this.svg,
          make("p", { class: "key" }, make("span", { text: "iteration" }), make("span", { class: "of-best", text: "best so far" })),
          this.importances)));
    this.body.addEventListener("keydown", (event) => this.key(event));
    el.replaceChildren(this.el);
    this.theme();
  }

  theme() {
    const of = getComputedStyle(this.el).getPropertyValue("background-color").match(/[\d.]+/g) || [255, 255, 255];
    const dark = 0.3 * of[0] + 0.6 * of[1] + 0.1 * of[2] < 110;
    this.el.classList.toggle("dark", dark);
  }

  restore() {
    this.rows = new Map(this.model.get("rows").map((row) => [row[N.number], row]));
    this.trs.clear();
    this.table();
    this.chart();
  }

  receive(message) {
    if (message.type === "rows") {
      const begin = performance.now();
      for (const row of message.rows) this.rows.set(row[N.number], row);
      this.merging = true; // the model keeps them too, for a notebook that is saved
      this.model.set("rows", [...this.rows.values()]);
      this.merging = false;
      this.table(message.rows);
      this.chart();
      this.el.dataset.updateMs = (performance.now() - begin).toFixed(1);
      if (message.rows.some((row) => row[N.number] === this.selected)) this.show();
    } else if (message.type === "detail" && message.iteration === this.selected) {
      clearTimeout(this.unanswered);
      this.answer = message;
      this.show();
    } else if (message.type === "said") {
      clearTimeout(this.unheard);
      this.said.textContent = message.text;
    }
  }

  head() {
    const head = this.model.get("head");
    this.status.textContent = head.text || "";
    this.progress.max = head.total || 1;
    this.progress.value = head.finished || 0;
    this.link.replaceChildren();
    if (/^https?:/.test(head.url || "")) this.link.append(make("a", { href: head.url, target: "_blank", rel: "noopener", text: "Open in MLflow" }));
    this.cancel.hidden = !head.running;
    const chosen = this.metric.value || head.metric;
    const names = head.metrics || [];
    if (names.length !== this.metric.options.length) {
      this.metric.replaceChildren(...names.map((name) => make("option", { value: name, text: name })));
      this.metric.value = names.includes(chosen) ? chosen : names[0] || "";
      this.chart();
    }
    this.mark();
    this.theme();
  }

  matching() {
    const wanted = this.filter.value.trim().toLowerCase();
    const { column, down } = this.sort;
    const found = [...this.rows.values()].filter((row) => !wanted || `${row[N.pipeline]} ${row[N.state]} ${row[N.reason]}`.toLowerCase().includes(wanted));
    const sign = down ? -1 : 1;
    return found.sort((a, b) => {
      const [x, y] = [a[column], b[column]];
      if (x === null || y === null) return (x === null) - (y === null) || a[0] - b[0];
      return (x < y ? -sign : x > y ? sign : 0) || a[0] - b[0];
    });
  }

  table(changed) {
    if (changed) for (const row of changed) this.trs.delete(row[N.number]);
    const found = this.matching();
    const shown = this.all ? found : found.slice(0, FIRST_ROWS);
    const focused = this.el.contains(document.activeElement) ? document.activeElement.dataset.number : undefined;
    const wanted = shown.map((row) => this.tr(row));
    const there = this.body.children;
    for (let at = 0; at < wanted.length; at++) if (there[at] !== wanted[at]) this.body.insertBefore(wanted[at], there[at] || null);
    while (there.length > wanted.length) this.body.lastChild.remove();
    if (focused !== undefined) this.trs.get(Number(focused))?.focus();
    this.more.hidden = shown.length === found.length;
    this.count.textContent = `${found.length} of ${this.rows.size} iterations`;
    for (const th of this.headRow.children) {
      const is = Number(th.dataset.column) === this.sort.column;
      th.setAttribute("aria-sort", is ? (this.sort.down ? "descending" : "ascending") : "none");
    }
    this.mark();
  }

  tr(row) {
    const known = this.trs.get(row[N.number]);
    if (known) return known;
    const state = row[N.reason] ? `${row[N.state]}: ${row[N.reason]}` : row[N.state];
    const cells = [String(row[0]), row[N.pipeline], state, duration(row[N.seconds]), score(row[N.score]), score(row[N.best])];
    const one = make("tr", { tabindex: "0", "data-number": row[0], class: isBad(row[N.state]) ? "bad" : "", onclick: () => this.select(row[0]) });
    COLUMNS.forEach(([, column, isNumber], at) => {
      one.append(make("td", { text: cells[at], class: isNumber ? "number" : column === N.state ? "state" : "" }));
    });
    this.trs.set(row[0], one);
    return one;
  }

  mark() {
    const best = this.model.get("head").best;
    for (const [number, tr] of this.trs) {
      tr.classList.toggle("best", number === best);
      if (number === this.selected) tr.setAttribute("aria-current", "true");
      else tr.removeAttribute("aria-current");
    }
  }

  order(column) {
    const isSame = this.sort.column === column;
    this.sort = { column, down: isSame ? !this.sort.down : column >= N.score };
    this.table();
  }

  key(event) {
    const tr = event.target.closest("tr");
    if (!tr) return;
    if (event.key === "Enter" || event.key === " ") this.select(Number(tr.dataset.number));
    else if (event.key === "ArrowDown") tr.nextElementSibling?.focus();
    else if (event.key === "ArrowUp") tr.previousElementSibling?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Asks the kernel to cancel the sweep or an iteration; tells a person if it cannot hear that yet.
  stop(iteration) {
    this.said.textContent = "Asked to cancel.";
    clearTimeout(this.unheard);
    this.unheard = setTimeout(() => {
      const only = iteration === undefined ? "" : ` --iteration ${iteration}`;
      this.said.textContent = "The kernel is busy with a cell and cancels when that has ended. " +
        `At once, in a terminal: automl-remote cancel ${this.model.get("head").run_id}${only}`;
    }, BUSY_MS);
    this.model.send({ type: "cancel", iteration });
  }

  select(number) {
    this.selected = number;
    this.answer = { log: "Asking for it.", url: "", picture: "" };
    clearTimeout(this.unanswered);
    this.unanswered = setTimeout(() => {
      this.answer.log = "The kernel is busy with a cell; log and charts come when that has ended.";
      this.show();
    }, BUSY_MS);
    this.mark();
    this.detail.hidden = false;
    this.show();
    this.model.send({ type: "detail", iteration: number });
  }

  show() {
    const row = this.rows.get(this.selected);
    const { log, url, picture } = this.answer;
    const parts = [make("h4", { text: `Iteration ${row[N.number]}: ${row[N.pipeline]}` })];
    parts.push(make("p", { text: `${row[N.state]}${row[N.reason] ? `: ${row[N.reason]}` : ""}` }));
    if (/^https?:/.test(url)) parts.push(make("p", {}, make("a", { href: url, target: "_blank", rel: "noopener", text: "Open its run in MLflow" })));
    else if (url) parts.push(make("p", { class: "dim", text: url }));
    if (row[N.state] === "RUNNING") parts.push(confirming("Cancel this iteration", `Really cancel iteration ${row[N.number]}`, () => this.stop(row[N.number])));
    if (row[N.params].length) parts.push(make("h4", { text: "Parameters" }), pairs(row[N.params]));
    if (row[N.folds].length) parts.push(make("h4", { text: "Scores of the folds" }), pairs(row[N.folds]));
    if (picture) parts.push(make("h4", { text: "Charts" }), make("img", { src: `data:image/png;base64,${picture}`, alt: `Charts of iteration ${row[N.number]}` }));
    parts.push(make("h4", { text: "End of its log" }), make("pre", { text: log || "Nothing so far.", tabindex: "0" }));
    this.detail.replaceChildren(...parts);
  }

  chart() {
    const name = this.metric.value;
    const head = this.model.get("head");
    const at = (head.metrics || []).indexOf(name);
    const points = [...this.rows.values()].filter((row) => at >= 0 && row[N.metrics] && row[N.metrics][at] !== null && row[N.metrics][at] !== undefined)
      .map((row) => [row[0], row[N.metrics][at]]).sort((a, b) => a[0] - b[0]);
    this.svg.replaceChildren();
    if (!points.length) {
      this.svg.setAttribute("aria-label", "No iteration has a score so far.");
      this.svg.append(draw("text", { x: LEFT, y: H / 2 }, "No iteration has a score so far."));
      return;
    }
    const least = (head.lower || []).includes(name);
    const values = points.map((p) => p[1]);
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const last = Math.max(1, points.at(-1)[0]);
    const x = (n) => (LEFT + (n / last) * (W - LEFT - RIGHT)).toFixed(1);
    const y = (v) => (TOP + ((high - v) / (high - low)) * (H - TOP - BOTTOM)).toFixed(1);
    let best = null, line = "", dots = "";
    for (const [n, v] of points) {
      const better = best === null || (least ? v < best : v > best);
      line += best === null ? `M${x(n)} ${y(v)}` : better ? `H${x(n)}V${y(v)}` : `H${x(n)}`;
      if (better) best = v;
      dots += `M${x(n)} ${y(v)}h0`;
    }
    this.svg.append(draw("path", { class: "axis", d: `M${LEFT} ${TOP}V${H - BOTTOM}H${W - RIGHT}` }));
    for (const v of [low, (low + high) / 2, high]) this.svg.append(draw("text", { x: LEFT - 6, y: Number(y(v)) + 4, "text-anchor": "end" }, v.toPrecision(4)));
    for (const n of [0, Math.round(last / 2), last]) this.svg.append(draw("text", { x: x(n), y: H - BOTTOM + 16, "text-anchor": "middle" }, String(n)));
    this.svg.append(draw("path", { class: "line", d: line }), draw("path", { class: "points", d: dots }));
    this.svg.setAttribute("aria-label", `${name} over ${points.length} iterations; the best is ${best.toPrecision(6)}.`);
  }

  importance() {
    const found = this.model.get("importance");
    this.importances.replaceChildren();
    if (!found.length) return;
    const most = found[0][1] || 1;
    this.importances.append(make("h4", { text: "What matters most to the best model" }), make("table", { class: "importance", "aria-label": "Feature importance" },
      make("tbody", {}, ...found.map(([feature, share, effect]) => make("tr", {},
        make("th", { scope: "row", text: feature }), make("td", { class: "number", text: `${(100 * share).toFixed(1)} %` }),
        make("td", { class: "share" }, make("span", { style: `width:${(100 * share / most).toFixed(1)}%` })), make("td", { class: "dim", text: effect }))))));
  }
}

function pairs(rows) {
  return make("table", {}, make("tbody", {}, ...rows.map(([name, ...values]) => make("tr", {},
    make("th", { scope: "row", text: name }), ...values.map((value) => make("td", { text: String(value) }))))));
}

function render({ model, el }) {
  const begin = performance.now();
  const view = new View(model, el);
  view.el.dataset.paintMs = (performance.now() - begin).toFixed(1);
  return () => view.close();
}

export default { render };
