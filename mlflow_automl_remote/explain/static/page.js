// What a person does on the page: choose a class, a feature, a colour, a row. Redraws what follows.
const byId = (id) => document.getElementById(id);
const { raw } = numbers;
const spaceWord = { probability: "probability", margin: "margin", value: "value of the target" }[raw.space];
const view = { cls: 0, feature: 0, by: "auto", row: 0 };
let swarm;
let scatter;

const element = (kind, words, className) => {
  const made = document.createElement(kind);
  if (words !== undefined) made.textContent = words;
  if (className) made.className = className;
  return made;
};

const fact = (name, value) => {
  const item = element("span", `${name} `);
  item.append(element("b", value));
  return item;
};

const subject = () => {
  if (!raw.classes) return "a higher prediction";
  return view.cls < 0 ? "each row's predicted class" : `class ${raw.classes[view.cls]}`;
};

const writeHeader = () => {
  byId("pipeline").textContent = raw.pipeline;
  document.title = `Explanation: ${raw.pipeline}`;
  const method = { tree: "tree, exact", linear: "linear, exact", exact: "all coalitions, exact", permutation: "permutations, sampled", members: "members of the ensemble, exact", "members+exact": "members and all coalitions, exact", "members+permutation": "members, some of them sampled" };
  byId("facts").append(
    fact("explainer", method[raw.explainer] || raw.explainer),
    fact("output", spaceWord),
    fact("rows", raw.nExplained.toLocaleString("en")),
    fact("background", `${raw.nBackground} rows`),
    fact("took", `${short(raw.elapsed)} s`),
    fact("seed", String(raw.seed)),
  );
  if (!raw.complete) {
    byId("warning").hidden = false;
    byId("warning").textContent =
      `The time budget ended after ${raw.nExplained} of ${raw.nRequested} rows. They are a random sample of those asked for.`;
  }
};

const writeNote = () => {
  const error = raw.standardError
    ? `Sampled: one SHAP value has a standard error of about ${short(Number(raw.standardError.toPrecision(2)))} (${spaceWord}), so differences below twice that may be noise. Importances average over the rows and are steadier.`
    : `No sampling error: the values are exact against these ${raw.nBackground} background rows.`;
  const part = raw.rows.length < raw.nExplained
    ? ` The drawings show ${raw.rows.length} of the ${raw.nExplained} rows, drawn at random; the importances are over all of them.` : "";
  byId("note").textContent = error + part;
  if (raw.nHidden) {
    byId("hidden-features").hidden = false;
    byId("hidden-features").textContent = `${raw.nHidden} less important features are not listed.`;
  }
};

const buildClasses = () => {
  if (!raw.classes) return;
  const box = byId("class-chooser");
  box.hidden = false;
  const options = [[-1, "Overall"], ...raw.classes.map((name, k) => [k, name])];
  view.cls = raw.classes.length === 2 ? 1 : -1;
  if (options.length > 13) {
    const select = element("select");
    select.setAttribute("aria-label", "Class");
    for (const [k, name] of options) select.append(new Option(name.slice(0, 60), k));
    select.addEventListener("change", () => choose({ cls: Number(select.value) }));
    box.append(select);
    return;
  }
  for (const [k, name] of options) {
    const button = element("button", name);
    button.type = "button";
    button.title = name;
    button.dataset.cls = k;
    button.addEventListener("click", () => choose({ cls: k }));
    box.append(button);
  }
};

const buildBars = () => {
  const sizes = numbers.importance(view);
  const order = numbers.ranking(view);
  const wanted = byId("filter").value.trim().toLowerCase();
  const items = order.map((j, place) => ({ j, place })).filter(({ j }) => numbers.names[j].toLowerCase().includes(wanted));
  const most = sizes[order[0]] || 1;
  byId("bars").replaceChildren(...items.map(({ j, place }) => {
    const button = element("button");
    button.type = "button";
    button.title = numbers.names[j];
    button.dataset.feature = j;
    button.setAttribute("aria-pressed", String(j === view.feature));
    const bar = element("span", undefined, "bar");
    bar.style.width = `${(100 * sizes[j]) / most}%`;
    button.append(element("span", String(place + 1), "rank"), element("span", numbers.names[j], "name"), element("span", short(Number(sizes[j].toPrecision(3))), "size"), bar);
    button.addEventListener("click", () => choose({ feature: j }));
    const item = element("li");
    item.append(button);
    return item;
  }));
  byId("ranking-hint").textContent = !raw.classes ? "mean |SHAP value|"
    : `mean |SHAP value|, ${view.cls < 0 ? "all classes" : raw.classes[view.cls]}`;
};

const markBars = () => {
  for (const button of byId("bars").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.feature) === view.feature));
  }
};

const buildColours = () => {
  const select = byId("colour");
  select.replaceChildren(new Option("automatic", "auto"), new Option("none", "-1"));
  for (const j of numbers.ranking({ cls: view.cls })) select.append(new Option(numbers.names[j].slice(0, 60), j));
  select.value = String(view.by);
};

const drawOne = () => {
  const { base, output, steps } = drawWaterfall(byId("waterfall"), view);
  const k = numbers.classOf(view, view.row);
  const named = raw.classes ? `${raw.classes[k].slice(0, 40)} ` : "";
  const words = `row ${raw.rows[view.row]}: ${named}${short(output)}`;
  byId("waterfall-hint").textContent = words;
  byId("waterfall-hint").title = words;
  const largest = steps.slice(0, 3).map((s) => `${stepName(s, view.row)} ${signed(s.value)}`).join("; ");
  byId("waterfall").setAttribute("aria-label", `From the base ${short(base)} to the output ${short(output)}: ${largest}`);
  byId("row").value = view.row + 1;
};

const draw = () => {
  swarm = drawSwarm(byId("swarm"), view);
  byId("swarm-hint").textContent = `towards ${subject()} to the right (${spaceWord}); colour is the column's value`;
  byId("swarm").setAttribute("aria-label", `SHAP values for ${subject()} of the top features: ${numbers.ranking(view).slice(0, 5).map((j) => numbers.names[j]).join(", ")}`);
  const automatic = view.by === "auto";
  const by = automatic ? numbers.partner(view, view.feature) : view.by;
  byId("colour").options[0].text = automatic && by >= 0 ? `auto: ${numbers.names[by].slice(0, 40)}` : "automatic";
  byId("scatter-title").textContent = numbers.names[view.feature];
  byId("scatter-title").title = numbers.names[view.feature];
  scatter = drawScatter(byId("scatter"), view, by);
  byId("scatter").setAttribute("aria-label", `SHAP values of ${numbers.names[view.feature]} for ${subject()} against its values`);
  drawOne();
};

const choose = (change) => {
  const classChanged = "cls" in change;
  Object.assign(view, change);
  if (classChanged) {
    buildBars();
    buildColours();
    for (const button of byId("class-chooser").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.cls) === view.cls));
    }
  }
  markBars();
  draw();
};

const step = (by) => choose({ row: (view.row + by + numbers.n) % numbers.n });

const nearest = (spots, event, canvas) => {
  const box = canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  let best = null;
  let least = 100;
  for (const spot of spots) {
    const distance = (spot.x - x) ** 2 + (spot.y - y) ** 2;
    if (distance < least) { least = distance; best = spot; }
  }
  return { spot: best, y };
};

const showTip = (event, spot) => {
  const tip = byId("tip");
  tip.hidden = !spot;
  if (!spot) return;
  const { feature, row } = spot;
  tip.textContent = `${numbers.names[feature].slice(0, 80)} = ${numbers.written(feature, numbers.dataOf(feature, row))}\nSHAP ${signed(numbers.valueIn(view, feature, row))}\nrow ${raw.rows[row]}; click to see it below`;
  tip.style.left = `${Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`;
};

const listen = (id, drawn) => {
  const canvas = byId(id);
  canvas.addEventListener("mousemove", (event) => showTip(event, nearest(drawn().spots, event, canvas).spot));
  canvas.addEventListener("mouseleave", () => showTip(null, null));
  canvas.addEventListener("click", (event) => {
    const { spot, y } = nearest(drawn().spots, event, canvas);
    const feature = spot ? spot.feature : drawn().featureAt && drawn().featureAt(y);
    choose({ ...(spot && { row: spot.row }), ...(feature !== undefined && { feature }) });
  });
};

const start = () => {
  writeHeader();
  writeNote();
  buildClasses();
  [view.feature] = numbers.ranking(view);
  byId("row").max = numbers.n;
  byId("filter").addEventListener("input", buildBars);
  byId("colour").addEventListener("change", (event) => choose({ by: event.target.value === "auto" ? "auto" : Number(event.target.value) }));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("row").addEventListener("change", (event) => {
    const place = Math.round(Number(event.target.value)) || 1;
    choose({ row: Math.min(numbers.n, Math.max(1, place)) - 1 });
  });
  listen("swarm", () => swarm);
  listen("scatter", () => scatter);
  choose({ cls: view.cls });
  let waiting = 0;
  new ResizeObserver(() => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(draw);
  }).observe(document.querySelector("main"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
};

start();
