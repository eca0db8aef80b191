/* The explorer of a network's layers: a map of images, from which groups are picked and named.
 *
 * press.explorer writes the data into the page: every layer's principal components and a picture
 * that holds all thumbnails. What depends on the reader's groups is computed here, as
 * glassbox.projection computes it. Nothing is loaded and nothing is sent.
 */
"use strict";

(() => {
  /* -- the arithmetic of glassbox.projection; a matrix is an array of rows ---------------------- */

  const WEIGHT = 10;
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const minus = (a, b) => a.map((value, i) => value - b[i]);
  const zeros = (n, m) => Array.from({ length: n }, () => new Array(m).fill(0));
  const meanOf = (rows) => rows[0].map((_, j) => rows.reduce((sum, row) => sum + row[j], 0) / rows.length);

  /** Return the lower triangular root of a positive definite matrix. */
  function cholesky(a) {
    const root = zeros(a.length, a.length);
    for (let i = 0; i < a.length; i++) {
      for (let j = 0; j <= i; j++) {
        let rest = a[i][j];
        for (let l = 0; l < j; l++) rest -= root[i][l] * root[j][l];
        root[i][j] = i === j ? Math.sqrt(rest) : rest / root[j][j];
      }
    }
    return root;
  }

  /** Solve root · y = b, or rootᵀ · y = b. */
  function solve(root, b, transposed = false) {
    const d = b.length;
    const y = new Array(d).fill(0);
    for (let step = 0; step < d; step++) {
      const i = transposed ? d - 1 - step : step;
      let rest = b[i];
      for (let done = 0; done < step; done++) {
        const j = transposed ? d - 1 - done : done;
        rest -= (transposed ? root[j][i] : root[i][j]) * y[j];
      }
      y[i] = rest / root[i][i];
    }
    return y;
  }

  /** Return the eigenvalues of a symmetric matrix, largest first, and their unit vectors (Jacobi). */
  function spectrum(symmetric) {
    const d = symmetric.length;
    const a = symmetric.map((row) => [...row]);
    const vectors = zeros(d, d).map((row, i) => row.map((_, j) => (i === j ? 1 : 0)));
    for (let sweep = 0; sweep < 60; sweep++) {
      let off = 0;
      let all = 0;
      a.forEach((row, i) => row.forEach((v, j) => { all += v * v; if (i !== j) off += v * v; }));
      if (off <= 1e-28 * all) break;
      for (let p = 0; p < d; p++) {
        for (let q = p + 1; q < d; q++) {
          if (a[p][q] === 0) continue;
          const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
          const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
          const c = 1 / Math.hypot(t, 1);
          const s = t * c;
          for (let i = 0; i < d; i++) {
            const [x, y] = [a[i][p], a[i][q]];
            [a[i][p], a[i][q]] = [c * x - s * y, s * x + c * y];
          }
          for (let i = 0; i < d; i++) {
            const [x, y] = [a[p][i], a[q][i]];
            [a[p][i], a[q][i]] = [c * x - s * y, s * x + c * y];
            const [v, w] = [vectors[p][i], vectors[q][i]];
            [vectors[p][i], vectors[q][i]] = [c * v - s * w, s * v + c * w];
          }
        }
      }
    }
    return a.map((row, i) => ({ value: row[i], vector: vectors[i] })).sort((x, y) => y.value - x.value);
  }

  /** Return the groups' means and counts, and the root of the regularised covariance within. */
  function groupsOf(rows, labels, weight) {
    const d = rows[0].length;
    const ids = [...new Set(labels.filter((label) => label >= 0))].sort((a, b) => a - b);
    const members = ids.map((id) => rows.filter((_, i) => labels[i] === id));
    const means = members.map(meanOf);
    const counts = members.map((group) => group.length);
    const center = meanOf(rows);
    const scatterOf = (items, mean) => {
      const scatter = zeros(d, d);
      for (const row of items) {
        const apart = minus(row, mean);
        for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) scatter[i][j] += apart[i] * apart[j];
      }
      return scatter;
    };
    const all = scatterOf(rows, center).map((row) => row.map((value) => value / rows.length));
    const ball = all.reduce((sum, row, i) => sum + row[i], 0) / d;
    const within = zeros(d, d).map((row, i) => row.map((_, j) => (i === j ? weight * ball : 0)));
    members.forEach((group, g) => scatterOf(group, means[g]).forEach((row, i) => row.forEach((value, j) => { within[i][j] += value; })));
    const freedom = counts.reduce((a, b) => a + b, 0) - ids.length + weight;
    const spread = within.map((row) => row.map((value) => value / freedom));
    const wide = all.map((row, i) => row.map((value, j) => value + spread[i][j]));
    return { means, counts, center, root: cholesky(spread), wide };
  }

  /** Return the points of glassbox.projection.discriminant_projection. */
  function discriminant(rows, labels, k = 2, weight = WEIGHT) {
    const { means, counts, center, root } = groupsOf(rows, labels, weight);
    const d = center.length;
    const whitened = rows.map((row) => solve(root, minus(row, center)));
    const places = means.map((mean) => solve(root, minus(mean, center)));
    const total = counts.reduce((a, b) => a + b, 0);
    const middle = center.map((_, j) => places.reduce((sum, place, g) => sum + (counts[g] / total) * place[j], 0));
    const between = zeros(d, d);
    places.forEach((place, g) => {
      const apart = minus(place, middle);
      for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) between[i][j] += (counts[g] / total) * apart[i] * apart[j];
    });
    const found = spectrum(between);
    const separating = found.filter((axis) => axis.value > 1e-9 * Math.max(1, found[0].value)).slice(0, k);
    let axes = separating.map((axis) => axis.vector);
    const covariance = zeros(d, d);
    for (const row of whitened) {
      const rest = axes.reduce((left, axis) => { const along = dot(row, axis); return left.map((v, i) => v - along * axis[i]); }, row);
      for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) covariance[i][j] += (rest[i] * rest[j]) / rows.length;
    }
    for (const axis of axes) for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) covariance[i][j] -= axis[i] * axis[j];
    axes = [...axes, ...spectrum(covariance).slice(0, k - axes.length).map((axis) => axis.vector)];
    const turned = axes.map((axis) => {
      const back = solve(root, axis, true);
      const largest = back.reduce((best, v) => (Math.abs(v) > Math.abs(best) ? v : best), 0);
      return back.map((v) => v * Math.sign(largest));
    });
    return rows.map((row) => turned.map((axis) => dot(minus(row, center), axis)));
  }

  /** Return glassbox.projection.group_probabilities: a row an item, a column a group. */
  function probabilities(rows, labels, { weight = WEIGHT, other = false, wanted = rows } = {}) {
    const { means, center, root, wide } = groupsOf(rows, labels, weight);
    const kinds = means.map((mean) => ({ mean, root }));
    if (other) kinds.push({ mean: center, root: cholesky(wide) });
    kinds.forEach((kind) => { kind.size = kind.root.reduce((sum, row, i) => sum + Math.log(row[i]), 0); });
    return wanted.map((row) => {
      const scores = kinds.map((kind) => {
        const apart = solve(kind.root, minus(row, kind.mean));
        return -0.5 * dot(apart, apart) - kind.size;
      });
      const most = Math.max(...scores);
      const powers = scores.map((score) => Math.exp(score - most));
      const total = powers.reduce((a, b) => a + b, 0);
      return powers.map((power) => power / total);
    });
  }

  /* -- what a group looks like: a colour and a shape ------------------------------------------- */

  const COLOURS = ["#3b82c4", "#d55e00", "#009e73", "#b565a7", "#a8820b", "#808080"];
  const SHAPES = [
    [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]],
    [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
    [[-0.45, -1.2], [0.45, -1.2], [0.45, -0.45], [1.2, -0.45], [1.2, 0.45], [0.45, 0.45], [0.45, 1.2], [-0.45, 1.2], [-0.45, 0.45], [-1.2, 0.45], [-1.2, -0.45], [-0.45, -0.45]],
    [[-1.2, -0.9], [1.2, -0.9], [0, 1.2]],
  ];
  const outline = (shape, x, y, r) => shape.map(([a, b], i) => `${i ? "L" : "M"}${x + a * r} ${y + b * r}`).join("") + "Z";

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };

  const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  let explorers = 0;

  class Explorer {
    constructor(container) {
      this.container = container;
      this.data = JSON.parse(container.querySelector(".gb-explorer-data").textContent);
      this.id = `gb-explorer-${++explorers}`;
      this.layers = this.data.layers.map((layer) => ({ ...layer, rows: this.decode(layer) }));
      this.layer = 0;
      this.view = 0; // the first of two components, or "groups"
      this.mode = "lasso";
      this.sample = 0;
      this.shown = new Set(this.data.order.slice(0, this.data.shown));
      this.selected = new Set();
      this.groups = []; // {name, colour, shape, apart}: apart if the projection is to separate it
      this.groupOf = new Array(this.data.count).fill(null);
      this.cursor = null;
      this.anchor = null; // where a rectangle that the keyboard draws begins
      this.path = []; // of the pointer
      this.zoom = { by: 1, x: 0.5, y: 0.5 };
      this.tints = new Map();
      this.build();
      const sprite = new Image();
      sprite.onload = () => { this.sprite = sprite; this.refresh(); };
      sprite.src = this.data.sprite.source;
      this.project(false);
      this.refresh();
      new ResizeObserver(() => this.resize()).observe(this.canvas);
      const redraw = () => { this.tints.clear(); this.refresh(); };
      new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
      container.gbExplorer = this;
    }

    decode({ values, unit, components }) {
      const bytes = Uint8Array.from(atob(values), (c) => c.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      return Array.from({ length: this.data.count }, (_, i) =>
        Array.from({ length: components }, (_, j) => unit * view.getInt16(2 * (i * components + j), true)));
    }

    /* -- the parts of the page ----------------------------------------------------------------- */

    build() {
      const button = (text, act, attributes = {}) => element("button", { type: "button", onclick: act, ...attributes }, text);
      const choice = (kind, legend, options, chosen, act) =>
        element("fieldset", { class: `gb-explorer-${kind}` }, element("legend", {}, legend), ...options.map(([value, text]) =>
          element("label", {}, element("input", { type: "radio", name: `${this.id}-${kind}`, value, checked: value === chosen, onchange: () => act(value) }), element("span", {}, text))));

      this.layerChoice = choice("layers", "Layer", this.layers.map((layer, i) => [i, layer.name]), 0, (i) => this.setLayer(i));
      this.viewChoice = element("select", { id: `${this.id}-view`, onchange: () => this.setView(this.viewChoice.value) });
      const separate = button("Separate the groups", () => this.setView("groups"), { class: "gb-explorer-separate" });
      this.modeChoice = choice("modes", "Drag", [["lasso", "a lasso"], ["box", "a rectangle"], ["move", "the map"]], "lasso", (mode) => { this.mode = mode; this.canvas.dataset.mode = mode; });
      const zoom = element("div", { class: "gb-explorer-zoom", role: "group", "aria-label": "Zoom" },
        button("+", () => this.zoomBy(1.6), { "aria-label": "Zoom in" }),
        button("−", () => this.zoomBy(1 / 1.6), { "aria-label": "Zoom out" }),
        button("whole map", () => this.zoomBy(0)));
      this.canvas = element("canvas", {
        tabindex: "0", role: "application", class: "gb-explorer-map", "data-mode": "lasso",
        "aria-roledescription": "map of images", "aria-describedby": `${this.id}-help`,
        onkeydown: (e) => this.key(e), onpointerdown: (e) => this.press(e), onpointermove: (e) => this.move(e),
        onpointerup: (e) => this.release(e), onpointercancel: () => this.abandon(), onfocus: () => this.draw(), onblur: () => this.draw(),
        onwheel: (e) => { if (e.ctrlKey) { e.preventDefault(); this.zoomBy(e.deltaY < 0 ? 1.25 : 0.8, this.spot(e)); } },
      });
      this.status = element("p", { class: "gb-explorer-status", role: "status", "aria-live": "polite" }, "Draw around images that belong together, with the mouse or a finger; or tab to the map and use the arrow keys.");
      this.shownText = element("span", { class: "gb-explorer-shown" });
      this.fade = element("input", { type: "checkbox", class: "gb-explorer-fade", onchange: () => this.changed(this.fade.checked ? "Images that are named or predicted with confidence are faded." : "All images are drawn alike.") });
      this.least = element("input", { type: "range", min: "50", max: "99", value: "90", "aria-label": "Confidence from which a prediction fades, in percent", oninput: () => this.changed() });
      this.leastText = element("output", { class: "gb-explorer-least" });
      this.predicted = element("p", { class: "gb-explorer-predicted" });

      this.selectionTitle = element("h4", { class: "gb-explorer-heading", tabindex: "-1" });
      this.tray = element("ul", { class: "gb-explorer-tray" });
      this.similarCount = element("input", { type: "number", min: "1", max: "200", value: "12", "aria-label": "How many similar images to find" });
      this.name = element("input", { type: "text", id: `${this.id}-name`, list: `${this.id}-names`, autocomplete: "off", maxlength: "60" });
      this.names = element("datalist", { id: `${this.id}-names` });
      const naming = element("form", { class: "gb-explorer-naming", onsubmit: (e) => { e.preventDefault(); this.nameSelection(this.name.value); } },
        element("label", { for: `${this.id}-name` }, "Name of the group"), this.name, this.names, element("button", { type: "submit" }, "Name the selection"));
      this.groupList = element("ul", { class: "gb-explorer-groups" });
      this.groupsTitle = element("h4", { class: "gb-explorer-heading", tabindex: "-1" }, "Groups");

      const key = (name) => element("kbd", {}, name);
      const help = element("details", { class: "gb-explorer-help" }, element("summary", {}, "Mouse, touch and keyboard"),
        element("div", { id: `${this.id}-help` },
          element("p", {}, "With the mouse or a finger: draw around images to add them to the selection; press one to add it or to take it out again. To scroll the page past the map, drag beside it."),
          element("p", {}, "With the map in focus: ", key("←"), key("→"), key("↑"), key("↓"), " go from image to image; ",
            key("Space"), " adds or takes out the image at the cursor; ", key("Enter"), " begins a rectangle there, the arrows stretch it, ",
            key("Enter"), " adds what is inside; ", key("Esc"), " gives the rectangle up, or clears the selection; ",
            key("S"), " finds similar images; ", key("L"), " goes to the next layer and ", key("P"), " to the next projection (with ", key("Shift"), " to the one before); ",
            key("+"), key("−"), key("0"), " zoom.")));

      const live = element("div", { class: "gb-explorer-live", role: "group", "aria-label": this.data.title },
        element("p", { class: "gb-explorer-title" }, this.data.title),
        element("div", { class: "gb-explorer-row" }, this.layerChoice),
        element("div", { class: "gb-explorer-row" }, element("label", { for: `${this.id}-view` }, "Projection"), this.viewChoice, separate),
        element("div", { class: "gb-explorer-row" }, this.modeChoice, zoom),
        this.canvas, this.status,
        element("div", { class: "gb-explorer-row" }, this.shownText, button("Another sample", () => this.another()), button("Show all", () => this.showAll())),
        help,
        element("section", { class: "gb-explorer-panel", "aria-label": "Selection" }, this.selectionTitle, this.tray,
          element("div", { class: "gb-explorer-row" }, button("Find similar", () => this.findSimilar(), { class: "gb-explorer-similar" }), this.similarCount, button("Clear", () => this.clear())), naming),
        element("section", { class: "gb-explorer-panel", "aria-label": "Groups" }, this.groupsTitle, this.groupList, this.predicted,
          element("div", { class: "gb-explorer-row" }, element("label", {}, this.fade, " Fade what is settled: named, or predicted with at least "), this.least, this.leastText),
          element("div", { class: "gb-explorer-row" }, button("Download the labels (JSON)", () => this.download(), { class: "gb-explorer-download" }))));
      this.container.querySelector(".gb-explorer-still").remove();
      this.container.append(live);
    }

    say(text) { this.status.textContent = text; }

    describe(item) {
      const parts = [`image ${item}`];
      if (this.data.descriptions) parts.push(this.data.descriptions[item]);
      const group = this.groupOf[item];
      if (group) parts.push(`named “${group.name}”`);
      else if (this.best) {
        const { group: guess, chance } = this.best[item];
        parts.push(`${guess ? `predicted “${guess.name}”` : "predicted to be in none of the groups"}, ${Math.round(100 * chance)} %`);
      }
      if (this.selected.has(item)) parts.push("selected");
      return parts.join(", ");
    }

    /* -- what follows from layer, projection and groups ---------------------------------------- */

    get rows() { return this.layers[this.layer].rows; }

    /** Return every item's number among some groups, -1 for those in none of them. */
    labels(groups = this.groups) { return this.groupOf.map((group) => (group ? groups.indexOf(group) : -1)); }

    used() { return this.groups.filter((group) => this.groupOf.includes(group)); }

    /** Place the items, and compute what is predicted; what a reader sees moves there. */
    project(animated = true) {
      const apart = this.used().filter((group) => group.apart);
      if (this.view === "groups" && apart.length < 2) this.view = 0;
      this.axes = this.view === "groups"
        ? discriminant(this.rows, this.labels(apart), 2)
        : this.rows.map((row) => [row[this.view], row[this.view + 1]]);
      const used = this.used();
      // Without the last candidate, "none of them", what nobody has named yet would look settled.
      this.chances = used.length < 2 ? null : probabilities(this.rows, this.labels(used), { other: true });
      this.best = this.chances && this.chances.map((row) => {
        const chance = Math.max(...row);
        return { chance, group: used[row.indexOf(chance)] || null };
      });
      const ranges = [0, 1].map((j) => {
        const values = this.axes.map((point) => point[j]);
        return [Math.min(...values), Math.max(...values)];
      });
      const targets = this.axes.map((point) => point.map((v, j) => (v - ranges[j][0]) / (ranges[j][1] - ranges[j][0] || 1)));
      const from = this.points;
      this.points = targets;
      const still = !animated || !from || matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.drawn = still ? targets : from;
      if (still) return;
      const start = performance.now();
      const step = (now) => {
        if (this.points !== targets) return;
        const t = Math.min(1, Math.max(0, (now - start) / 450));
        const eased = t * t * (3 - 2 * t);
        this.drawn = t === 1 ? targets : targets.map((to, i) => to.map((v, j) => from[i][j] + eased * (v - from[i][j])));
        this.draw();
        if (t < 1) requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }

    changed(text) {
      this.refresh();
      if (text) this.say(text);
    }

    setLayer(index) {
      this.layer = (Number(index) + this.layers.length) % this.layers.length;
      if (this.view !== "groups" && this.view + 1 >= this.rows[0].length) this.view = 0;
      this.replace(`Layer ${this.layers[this.layer].name}.`);
    }

    setView(view) {
      if (view === "groups") {
        if (this.used().filter((group) => group.apart).length < 2) {
          this.say("Name at least two groups first, and leave two of them ticked: then there is something to separate.");
          this.refresh();
          return;
        }
        this.view = "groups";
        this.replace("The projection that separates the groups best.");
      } else {
        this.view = Number(view);
        this.replace(`Components ${this.view + 1} and ${this.view + 2}.`);
      }
    }

    replace(text) {
      this.anchor = null;
      this.zoom = { by: 1, x: 0.5, y: 0.5 };
      this.project();
      this.changed(text);
    }

    views() {
      const pairs = [];
      for (let i = 0; i + 1 < this.rows[0].length; i += 2) pairs.push(i);
      return pairs;
    }

    /* -- which images are shown ---------------------------------------------------------------- */

    another() {
      const { order, shown } = this.data;
      this.sample = (this.sample + shown) % order.length;
      this.shown = new Set([...order, ...order].slice(this.sample, this.sample + shown));
      this.changed(`Another ${count(this.shown.size, "image")} of ${order.length}.`);
    }

    showAll() {
      this.shown = new Set(this.data.order);
      this.changed(`All ${count(this.data.count, "image")} are shown.`);
    }

    visible() { return [...new Set([...this.shown, ...this.selected])]; }

    isSure({ group, chance }) { return group !== null && chance >= this.least.value / 100; }

    isSettled(item) {
      return Boolean(this.groupOf[item]) || Boolean(this.best && this.isSure(this.best[item]));
    }

    /* -- selecting ----------------------------------------------------------------------------- */

    add(items) {
      const fresh = items.filter((item) => !this.selected.has(item));
      fresh.forEach((item) => this.selected.add(item));
      const next = this.selected.size ? " Take out what does not belong, below, and give the rest a name." : "";
      this.changed(`${count(fresh.length, "image")} added, ${this.selected.size} selected.${next}`);
    }

    toggle(item) {
      if (!this.selected.delete(item)) this.selected.add(item);
      this.changed();
      this.say(`${this.describe(item)}${this.selected.has(item) ? "" : ", not selected"}; ${this.selected.size} selected.`);
    }

    clear() {
      this.selected.clear();
      this.changed("Nothing is selected.");
    }

    /** Add the images nearest to the selection among all that have no name, shown or not. */
    findSimilar() {
      if (!this.selected.size) {
        this.say("Select one or more images first: the ones like them are found among all.");
        return;
      }
      const space = this.view === "groups" ? this.axes : this.rows;
      const chosen = [...this.selected].map((item) => space[item]);
      const distance = (item) => Math.min(...chosen.map((row) => dot(minus(space[item], row), minus(space[item], row))));
      const wanted = Math.max(1, Math.min(200, Math.round(Number(this.similarCount.value)) || 12));
      const found = this.data.order
        .filter((item) => !this.selected.has(item) && !this.groupOf[item])
        .map((item) => [distance(item), item])
        .sort((a, b) => a[0] - b[0] || a[1] - b[1])
        .slice(0, wanted)
        .map(([, item]) => item);
      const hidden = found.filter((item) => !this.shown.has(item)).length;
      found.forEach((item) => { this.selected.add(item); this.shown.add(item); });
      this.changed(`${count(found.length, "similar image")} found among all, ${hidden} of them not shown before; ${this.selected.size} selected.`);
    }

    /* -- groups -------------------------------------------------------------------------------- */

    nameSelection(text) {
      const name = text.trim().replace(/\s+/g, " ");
      if (!this.selected.size) return this.say("Select the images that belong together first.");
      if (!name) { this.name.focus(); return this.say("Type a name for the selected images first."); }
      let group = this.groups.find((other) => other.name === name);
      if (!group) {
        const taken = this.groups.map((other) => other.number);
        let number = 0;
        while (taken.includes(number)) number++;
        group = { name, number, colour: COLOURS[number % COLOURS.length], shape: SHAPES[number % SHAPES.length], apart: true };
        this.groups.push(group);
      }
      const size = this.selected.size;
      for (const item of this.selected) this.groupOf[item] = group;
      this.selected.clear();
      this.name.value = "";
      this.project();
      const next = this.used().length === 1 ? " With a second group named, the map can separate the two." : "";
      this.changed(`${count(size, "image")} named “${name}”.${next}`);
      return undefined;
    }

    forget(group) {
      this.groupOf = this.groupOf.map((other) => (other === group ? null : other));
      this.groups = this.groups.filter((other) => other !== group);
      this.project();
      this.changed(`The group “${group.name}” is gone; its images have no name.`);
      this.groupsTitle.focus();
    }

    members(group) { return this.groupOf.flatMap((other, item) => (other === group ? [item] : [])); }

    /** Return what is downloaded; press.explorer documents it. */
    result() {
      const groups = Object.create(null);
      for (const group of this.groups) groups[group.name] = this.members(group);
      const labels = this.groupOf.flatMap((group, item) => (group ? [{ item, label: group.name }] : []));
      return { groups, labels, layer: this.layers[this.layer].name };
    }

    download() {
      const result = this.result();
      if (!result.labels.length) return this.say("Name a group first: there are no labels to download yet.");
      const address = URL.createObjectURL(new Blob([`${JSON.stringify(result, null, 1)}\n`], { type: "application/json" }));
      const link = element("a", { href: address, download: "labels.json" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
      this.say(`${count(result.labels.length, "label")} in ${count(this.groups.length, "group")} downloaded as labels.json.`);
      return undefined;
    }

    /** Return how many of the named images are predicted right when each is left out in turn. */
    leaveOneOut() {
      const used = this.used();
      const labels = this.labels(used);
      const sizes = used.map((_, g) => labels.filter((label) => label === g).length);
      const items = labels.flatMap((label, item) => (label >= 0 && sizes[label] > 1 ? [item] : []));
      if (!this.chances || !items.length) return null;
      // A few hundred are enough for an estimate, and quick.
      const tried = items.filter((_, i) => i % Math.ceil(items.length / 200) === 0);
      const right = tried.filter((item) => {
        const without = labels.map((label, i) => (i === item ? -1 : label));
        const [row] = probabilities(this.rows, without, { wanted: [this.rows[item]] });
        return row.indexOf(Math.max(...row)) === labels[item];
      });
      return { right: right.length, tried: tried.length };
    }

    /* -- what is written around the map --------------------------------------------------------- */

    refresh() {
      this.layerChoice.querySelectorAll("input").forEach((input, i) => { input.checked = i === this.layer; });
      const shares = this.layers[this.layer].shares;
      const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
      this.viewChoice.replaceChildren(
        ...this.views().map((i) => element("option", { value: i }, `components ${i + 1} and ${i + 2}: ${percent(shares[i] + shares[i + 1])} of the variance`)),
        element("option", { value: "groups", disabled: this.used().filter((group) => group.apart).length < 2 }, "the one that separates the groups best"));
      this.viewChoice.value = String(this.view);
      this.shownText.textContent = `${this.visible().length} of ${count(this.data.count, "image")} shown`;
      this.leastText.textContent = `${this.least.value} %`;
      this.refreshTray();
      this.refreshGroups();
      this.canvas.setAttribute("aria-label", `${this.visible().length} images at their places in layer ${this.layers[this.layer].name}`);
      this.draw();
    }

    refreshTray() {
      const focused = [...this.tray.querySelectorAll("button")].indexOf(document.activeElement);
      const most = 120;
      const items = [...this.selected];
      this.selectionTitle.textContent = this.selected.size
        ? `Selection: ${count(this.selected.size, "image")}. Press the ones that do not belong.`
        : "Selection: nothing yet";
      this.tray.replaceChildren(...items.slice(0, most).map((item) => {
        const picture = this.picture(item, 40);
        return element("li", {}, element("button", { type: "button", "data-item": item, "aria-label": `Take ${this.describe(item).replace(/, selected$/, "")} out`, onclick: () => this.toggle(item) }, picture));
      }));
      if (items.length > most) this.tray.append(element("li", { class: "gb-explorer-more" }, `and ${items.length - most} more`));
      if (focused >= 0) {
        const buttons = this.tray.querySelectorAll("button");
        (buttons[Math.min(focused, buttons.length - 1)] || this.selectionTitle).focus();
      }
    }

    refreshGroups() {
      const focus = document.activeElement && this.groupList.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      this.names.replaceChildren(...this.groups.map((group) => element("option", { value: group.name })));
      this.groupList.replaceChildren(...this.groups.map((group) => {
        const size = this.members(group).length;
        const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        mark.setAttribute("viewBox", "-1.5 -1.5 3 3");
        mark.setAttribute("aria-hidden", "true");
        mark.innerHTML = `<path d="${outline(group.shape, 0, 0, 1)}" fill="${group.colour}"/>`;
        const tick = element("input", { type: "checkbox", checked: group.apart, "data-key": `apart-${group.number}`, "aria-label": `Separate “${group.name}” from the others`, onchange: (e) => { group.apart = e.target.checked; this.project(); this.changed(); } });
        return element("li", {}, element("label", {}, tick, mark, element("strong", {}, group.name)), element("span", {}, count(size, "image")),
          element("button", { type: "button", "data-key": `select-${group.number}`, "aria-label": `Select the group “${group.name}”`, onclick: () => this.add(this.members(group)) }, "select"),
          element("button", { type: "button", "data-key": `forget-${group.number}`, "aria-label": `Forget the group “${group.name}”`, onclick: () => this.forget(group) }, "forget"));
      }));
      if (!this.groups.length) this.groupList.append(element("li", { class: "gb-explorer-none" }, "None has a name yet."));
      if (focus) this.groupList.querySelector(`[data-key="${focus}"]`)?.focus();
      if (!this.best) {
        this.predicted.textContent = "As soon as two groups have names, the other images are predicted from their distances to the groups.";
        return;
      }
      const unnamed = this.best.filter((_, item) => !this.groupOf[item]);
      const sure = unnamed.filter((best) => this.isSure(best)).length;
      const key = JSON.stringify([this.layer, this.labels()]);
      if (this.estimateKey !== key) [this.estimateKey, this.estimate] = [key, this.leaveOneOut()];
      const tried = this.estimate;
      this.predicted.textContent = `Of ${count(unnamed.length, "image")} without a name, ${sure} are predicted with at least ${this.least.value} % in this layer.`
        + (tried ? ` Left out one at a time, ${tried.right} of ${tried.tried} named ones are predicted right.` : "");
    }

    /* -- the map ------------------------------------------------------------------------------- */

    resize() {
      const box = this.canvas.getBoundingClientRect();
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
      if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
      this.draw();
    }

    get thumbnail() { return 22 * this.zoom.by ** 0.7; }

    /** Return where a point of the unit square lies on the canvas, in CSS pixels from its corner. */
    place([u, v]) {
      const margin = this.thumbnail / 2 + 6;
      const { clientWidth: width, clientHeight: height } = this.canvas;
      const { by, x, y } = this.zoom;
      return [width / 2 + (u - x) * by * (width - 2 * margin), height / 2 - (v - y) * by * (height - 2 * margin)];
    }

    spot(event) {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left - this.canvas.clientLeft, event.clientY - box.top - this.canvas.clientTop];
    }

    zoomBy(factor, at = null) {
      const { clientWidth: width, clientHeight: height } = this.canvas;
      const held = at || (this.cursor !== null ? this.place(this.points[this.cursor]) : [width / 2, height / 2]);
      const margin = this.thumbnail / 2 + 6;
      const along = [(held[0] - width / 2) / (width - 2 * margin), (height / 2 - held[1]) / (height - 2 * margin)];
      const by = factor ? Math.min(12, Math.max(1, this.zoom.by * factor)) : 1;
      this.zoom = by === 1 ? { by: 1, x: 0.5, y: 0.5 }
        : { by, x: this.zoom.x + along[0] * (1 / this.zoom.by - 1 / by), y: this.zoom.y + along[1] * (1 / this.zoom.by - 1 / by) };
      this.changed(`Zoom ${by.toFixed(1)}.`);
    }

    /** Return a drawable whose thumbnails are filled with a colour; other images stay as they are. */
    tinted(colour) {
      if (!this.data.ink) return this.sprite;
      if (!this.tints.has(colour)) {
        const sheet = element("canvas", { width: this.sprite.width, height: this.sprite.height });
        const pen = sheet.getContext("2d");
        pen.drawImage(this.sprite, 0, 0);
        pen.globalCompositeOperation = "source-in";
        pen.fillStyle = colour;
        pen.fillRect(0, 0, sheet.width, sheet.height);
        this.tints.set(colour, sheet);
      }
      return this.tints.get(colour);
    }

    stamp(pen, item, x, y, size, colour) {
      const { columns, width, height } = this.data.sprite;
      const scale = size / Math.max(width, height);
      const [w, h] = [width * scale, height * scale];
      pen.drawImage(this.tinted(colour), (item % columns) * width, Math.floor(item / columns) * height, width, height, x - w / 2, y - h / 2, w, h);
      return [w, h];
    }

    picture(item, size) {
      const ratio = window.devicePixelRatio || 1;
      const made = element("canvas", { width: Math.round(size * ratio), height: Math.round(size * ratio), "aria-hidden": "true" });
      if (this.sprite) {
        const pen = made.getContext("2d");
        pen.scale(ratio, ratio);
        this.stamp(pen, item, size / 2, size / 2, size, this.ink());
      }
      return made;
    }

    ink() { return getComputedStyle(this.container).color; }

    ground() { return getComputedStyle(this.container).getPropertyValue("--pst-color-background").trim() || "#fff"; }

    draw() {
      const pen = this.canvas.getContext("2d");
      const ratio = window.devicePixelRatio || 1;
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
      if (!this.sprite || !this.drawn) return;
      const style = getComputedStyle(this.canvas);
      const [ink, accent] = [this.ink(), style.getPropertyValue("--gb-explorer-accent").trim() || "#0d6585"];
      const size = this.thumbnail;
      const visible = this.visible();
      const rank = (item) => (item === this.cursor ? 3 : this.selected.has(item) ? 2 : this.fade.checked && this.isSettled(item) ? 0 : 1);
      visible.sort((a, b) => rank(a) - rank(b));
      for (const item of visible) {
        const [x, y] = this.place(this.drawn[item]);
        const group = this.groupOf[item];
        const faded = this.fade.checked && this.isSettled(item) && !this.selected.has(item);
        pen.globalAlpha = faded ? 0.16 : 1;
        const [w, h] = this.stamp(pen, item, x, y, size, group ? group.colour : ink);
        if (!this.data.ink) {
          pen.lineWidth = group ? 3 : 1;
          pen.strokeStyle = group ? group.colour : ink;
          pen.globalAlpha = faded ? 0.16 : group ? 1 : 0.4;
          pen.strokeRect(x - w / 2, y - h / 2, w, h);
          pen.globalAlpha = faded ? 0.16 : 1;
        }
        if (group) {
          const mark = new Path2D(outline(group.shape, x + w / 2, y - h / 2, 4.5));
          this.outlined(pen, group.colour, 0, mark);
          pen.fillStyle = group.colour;
          pen.fill(mark);
        }
        pen.globalAlpha = 1;
        if (this.selected.has(item)) {
          const frame = new Path2D();
          frame.rect(x - w / 2 - 3, y - h / 2 - 3, w + 6, h + 6);
          this.outlined(pen, accent, 2.5, frame);
        }
      }
      this.drawCursor(pen, accent);
      this.drawPath(pen, accent);
    }

    /** Draw a line that reads on the page and on any picture: between two lines of the page's own colour. */
    outlined(pen, colour, width, path) {
      pen.lineWidth = width + 3;
      pen.strokeStyle = this.ground();
      pen.stroke(path);
      if (!width) return;
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.stroke(path);
    }

    drawCursor(pen, accent) {
      if (this.cursor === null || document.activeElement !== this.canvas) return;
      const [x, y] = this.place(this.drawn[this.cursor]);
      const r = this.thumbnail / 2 + 8;
      const corners = new Path2D();
      for (const [a, b] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
        corners.moveTo(x + a * r, y + b * r * 0.3);
        corners.lineTo(x + a * r, y + b * r);
        corners.lineTo(x + a * r * 0.3, y + b * r);
      }
      this.outlined(pen, accent, 4, corners);
    }

    drawPath(pen, accent) {
      const corners = this.outlinePath();
      if (corners.length < 2) return;
      pen.lineWidth = 2;
      pen.strokeStyle = accent;
      pen.setLineDash([6, 4]);
      pen.beginPath();
      corners.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.closePath();
      pen.stroke();
      pen.globalAlpha = 0.12;
      pen.fillStyle = accent;
      pen.fill();
      pen.globalAlpha = 1;
      pen.setLineDash([]);
    }

    /** Return the outline that is being drawn: the pointer's lasso or rectangle, or the keyboard's. */
    outlinePath() {
      const box = ([[x0, y0], [x1, y1]], grown = 0) => {
        const [left, right, top, bottom] = [Math.min(x0, x1) - grown, Math.max(x0, x1) + grown, Math.min(y0, y1) - grown, Math.max(y0, y1) + grown];
        return [[left, top], [right, top], [right, bottom], [left, bottom]];
      };
      if (this.anchor !== null) return box([this.anchor, this.cursor].map((item) => this.place(this.points[item])), 1);
      if (this.mode === "move" || this.path.length < 2) return [];
      return this.mode === "box" ? box([this.path[0], this.path.at(-1)]) : this.path;
    }

    inside(corners) {
      return this.visible().filter((item) => {
        const [x, y] = this.place(this.points[item]);
        let within = false;
        corners.forEach(([x1, y1], i) => {
          const [x0, y0] = corners[(i || corners.length) - 1];
          if (y0 > y !== y1 > y && x < x0 + ((y - y0) / (y1 - y0)) * (x1 - x0)) within = !within;
        });
        return within;
      });
    }

    /* -- pointer: mouse, pen and finger --------------------------------------------------------- */

    press(event) {
      if (event.button !== 0 || !event.isPrimary) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.anchor = null;
      this.path = [this.spot(event)];
      this.canvas.focus({ preventScroll: true });
      event.preventDefault();
    }

    move(event) {
      if (!this.path.length || !event.isPrimary) return;
      const at = this.spot(event);
      const last = this.path.at(-1);
      if (this.mode === "move") {
        const { clientWidth: width, clientHeight: height } = this.canvas;
        const margin = this.thumbnail / 2 + 6;
        this.zoom.x -= (at[0] - last[0]) / (width - 2 * margin) / this.zoom.by;
        this.zoom.y += (at[1] - last[1]) / (height - 2 * margin) / this.zoom.by;
      }
      this.path.push(at);
      this.draw();
    }

    release(event) {
      if (!this.path.length || !event.isPrimary) return;
      const far = Math.max(...this.path.map(([x, y]) => Math.hypot(x - this.path[0][0], y - this.path[0][1])));
      const corners = this.outlinePath();
      const [start] = this.path;
      this.path = [];
      if (far < 5) {
        const hit = this.visible()
          .map((item) => [item, this.place(this.points[item])])
          .map(([item, [x, y]]) => [Math.max(Math.abs(x - start[0]), Math.abs(y - start[1])), item])
          .filter(([distance]) => distance <= this.thumbnail / 2 + 2)
          .sort((a, b) => a[0] - b[0])[0];
        if (hit) { this.cursor = hit[1]; this.toggle(hit[1]); return; }
      } else if (this.mode !== "move") {
        this.add(this.inside(corners));
        return;
      }
      this.draw();
    }

    abandon() {
      this.path = [];
      this.draw();
    }

    /* -- keyboard ------------------------------------------------------------------------------ */

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const turn = (list, now, by) => list[(list.indexOf(now) + by + list.length) % list.length];
      const by = event.shiftKey ? -1 : 1;
      const acts = {
        ArrowLeft: () => this.step(-1, 0), ArrowRight: () => this.step(1, 0), ArrowUp: () => this.step(0, -1), ArrowDown: () => this.step(0, 1),
        " ": () => (this.cursor === null ? this.step(0, 0) : this.toggle(this.cursor)),
        Enter: () => this.corner(), Escape: () => this.escape(),
        s: () => this.findSimilar(), l: () => this.setLayer(this.layer + by),
        p: () => {
          const views = [...this.views(), ...(this.used().filter((group) => group.apart).length < 2 ? [] : ["groups"])];
          this.setView(turn(views, this.view, by));
        },
        "+": () => this.zoomBy(1.6), "=": () => this.zoomBy(1.6), "-": () => this.zoomBy(1 / 1.6), 0: () => this.zoomBy(0),
      };
      const act = acts[event.key] || acts[event.key.toLowerCase()];
      if (!act) return;
      event.preventDefault();
      event.stopPropagation(); // the theme turns pages with the arrow keys
      act();
    }

    /** Move the cursor to the nearest image in a direction; at first, to the one in the middle. */
    step(dx, dy) {
      const { clientWidth: width, clientHeight: height } = this.canvas;
      const items = this.visible();
      const known = this.cursor !== null && items.includes(this.cursor);
      const [x0, y0] = known ? this.place(this.points[this.cursor]) : [width / 2, height / 2];
      const ranked = items
        .filter((item) => !known || item !== this.cursor)
        .map((item) => {
          const [x, y] = this.place(this.points[item]);
          const along = (x - x0) * dx + (y - y0) * dy;
          const aside = Math.abs((x - x0) * dy - (y - y0) * dx);
          return known ? [along > 0 && aside <= 1.5 * along ? along + 2 * aside : Infinity, item] : [Math.hypot(x - x0, y - y0), item];
        })
        .sort((a, b) => a[0] - b[0]);
      if (!ranked.length || ranked[0][0] === Infinity) return this.say("There is no image further in this direction.");
      this.cursor = ranked[0][1];
      const [x, y] = this.place(this.points[this.cursor]);
      if (x < 0 || y < 0 || x > width || y > height) [this.zoom.x, this.zoom.y] = this.points[this.cursor];
      this.draw();
      const inside = this.anchor === null ? "" : `; ${count(this.inside(this.outlinePath()).length, "image")} in the rectangle`;
      return this.say(`${this.describe(this.cursor)}${inside}.`);
    }

    corner() {
      if (this.cursor === null || !this.visible().includes(this.cursor)) return this.step(0, 0);
      if (this.anchor === null) {
        this.anchor = this.cursor;
        this.draw();
        return this.say(`A rectangle begins at image ${this.cursor}: stretch it with the arrow keys, then press Enter.`);
      }
      const found = this.inside(this.outlinePath());
      this.anchor = null;
      return this.add(found);
    }

    escape() {
      if (this.anchor === null) return this.clear();
      this.anchor = null;
      this.draw();
      return this.say("The rectangle is given up.");
    }
  }

  const start = () => document.querySelectorAll(".gb-explorer").forEach((container) => {
    if (!container.gbExplorer) new Explorer(container);
  });
  window.GlassboxExplorer = { discriminant, probabilities };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
