"use strict";
// What a report can do beyond being read: values under the pointer, lines on and off, sorting, filtering, tabs.
// While a training runs the page's <main> is replaced every few seconds; `smallvitReport.attach` then dresses the
// new one and puts everything back as the reader had left it. So what readers change is kept here by its name.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = 7;
  const state = {
    off: new Set(), // keys of the series that are switched off
    sorts: new Map(), // a table's id → { column, direction }
    filters: new Map(), // a table's id → text
    tabs: new Map(), // a group's id → name of the tab shown
    open: new Map(), // a details' id → whether it is open
    scrolled: new Map(), // a box's id → [left, top]
    reading: null, // { chart: its title, x, held: whether by keys }
    focus: null, // the name of what has the focus
  };
  // Numbers within names compare as numbers: 9 before 10.
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const attached = new WeakSet();
  let page = null; // the present root's charts
  let speaker = null;

  // ---- Small tools ----

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function drawn(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function colour(number) {
    return `var(--series-${number % COLOURS})`;
  }

  /** A short line as in the charts. */
  function stroke(series) {
    const svg = drawn("svg", { class: "stroke", viewBox: "0 0 26 10", "aria-hidden": "true" });
    const line = drawn("line", { x1: 1, y1: 5, x2: 25, y2: 5, stroke: colour(series.colour), "stroke-width": 2.5 });
    if (series.dashed) line.setAttribute("stroke-dasharray", "6 3");
    svg.append(line);
    return svg;
  }

  /** Says it to those who listen. The region lies outside of what is replaced, or it would say nothing. */
  function say(text) {
    if (!speaker) {
      speaker = element("div", "visually-hidden");
      speaker.setAttribute("aria-live", "polite");
      document.body.append(speaker);
    }
    speaker.textContent = text;
  }

  /** Gives an element a name by which the focus finds back to it in a newer page. */
  function nameFocus(target, name) {
    target.dataset.focus = name;
  }

  function clamp(value, low, high) {
    return Math.min(Math.max(value, low), high);
  }

  // ---- Curves ----

  function readCharts(root) {
    const source = root.querySelector("script#charts");
    if (!source) return [];
    try {
      return JSON.parse(source.textContent).charts;
    } catch (error) {
      console.warn("The values of the curves cannot be read:", error);
      return [];
    }
  }

  /** A series of a model without a kind ("vit") is shown as long as any of the model's ("vit/training") is. */
  function isShown(series, keys) {
    if (keys.has(series.key)) return !state.off.has(series.key);
    const kinds = [...keys].filter((key) => key.startsWith(`${series.key}/`));
    return kinds.length === 0 || kinds.some((key) => !state.off.has(key));
  }

  function attachCharts(root) {
    const data = readCharts(root);
    const legend = root.querySelector(".legend");
    const keys = new Set(legend ? [...legend.querySelectorAll("[data-key]")].map((item) => item.dataset.key) : []);
    const charts = [];
    for (const figure of root.querySelectorAll("figure[data-chart]")) {
      const values = data[Number(figure.dataset.chart)];
      const svg = figure.querySelector("svg.plot");
      if (values && svg) charts.push(makeChart(figure, svg, values, keys));
    }
    if (legend) attachLegend(legend, data, charts);
    charts.forEach((chart) => chart.showSeries());
    return charts;
  }

  function attachLegend(legend, data, charts) {
    const all = data.flatMap((chart) => chart.series);
    for (const item of legend.querySelectorAll("[data-key]")) {
      const key = item.dataset.key;
      const series = all.find((each) => each.key === key);
      if (!series) continue;
      const button = element("button");
      button.type = "button";
      button.append(...item.childNodes);
      button.setAttribute("aria-pressed", String(!state.off.has(key)));
      nameFocus(button, `legend ${key}`);
      button.addEventListener("click", () => {
        if (!state.off.delete(key)) state.off.add(key);
        button.setAttribute("aria-pressed", String(!state.off.has(key)));
        charts.forEach((chart) => chart.showSeries());
      });
      item.classList.add("toggle");
      item.append(button);
    }
  }

  /** As many decimals as the axis can tell apart. */
  function decimals([low, high]) {
    const range = Math.abs(high - low);
    return range > 0 ? clamp(4 - Math.ceil(Math.log10(range)), 0, 8) : 3;
  }

  function makeChart(figure, svg, data, keys) {
    const { plot, x: [xLow, xHigh], y: [yLow, yHigh] } = data;
    const digits = decimals(data.y);
    const guide = drawn("g", { class: "guide", "aria-hidden": "true" });
    const box = element("div", "reading");
    box.setAttribute("aria-hidden", "true"); // the keys' values are spoken instead
    let shown = data.series;
    let places = []; // where there are values, from left to right

    const across = (x) => plot.left + ((x - xLow) / (xHigh - xLow)) * (plot.right - plot.left);
    const down = (y) => plot.bottom - ((y - yLow) / (yHigh - yLow)) * (plot.bottom - plot.top);
    const written = (y) => y.toFixed(digits).replace("-", "−") + data.unit;
    const called = (series) => [series.label, series.kind].filter(Boolean).join(" ");

    function showSeries() {
      shown = data.series.filter((series) => isShown(series, keys));
      for (const line of svg.querySelectorAll("[data-series]")) {
        line.classList.toggle("off", !shown.includes(data.series[Number(line.dataset.series)]));
      }
      const every = shown.flatMap((series) => series.points.map(([x]) => x));
      places = [...new Set(every)].sort((a, b) => a - b);
      if (isRead()) read(state.reading.x, state.reading.held);
    }

    function isRead() {
      return state.reading?.chart === data.title;
    }

    function nearest(x) {
      return places.reduce((best, each) => (Math.abs(each - x) < Math.abs(best - x) ? each : best), places[0]);
    }

    function valuesAt(x) {
      return shown.flatMap((series) => {
        const point = series.points.find(([at, y]) => at === x && Number.isFinite(y));
        return point ? [{ series, y: point[1] }] : [];
      });
    }

    /** Shows the values at the place nearest to x. */
    function read(x, held) {
      if (places.length === 0) return leave();
      if (!isRead()) page.forEach((chart) => chart.leave());
      const at = nearest(x);
      state.reading = { chart: data.title, x: at, held };
      const values = valuesAt(at);
      drawGuide(at, values);
      fillBox(at, values);
      placeBox(at, values);
      return values;
    }

    function drawGuide(at, values) {
      const x = across(at);
      const parts = [drawn("line", { x1: x, x2: x, y1: plot.top, y2: plot.bottom })];
      for (const { series, y } of values) {
        const cy = down(y);
        if (cy < plot.top - 1 || cy > plot.bottom + 1) continue; // beyond the axis, as its line is
        parts.push(drawn("circle", { cx: x, cy, r: 4.5, fill: colour(series.colour) }));
      }
      guide.replaceChildren(...parts);
      svg.append(guide);
    }

    function fillBox(at, values) {
      const list = element("div", "values");
      for (const { series, y } of values) {
        list.append(stroke(series), element("span", "name", called(series)), element("span", "value", written(y)));
      }
      box.replaceChildren(element("p", "at", `${data.x_label} ${at}`), list);
      figure.append(box);
    }

    /** Beside the guide where there is room, at the height that hides the least; else below the plot. */
    function placeBox(at, values) {
      const inside = figure.getBoundingClientRect();
      const picture = svg.getBoundingClientRect();
      const scale = picture.width / svg.viewBox.baseVal.width;
      const isLeft = across(at) > (plot.left + plot.right) / 2;
      const x = picture.left - inside.left + across(at) * scale + (isLeft ? -10 - box.offsetWidth : 10);
      const isBeside = x >= 0 && x + box.offsetWidth <= inside.width;
      const upper = values.filter(({ y }) => down(y) < (plot.top + plot.bottom) / 2).length;
      const isLow = upper > values.length / 2;
      let y = picture.top - inside.top + (isBeside && !isLow ? plot.top : plot.bottom) * scale;
      if (!isBeside) y += 4;
      else if (isLow) y -= box.offsetHeight;
      box.style.left = `${clamp(x, 0, Math.max(0, inside.width - box.offsetWidth))}px`;
      box.style.top = `${y}px`;
    }

    function leave() {
      guide.remove();
      box.remove();
      if (isRead()) state.reading = null;
    }

    function follow(event) {
      const picture = svg.getBoundingClientRect();
      const x = ((event.clientX - picture.left) / picture.width) * svg.viewBox.baseVal.width;
      // A little beyond the plot still is the first or last value; the margins are not.
      if (x < plot.left - 12 || x > plot.right + 12) return event.pointerType === "mouse" ? leave() : undefined;
      read(xLow + ((x - plot.left) / (plot.right - plot.left)) * (xHigh - xLow), false);
    }

    function step(event) {
      const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
      if (event.key === "Escape") return leave();
      if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey || places.length === 0) return;
      event.preventDefault();
      const last = places.length - 1;
      const here = isRead() ? places.indexOf(nearest(state.reading.x)) : -1;
      // The first key shows an end rather than passing over it.
      const start = here < 0 && event.key === "ArrowLeft" ? last + 1 : here;
      const at = places[clamp(start + steps[event.key], 0, last)];
      const values = read(at, true);
      say(`${data.x_label} ${at}: ${values.map(({ series, y }) => `${called(series)} ${written(y)}`).join(", ")}`);
    }

    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    // A finger leaves whenever it lifts: what it showed stays until it touches something else.
    svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && leave());
    figure.addEventListener("keydown", step);
    // A figure that is being taken out of the page loses the focus, too, but its reader has not moved on.
    figure.addEventListener("focusout", () => setTimeout(() => figure.isConnected && leave()));
    // Screen readers keep the arrow keys to themselves, except in an application.
    figure.setAttribute("role", "application");
    figure.setAttribute("aria-roledescription", "chart");
    figure.setAttribute("aria-label", `${data.title} by ${data.x_label}. Left and right arrow keys read the values.`);
    nameFocus(figure, `chart ${data.title}`);
    return { figure, showSeries, leave };
  }

  // ---- Tables ----

  function attachTable(root, table) {
    const body = table.tBodies[0];
    const rows = [...body.rows]; // in the order they came in
    const heads = [...table.querySelectorAll("th[data-column]")];

    function sort() {
      const { column, direction } = state.sorts.get(table.id) ?? {};
      const index = heads.findIndex((head) => head.dataset.column === column);
      for (const head of heads) head.removeAttribute("aria-sort");
      if (index >= 0) heads[index].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      body.append(...(index < 0 ? rows : sorted(rows, index, heads[index].dataset.sort, direction)));
    }

    for (const head of heads) {
      const button = element("button");
      button.type = "button";
      button.append(...head.childNodes);
      nameFocus(button, `sort ${table.id} ${head.dataset.column}`);
      button.addEventListener("click", () => {
        const before = state.sorts.get(table.id);
        const same = before?.column === head.dataset.column;
        // Up, down, and back to the order of the page.
        if (same && before.direction < 0) state.sorts.delete(table.id);
        else state.sorts.set(table.id, { column: head.dataset.column, direction: same ? -1 : 1 });
        sort();
      });
      head.append(button);
    }
    if (state.sorts.has(table.id)) sort();
    const tools = root.querySelector(`[data-tools="${CSS.escape(table.id)}"]`);
    if (tools) attachFilter(table, rows, tools);
  }

  function sorted(rows, index, kind, direction) {
    const keyed = rows.map((row) => ({ row, key: sortKey(row.cells[index], kind) }));
    // What is missing comes last in either direction.
    keyed.sort((a, b) => (a.key === null) - (b.key === null)
      || (a.key === null ? 0 : direction * (kind === "number" ? a.key - b.key : collator.compare(a.key, b.key))));
    return keyed.map(({ row }) => row);
  }

  function sortKey(cell, kind) {
    const text = (cell.dataset.value ?? cell.textContent).trim();
    if (kind !== "number") return text;
    return text !== "" && Number.isFinite(Number(text)) ? Number(text) : null;
  }

  function attachFilter(table, rows, tools) {
    const label = element("label", "", "Find a class ");
    const input = element("input");
    const found = element("output");
    input.type = "search";
    input.autocomplete = "off";
    input.id = `${table.id}-filter`;
    input.value = state.filters.get(table.id) ?? "";
    label.htmlFor = input.id;
    nameFocus(input, `filter ${table.id}`);
    const names = rows.map((row) => row.cells[0].textContent.toLocaleLowerCase());

    function filter() {
      const wanted = input.value.trim().toLocaleLowerCase();
      let left = 0;
      rows.forEach((row, index) => {
        const fits = names[index].includes(wanted);
        row.classList.toggle("out", !fits);
        left += fits ? 1 : 0;
      });
      found.textContent = wanted ? `${left} of ${rows.length} classes` : "";
      state.filters.set(table.id, input.value);
    }

    input.addEventListener("input", filter);
    tools.append(label, input, found);
    if (input.value) filter();
  }

  // ---- Tabs ----

  function attachTabs(group) {
    const panels = [...group.querySelectorAll("[data-tab]")];
    if (panels.length < 2) return;
    const list = element("div", "tabs");
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", group.dataset.label ?? "");
    const tabs = panels.map((panel) => makeTab(group, panel));

    function show(name) {
      const index = Math.max(0, panels.findIndex((panel) => panel.dataset.tab === name));
      panels.forEach((panel, each) => panel.classList.toggle("hidden", each !== index));
      tabs.forEach((tab, each) => {
        tab.setAttribute("aria-selected", String(each === index));
        tab.tabIndex = each === index ? 0 : -1; // arrows lead to the others
      });
    }

    tabs.forEach((tab, index) => {
      const choose = (each) => {
        const name = panels[each].dataset.tab;
        state.tabs.set(group.id, name);
        show(name);
        tabs[each].focus();
      };
      tab.addEventListener("click", () => choose(index));
      tab.addEventListener("keydown", (event) => {
        const last = tabs.length - 1;
        const to = { ArrowLeft: index ? index - 1 : last, ArrowRight: index < last ? index + 1 : 0, Home: 0, End: last };
        if (!(event.key in to)) return;
        event.preventDefault();
        choose(to[event.key]);
      });
    });
    list.append(...tabs);
    panels[0].before(list);
    show(state.tabs.get(group.id));
  }

  function makeTab(group, panel) {
    const tab = element("button");
    const heading = panel.querySelector("h3");
    tab.type = "button";
    tab.id = `${panel.id}-tab`;
    tab.append(...(heading ? [...heading.childNodes].map((node) => node.cloneNode(true)) : [panel.dataset.tab]));
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    heading?.classList.add("hidden"); // the tab says it
    nameFocus(tab, `tab ${group.id} ${panel.dataset.tab}`);
    return tab;
  }

  // ---- Copying, and what stays as it was ----

  function attachCopy(box) {
    const source = box.querySelector("pre");
    const button = element("button", "", "Copy");
    button.type = "button";
    button.setAttribute("aria-label", box.dataset.copy || "Copy");
    nameFocus(button, `copy ${box.dataset.copy}`);
    button.addEventListener("click", async () => {
      const done = await copy(source);
      button.textContent = done ? "Copied" : "Selected";
      say(done ? "Copied." : "Selected. Copy it with your keyboard.");
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
    box.append(button);
  }

  async function copy(source) {
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      return true;
    } catch {
      // Some browsers keep the clipboard from local files.
      getSelection().selectAllChildren(source);
      return false;
    }
  }

  function keepOpen(details) {
    nameFocus(details.querySelector("summary"), `details ${details.id}`);
    if (state.open.has(details.id)) details.open = state.open.get(details.id);
    details.addEventListener("toggle", () => state.open.set(details.id, details.open));
  }

  function keepScrolled(box) {
    const before = state.scrolled.get(box.id);
    if (before) box.scrollTo(...before);
    box.addEventListener("scroll", () => state.scrolled.set(box.id, [box.scrollLeft, box.scrollTop]), { passive: true });
    nameFocus(box, `scroll ${box.id}`);
  }

  /** Only boxes that can be scrolled are stops for the tabulator key. */
  function stopAtScrolling(root) {
    for (const box of root.querySelectorAll(".scroll[id]")) {
      box.tabIndex = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1 ? 0 : -1;
    }
  }

  function restoreFocus(root) {
    const lost = !document.activeElement || document.activeElement === document.body;
    if (!state.focus || !lost) return;
    const { name, selection } = state.focus; // focusing overwrites them
    const target = root.querySelector(`[data-focus="${CSS.escape(name)}"]`);
    target?.focus({ preventScroll: true });
    if (target?.type === "search") target.setSelectionRange(...selection);
  }

  function restoreReading(charts) {
    if (!state.reading) return;
    charts.forEach((chart) => chart.showSeries());
  }

  // ---- The whole page ----

  /** Dresses a root; once each. */
  function attach(root) {
    if (!root || attached.has(root)) return;
    attached.add(root);
    page = [];
    page = attachCharts(root);
    root.querySelectorAll("table[data-sortable]").forEach((table) => attachTable(root, table));
    root.querySelectorAll("[data-tabs]").forEach(attachTabs);
    root.querySelectorAll("[data-copy]").forEach(attachCopy);
    root.querySelectorAll("details[id]").forEach(keepOpen);
    root.querySelectorAll(".scroll[id]").forEach(keepScrolled);
    stopAtScrolling(root);
    restoreFocus(root);
    restoreReading(page);
  }

  document.addEventListener("focusin", ({ target }) => {
    state.focus = target.dataset?.focus ? { name: target.dataset.focus, selection: [0, 0] } : null;
  });
  document.addEventListener("focusout", ({ target }) => {
    // As for a figure: only what is still there has been left.
    setTimeout(() => {
      if (target.isConnected && document.activeElement === document.body) state.focus = null;
    });
  });
  document.addEventListener("selectionchange", () => {
    const input = document.activeElement;
    if (state.focus && input?.type === "search") state.focus.selection = [input.selectionStart, input.selectionEnd];
  });
  document.addEventListener("pointerdown", ({ target }) => {
    for (const chart of page ?? []) if (!chart.figure.contains(target)) chart.leave();
  });
  addEventListener("resize", () => {
    stopAtScrolling(document);
    for (const chart of page ?? []) chart.showSeries(); // places the box anew
  });

  Object.defineProperty(window, "smallvitReport", { value: Object.freeze({ attach }) });
  attach(document.getElementById("report"));
})();
