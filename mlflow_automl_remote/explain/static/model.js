// The numbers of the page: unpacked once, asked for by the drawings.
const numbers = (() => {
  const raw = JSON.parse(document.getElementById("data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const n = raw.rows.length;
  const named = raw.features.length;
  const d = named + (raw.nHidden ? 1 : 0);
  const nClasses = raw.base.length;
  const data = new Float32Array(bytes(raw.data));
  const packed = new Int16Array(bytes(raw.values));
  raw.features = raw.features.map((name) => name.trim() || "(no name)");
  const names = raw.nHidden ? [...raw.features, `${raw.nHidden} other features`] : raw.features;

  const valueOf = (k, j, r) => packed[(k * d + j) * n + r] * raw.scale[k * d + j];
  const dataOf = (j, r) => (j < named ? data[j * n + r] : NaN);
  const outputOf = (k, r) => {
    let sum = raw.base[k];
    for (let j = 0; j < d; j += 1) sum += valueOf(k, j, r);
    return sum;
  };
  const predicted = Array.from({ length: n }, (_, r) => {
    let best = 0;
    let most = -Infinity;
    for (let k = 0; k < nClasses; k += 1) {
      const output = outputOf(k, r);
      if (output > most) { most = output; best = k; }
    }
    return best;
  });

  // Share of known values below each value of a column: colours that one far value does not wash out.
  const shares = new Map();
  const shareOf = (j) => {
    if (!shares.has(j)) shares.set(j, ranked(Array.from({ length: n }, (_, r) => dataOf(j, r))));
    return shares.get(j);
  };
  const ranked = (column) => {
    const order = column.map((_, r) => r).filter((r) => Number.isFinite(column[r]));
    order.sort((a, b) => column[a] - column[b]);
    const share = new Array(n).fill(NaN);
    const last = Math.max(order.length - 1, 1);
    let start = 0;
    for (let i = 1; i <= order.length; i += 1) {
      if (i < order.length && column[order[i]] === column[order[start]]) continue;
      for (let m = start; m < i; m += 1) share[order[m]] = start === 0 ? 0 : (i - 1) / last;
      start = i;
    }
    return share;
  };

  // A class of -1 is the overall view: importances over all classes, rows by their predicted class.
  const classOf = (view, r) => (view.cls < 0 ? predicted[r] : view.cls);
  const importance = (view) => {
    if (view.cls >= 0) return raw.importance[view.cls];
    return raw.features.map((_, j) => raw.importance.reduce((sum, row) => sum + row[j], 0) / nClasses);
  };
  const ranking = (view) => {
    const sizes = importance(view);
    return sizes.map((_, j) => j).sort((a, b) => sizes[b] - sizes[a] || a - b);
  };
  const valueIn = (view, j, r) => valueOf(classOf(view, r), j, r);

  // The column that best tells why equal values of `feature` have unequal SHAP values: the
  // correlation between both within slices of neighbouring rows, summed over the slices.
  const partner = (view, feature) => {
    const column = shareOf(feature);
    const order = column.map((_, r) => r).filter((r) => Number.isFinite(column[r]));
    order.sort((a, b) => column[a] - column[b]);
    const width = Math.max(10, Math.floor(order.length / 10));
    let best = -1;
    let most = 0;
    for (const other of ranking(view).slice(0, 20)) {
      if (other === feature) continue;
      const share = shareOf(other);
      let sum = 0;
      for (let i = 0; i < order.length; i += width) {
        const slice = order.slice(i, i + width).filter((r) => Number.isFinite(share[r]));
        sum += Math.abs(covariance(slice.map((r) => share[r]), slice.map((r) => valueIn(view, feature, r))));
      }
      if (sum > most) { most = sum; best = other; }
    }
    return best;
  };
  const covariance = (xs, ys) => {
    if (xs.length < 5) return 0;
    const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
    const mx = mean(xs);
    const my = mean(ys);
    let xy = 0;
    let xx = 0;
    for (let i = 0; i < xs.length; i += 1) { xy += (xs[i] - mx) * (ys[i] - my); xx += (xs[i] - mx) ** 2; }
    return xx > 0 ? xy / Math.sqrt(xx) : 0;
  };

  // A value as a person would write it: a category by its text, a point in time by its date.
  const written = (j, value) => {
    const texts = raw.levels[j];
    if (!texts || !Number.isFinite(value)) return short(value);
    if (texts.length) return texts[Math.round(value)] ?? "";
    const time = new Date(Math.round(value * 1440) * 60000).toISOString().slice(0, 16).replace("T", " ");
    return time.endsWith(" 00:00") ? time.slice(0, 10) : time;
  };

  return { raw, written, n, d, named, nClasses, names, dataOf, shareOf, predicted, outputOf, classOf, importance, ranking, valueIn, partner };
})();

const short = (value) => {
  if (!Number.isFinite(value)) return "missing";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
};
const signed = (value) => (value < 0 ? "\u2212" : "+") + short(Math.abs(Number(value.toPrecision(3))));
