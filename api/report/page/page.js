"use strict";
/* The page of a report. All data is in one compressed piece of JSON; nothing is loaded from anywhere. */
(async () => {
  const UNITS = ["ld", "st", "mm", "sm", "vp"];
  const COLORS = { ld: "#4c78a8", st: "#72b7b2", mm: "#e45756", sm: "#b279a2", vp: "#f2a541" };
  const MOST_EVENTS = 1500, MOST_LINES = 1500, MOST_COLORS = 9;
  const data = JSON.parse(await inflate(document.getElementById("data").textContent));
  const run = data.run, profile = run.profile, code = data.code;
  const main = document.querySelector("main");
  const state = { path: null, search: "" };
  const listeners = [];

  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  /* ---- small helpers ---- */
  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children.filter((child) => child !== null));
    return made;
  }
  /* Long paths may break behind a dot. */
  /* What a click does, Enter and the space bar do as well. */
  function clickable(made, action) {
    made.tabIndex = 0;
    made.onclick = action;
    made.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      action();
    };
    return made;
  }
  const NO_MATCH = "No module's path matches.";
  const breakable = (text) => text.split(/(?<=\.)(?=\D)/).flatMap((part, index) => (index ? [element("wbr"), part] : [part]));
  const count = (value) => value.toLocaleString("en-US");
  const percent = (value) => (100 * value).toFixed(1) + " %";
  function size(value) {
    if (value < 1024) return value + " B";
    return value < 1048576 ? (value / 1024).toFixed(1) + " KiB" : (value / 1048576).toFixed(1) + " MiB";
  }
  function duration(seconds) {
    if (seconds < 1e-3) return (seconds * 1e6).toFixed(1) + " µs";
    return seconds < 1 ? (seconds * 1e3).toFixed(2) + " ms" : seconds.toFixed(2) + " s";
  }
  function section(id, title, about) {
    const made = element("section", { id }, element("h2", { textContent: title }));
    if (about) made.append(element("p", { className: "about", textContent: about }));
    main.append(made);
    const link = element("a", { href: "#" + id, textContent: title });
    link.dataset.section = id;
    document.querySelector("nav").append(link);
    return made;
  }
  const inModule = (path, module) => path === module || path.startsWith(module + ".");
  const isChosen = (path) => state.path !== null && inModule(path, state.path);
  /* Part of a path, or a glob of the whole as the command line takes it. */
  function isFound(path) {
    if (!/[*?]/.test(state.search)) return path.toLowerCase().includes(state.search);
    const pattern = state.search.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
    return new RegExp(`^${pattern}$`).test(path.toLowerCase());
  }
  /* A link leads to a section, and keeps the module: #roofline?module=encoder.layer.0 */
  const address = (section) => `#${section}${state.path === null ? "" : "?module=" + encodeURIComponent(state.path)}`;
  function sectionAndModule() {
    const [section, query] = location.hash.slice(1).split("?");
    return [section, new URLSearchParams(query ?? "").get("module")];
  }
  function select(path, scrolls = false) {
    state.path = path;
    history.replaceState(null, "", address(sectionAndModule()[0]));
    for (const link of document.querySelectorAll("nav a")) link.href = address(link.dataset.section);
    const selection = document.getElementById("selection");
    selection.hidden = path === null;
    selection.querySelector("span").textContent = path === "" ? "(no module)" : path;
    for (const listener of listeners) listener();
    if (scrolls) document.querySelector("#layers tr.chosen")?.scrollIntoView({ block: "center" });
  }
  async function follow() {
    const [section, module] = sectionAndModule();
    if (module !== state.path) select(module);
    document.getElementById(section)?.scrollIntoView();
  }
  function whenSelected(action) { listeners.push(action); action(); }

  const charts = new Map(), redraws = new Map();
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  async function chart(place, spec, onClick) {
    const width = Math.max(220, place.clientWidth - 90);
    redraws.set(place, () => chart(place, spec, onClick));
    const ink = { labelColor: color("ink"), titleColor: color("ink") };
    const config = {
      font: "system-ui, Liberation Sans, sans-serif", background: "transparent", view: { stroke: null }, text: { color: color("ink") },
      axis: { gridColor: color("line"), domainColor: color("pale"), tickColor: color("pale"), labelSeparation: 10, ...ink }, legend: ink,
    };
    const full = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", width, config, ...spec };
    if (charts.has(place)) charts.get(place).finalize();
    const made = await vegaEmbed(place, full, { actions: false, renderer: "canvas" });
    charts.set(place, made);
    if (onClick) made.view.addEventListener("click", (event, item) => { if (item && item.datum) onClick(item.datum); });
  }

  /* ---- summary ---- */
  function summary() {
    const place = section("summary", "Summary", `${data.target.name}, ${data.target.clock_mhz} MHz`);
    const cards = [
      ["cycles", count(run.cycles), run.cycles], ["time", duration(run.seconds), run.seconds],
      ["MAC efficiency", percent(run.mac_efficiency), run.mac_efficiency],
      ["useful MACs", count(run.macs), run.macs], ["DRAM traffic", size(run.dram_bytes), run.dram_bytes],
      ["instructions in the file", count(data.program.instructions), data.program.instructions],
      ["instructions executed", count(run.instructions), run.instructions],
    ];
    const grid = element("div", { className: "cards" });
    for (const [name, text, value] of cards) {
      const number = element("b", { textContent: text });
      number.dataset.value = value;
      number.dataset.name = name;
      grid.append(element("div", { className: "card" }, number, element("span", { textContent: name })));
    }
    place.append(grid);
    if (data.missing.length)
      place.append(element("ul", { className: "missing" }, ...data.missing.map((text) => element("li", { textContent: text }))));
    const total = Object.entries(profile.total.dram).map(([kind, bytes]) => ({ kind, bytes }));
    const traffic = element("div", { className: "chart" });
    place.append(element("p", { className: "about", textContent: "DRAM bytes by class" }), traffic);
    chart(traffic, {
      data: { values: total }, height: { step: 16 }, mark: { type: "bar", color: "#4c78a8", tooltip: true },
      encoding: { y: { field: "kind", type: "nominal", sort: null, title: null }, x: { field: "bytes", type: "quantitative", title: "bytes" } },
    });
  }

  function outputs() {
    if (!data.outputs.length) return;
    const place = section("outputs", "Outputs", "Of the run on the inputs given; the distribution of each output's elements.");
    for (const output of data.outputs) {
      const limits = output.smallest === null ? "" : `, ${output.smallest.toPrecision(6)} to ${output.largest.toPrecision(6)}`;
      const values = output.counts.map((counted, index) => ({ counted, from: output.edges[index], to: output.edges[index + 1] }));
      const histogram = element("div", { className: "chart" });
      place.append(element("p", { textContent: `${output.name}: ${output.shape.join(" x ")}${limits}` }), histogram);
      chart(histogram, {
        data: { values }, height: 110, mark: { type: "bar", color: "#72b7b2", tooltip: true },
        encoding: {
          x: { field: "from", type: "quantitative", bin: { binned: true }, title: "value" }, x2: { field: "to" },
          y: { field: "counted", type: "quantitative", title: "elements" },
        },
      });
    }
  }

  /* ---- how it was made ---- */
  function table(head, rows, numbers = []) {
    const kind = (index) => (numbers.includes(index) ? "number" : "");
    const cells = (row, tag) => element("tr", {}, ...row.map((cell, index) => element(tag, { className: kind(index) }, ...breakable(String(cell)))));
    return element("div", { className: "scroll" }, element("table", { className: "plain" }, element("thead", {}, cells(head, "th")), element("tbody", {}, ...rows.map((row) => cells(row, "td")))));
  }
  function program() {
    const place = section("program", "Inputs, options, versions");
    const ports = ["inputs", "outputs"].flatMap((way) => data.ports[way].map((port) => [way.slice(0, -1), port.name, port.shape.join(" x "), port.host_dtype, port.device_dtype, port.kind, port.kind === "quantized" ? port.scale.toPrecision(6) : "", port.kind === "quantized" ? port.zero_point : ""]));
    place.append(table(["", "name", "shape", "host", "machine", "kind", "scale", "zero point"], ports, [6, 7]));
    if (data.prologue.length) {
      place.append(element("p", { className: "about", textContent: "Before the machine starts, the host computes inputs of the program from those of the model." }));
      place.append(table(["value", "computation", "type", "module", "operator"], data.prologue));
    }
    const made = data.program.provenance;
    if (!made) { place.append(element("p", { className: "about", textContent: "The file does not say with which options and versions it was compiled." })); return; }
    const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
    const options = Object.entries(made.options).map(([name, value]) => [name, shown(value)]);
    place.append(options.length ? table(["option", "value"], options) : element("p", { className: "about", textContent: "Compiled with the default of every option." }));
    place.append(table(["package", "version"], Object.entries(made.versions)));
  }

  /* ---- accuracy ---- */
  const decibels = (value) => (value === null ? "exact" : value.toFixed(1) + " dB");
  function accuracy() {
    const { fidelity, diff } = data.accuracy;
    const place = section("accuracy", "Accuracy", "Signal-to-quantization-noise ratio of the outputs, and of each operation where a comparison with the float model was given (--diff).");
    if (fidelity) place.append(table(["against", "SQNR"], [["the model given", decibels(fidelity.given)], ["the pruned model", decibels(fidelity.pruned)]], [1]));
    else place.append(element("p", { className: "about", textContent: "The compile has not measured what the outputs keep of the model." }));
    if (!diff) { place.append(element("p", { className: "about", textContent: "No comparison was given: sta diff --json writes one." })); return; }
    const rows = diff.map((row) => [row.module || "-", row.operation, row.float_operation, decibels(row.isolated.decibels), decibels(row.accumulated.decibels)]);
    const box = table(["module", "operation", "float", "by itself", "accumulated"], rows, [3, 4]);
    [...box.querySelectorAll("tbody tr")].forEach((line, index) => clickable(line, () => select(diff[index].module, true)));
    place.append(box);
  }

  /* ---- comparison ---- */
  function comparison() {
    const other = data.other;
    if (!other) return;
    const place = section("comparison", "Comparison", `${data.title} (A) and ${other.title} (B), for ${data.target.name} and ${other.target}; modules with the largest difference first.`);
    const change = (a, b) => (a ? `${b >= a ? "+" : ""}${(100 * (b / a - 1)).toFixed(1)} %` : "");
    const totals = [["cycles", count, "cycles"], ["time", duration, "seconds"], ["MAC efficiency", percent, "mac_efficiency"], ["useful MACs", count, "macs"], ["DRAM traffic", size, "dram_bytes"], ["instructions executed", count, "instructions"]];
    place.append(table(["", "A", "B", "B against A"], totals.map(([name, text, key]) => [name, text(run[key]), text(other.run[key]), change(run[key], other.run[key])]), [1, 2, 3]));
    const cycles = new Map();
    for (const [side, rows] of [[0, profile.rows], [1, other.run.profile.rows]])
      for (const row of rows) cycles.set(row.module, Object.assign(cycles.get(row.module) ?? [null, null], { [side]: row.cycles }));
    const rows = [...cycles].sort(([, a], [, b]) => Math.abs((b[1] ?? 0) - (b[0] ?? 0)) - Math.abs((a[1] ?? 0) - (a[0] ?? 0)));
    const text = (value) => (value === null ? "-" : count(value));
    const box = table(["module", "cycles A", "cycles B", "difference", "B against A"], rows.map(([module, [a, b]]) => [module || "-", text(a), text(b), count((b ?? 0) - (a ?? 0)), a === null || b === null ? "" : change(a, b)]), [1, 2, 3, 4]);
    [...box.querySelectorAll("tbody tr")].forEach((line, index) => { line.dataset.module = rows[index][0]; clickable(line, () => select(rows[index][0], true)); });
    place.append(box);
  }

  /* ---- layers ---- */
  const COLUMNS = [
    ["module", (row) => row.module || "-", (row) => row.module, false],
    ["cycles", (row) => count(row.cycles), (row) => row.cycles, true],
    ["share", (row) => percent(row.share), (row) => row.share, true],
    ["MAC eff.", (row) => (row.macs ? percent(row.mac_efficiency) : ""), (row) => row.mac_efficiency, true],
    ["waits for", waits, (row) => Math.max(...Object.values(row.idle)), false],
    ...["mm", "ld", "st", "sm", "vp"].map((unit) => [unit, (row) => (row.cycles ? (100 * row.utilisation[unit]).toFixed(0) + " %" : ""), (row) => row.utilisation[unit], true]),
    ["MACs", (row) => count(row.macs), (row) => row.macs, true],
    ["DRAM", (row) => size(row.dram_bytes), (row) => row.dram_bytes, true],
    ["bound", (row) => row.bound, (row) => row.bound, false],
  ];
  function waits(row) {
    const [cause, cycles] = Object.entries(row.idle).reduce((most, one) => (one[1] > most[1] ? one : most));
    return cycles ? `${cause} ${count(cycles)}` : "";
  }
  function layers() {
    const place = section("layers", "Layers", "Cycles charged to each module; units: part of these cycles in which they work. Click a row to see only that module everywhere, a title to sort.");
    const body = element("tbody"), head = element("tr");
    let order = null, down = true;
    COLUMNS.forEach(([name, , value, number], index) => {
      const title = element("th", { textContent: name, className: number ? "number" : "" });
      clickable(title, () => { down = order === index ? !down : true; order = index; fill(); });
      head.append(title);
    });
    function fill() {
      const rows = profile.rows.filter((row) => isFound(row.module));
      if (order !== null) {
        const value = COLUMNS[order][2];
        rows.sort((a, b) => (value(a) < value(b) ? 1 : value(a) > value(b) ? -1 : 0) * (down ? 1 : -1));
      }
      const none = element("tr", {}, element("td", { colSpan: COLUMNS.length, textContent: NO_MATCH }));
      body.replaceChildren(...(rows.length ? rows.map(line) : [none]));
    }
    function line(row) {
      const made = clickable(element("tr"), () => select(state.path === row.module ? null : row.module));
      made.dataset.module = row.module;
      if (isChosen(row.module)) made.className = "chosen";
      for (const [name, text, value, number] of COLUMNS) {
        const cell = element("td", { className: number ? "number" : "" }, ...(number ? [text(row)] : breakable(text(row))));
        cell.dataset.name = name;
        if (number) cell.dataset.value = value(row);
        if (name === "share") cell.append(" ", element("span", { className: "bar", style: `width: ${Math.ceil(60 * row.share)}px` }));
        made.append(cell);
      }
      return made;
    }
    place.append(element("div", { className: "scroll" }, element("table", {}, element("thead", {}, head), body)));
    whenSelected(fill);
    return fill;
  }

  /* ---- timeline ---- */
  function timeline() {
    const place = section("timeline", "Timeline", "Above: how busy each unit is in the course of the run. Below: what the units execute, of the module chosen or from the start; drag to move, scroll to zoom, click for the instruction.");
    const overview = element("div", { className: "chart" }), detail = element("div", { className: "chart" });
    const caption = element("p", { className: "about" });
    place.append(overview, caption, detail);
    const step = data.timeline.cycles / data.timeline.bins;
    const bins = UNITS.flatMap((unit) => data.timeline.units[unit].map((busy, index) => ({ unit, busy, from: Math.round(index * step), to: Math.round((index + 1) * step) })));
    chart(overview, {
      data: { values: bins }, height: { step: 22 }, mark: { type: "rect", tooltip: true },
      encoding: {
        x: { field: "from", type: "quantitative", title: "cycle", scale: { nice: false } }, x2: { field: "to" },
        y: { field: "unit", type: "nominal", sort: UNITS, title: null },
        color: { field: "busy", type: "quantitative", scale: { scheme: "blues", domain: [0, 1] }, title: "busy", legend: { format: "%", orient: "top", gradientLength: 120 } },
      },
    }, (bin) => show(nearest(bin.from)));
    function nearest(cycle) {
      const index = data.events.start.findIndex((start) => start >= cycle);
      return index < 0 ? data.events.start.length - 1 : index;
    }
    function show(first) {
      const values = [];
      let index = first;
      for (; index < data.events.pc.length && values.length < MOST_EVENTS; index++) {
        const pc = data.events.pc[index], path = code.paths[code.path[pc]];
        if (state.path !== null && !isChosen(path)) continue;
        const start = data.events.start[index];
        values.push({ unit: UNITS[data.events.unit[index]], start, end: start + data.events.length[index], cycles: data.events.length[index], module: path, pc, instruction: code.text[pc] });
      }
      const complete = data.events.pc.length === data.events.total ? "" : ` The report has the first ${count(data.events.pc.length)} of ${count(data.events.total)} executions.`;
      caption.textContent = `${count(values.length)} executions${values.length ? ` from cycle ${count(values[0].start)} on` : ""}.${complete}`;
      return chart(detail, {
        data: { values }, height: { step: 26 }, params: [{ name: "zoom", select: { type: "interval", encodings: ["x"] }, bind: "scales" }],
        mark: { type: "bar", stroke: "#fff", strokeWidth: 0.3, cursor: "pointer" },
        encoding: {
          x: { field: "start", type: "quantitative", title: "cycle", scale: { zero: false, nice: false } }, x2: { field: "end" },
          y: { field: "unit", type: "nominal", sort: UNITS, title: null, scale: { domain: UNITS } },
          color: { field: "unit", scale: { domain: UNITS, range: UNITS.map((unit) => COLORS[unit]) }, legend: null },
          tooltip: ["pc", "instruction", "module", "start", "cycles"].map((field) => ({ field })),
        },
      }, (event) => goTo(event.pc));
    }
    whenSelected(() => show(0));
    return (pc) => { const first = data.events.pc.indexOf(pc); if (first >= 0) show(first).then(() => detail.scrollIntoView({ block: "center" })); };
  }

  /* ---- roofline ---- */
  function roofline() {
    const place = section("roofline", "Roofline", "MACs a cycle that each module reaches, by its MACs for each DRAM byte. The line is what array and DMA allow. Click a point to choose its module.");
    const box = element("div", { className: "chart" });
    place.append(box);
    const rows = profile.rows.filter((row) => row.macs && row.cycles && row.intensity !== null).map((row) => ({ module: row.module, intensity: row.intensity, rate: row.macs / row.cycles, bound: row.bound, cycles: row.cycles }));
    if (!rows.length) { box.textContent = "No module has both products and DRAM traffic."; return; }
    const peak = profile.macs_per_cycle, knee = peak / profile.dma_bytes_per_cycle;
    const between = (values, room) => [Math.min(...values) / room, Math.max(...values) * room];
    const [low, high] = between([knee, ...rows.map((row) => row.intensity)], 1.5);
    const rates = between([peak, ...rows.map((row) => row.rate)], 1.5);
    const roof = [Math.max(low, rates[0] / profile.dma_bytes_per_cycle), knee, high].map((intensity) => ({ intensity, rate: Math.min(peak, intensity * profile.dma_bytes_per_cycle) }));
    const middle = Math.sqrt(roof[0].intensity * knee);
    const sides = [{ intensity: middle, rate: middle * profile.dma_bytes_per_cycle, text: `DRAM: ${profile.dma_bytes_per_cycle} bytes a cycle`, side: "left" }, { ...roof[2], text: `array: ${count(peak)} MACs a cycle`, side: "right" }];
    const axis = { format: "~s", tickCount: 8, labelOverlap: true };
    const x = { field: "intensity", type: "quantitative", axis, scale: { type: "log", nice: false, domain: [low, high] }, title: "MACs for each DRAM byte" };
    const y = { field: "rate", type: "quantitative", axis, scale: { type: "log", nice: false, domain: rates }, title: "MACs a cycle" };
    /* The modules that take most of the time have their names beside them, each name once where several lie together. */
    const near = (a, b) => Math.abs(Math.log(a.rate / b.rate)) < 0.08 * Math.log(rates[1] / rates[0]) && Math.abs(Math.log(a.intensity / b.intensity)) < 0.17 * Math.log(high / low);
    const named = [];
    for (const row of [...rows].sort((a, b) => b.cycles - a.cycles)) if (named.length < 8 && !named.some((other) => near(other, row))) named.push(row);
    whenSelected(() => chart(box, {
      height: 320,
      layer: [
        { data: { values: roof }, mark: { type: "line", color: color("pale") }, encoding: { x, y } },
        { data: { values: sides }, transform: [{ filter: "datum.side === 'left'" }], mark: { type: "text", align: "left", dx: 10, dy: 8 }, encoding: { x, y, text: { field: "text" } } },
        { data: { values: sides }, transform: [{ filter: "datum.side === 'right'" }], mark: { type: "text", align: "right", dy: -8 }, encoding: { x, y, text: { field: "text" } } },
        { data: { values: rows.map((row) => ({ ...row, chosen: isChosen(row.module) })) }, mark: { type: "point", filled: true, size: 70, cursor: "pointer" },
          encoding: { x, y, color: { condition: { test: "datum.chosen", value: "#e45756" }, value: "#4c78a8" }, tooltip: ["module", "intensity", "rate", "cycles", "bound"].map((field) => ({ field })) } },
        { data: { values: named.map((row) => ({ ...row, right: row.intensity * row.intensity > low * high })) }, transform: [{ filter: "datum.right" }], mark: { type: "text", align: "right", dx: -8, dy: 11, fontSize: 11 }, encoding: { x, y, text: { field: "module" } } },
        { data: { values: named.map((row) => ({ ...row, right: row.intensity * row.intensity > low * high })) }, transform: [{ filter: "!datum.right" }], mark: { type: "text", align: "left", dx: 8, dy: 11, fontSize: 11 }, encoding: { x, y, text: { field: "module" } } },
      ],
    }, (point) => point.module !== undefined && select(point.module, true)));
  }

  /* ---- memory ---- */
  function memory() {
    const place = section("memory", "Memory maps", "Where buffers lie, and between which instructions they are in use. Click one to choose its module.");
    const choice = element("select", { ariaLabel: "memory" }), box = element("div", { className: "chart" });
    for (const [space, map] of Object.entries(data.memory)) choice.append(element("option", { value: space, textContent: `${space}: ${size(map.bytes)}, ${map.buffers.length} buffers` }));
    const onChip = ["spad", "wbuf", "acc"].reduce((sum, space) => sum + data.memory[space].bytes, 0);
    const used = `${size(onChip)} of the chip's ${size(data.target.sram_bytes)} are in use`;
    place.append(element("div", { className: "tools" }, choice, element("span", { className: "about", textContent: used })), box);
    function show() {
      const map = data.memory[choice.value];
      if (!map.buffers.length) { box.textContent = "No buffers."; return; }
      const total = new Map();
      for (const buffer of map.buffers) total.set(buffer.module, (total.get(buffer.module) ?? 0) + buffer.bytes * (buffer.last + 1 - buffer.first));
      const largest = [...total.keys()].sort((a, b) => total.get(b) - total.get(a)).slice(0, MOST_COLORS);
      const group = (buffer) => (largest.includes(buffer.module) ? buffer.module || "(no module)" : "others");
      const values = map.buffers.map((buffer) => ({ ...buffer, group: group(buffer), until: buffer.last + 1, end: buffer.offset + buffer.bytes, chosen: isChosen(buffer.module) }));
      const names = [...largest.map((module) => module || "(no module)"), ...(total.size > largest.length ? ["others"] : [])];
      const capacity = [{ bytes: map.bytes, text: `capacity that the program takes: ${size(map.bytes)}` }];
      const first = Math.min(...values.map((value) => value.first));
      chart(box, {
        height: 320,
        layer: [
          { data: { values }, params: [{ name: "zoom", select: "interval", bind: "scales" }], mark: { type: "rect", stroke: color("paper"), strokeWidth: 0.5, cursor: "pointer" },
            encoding: {
              x: { field: "first", type: "quantitative", title: "instruction", scale: { nice: false } }, x2: { field: "until" },
              y: { field: "offset", type: "quantitative", title: "address in bytes", axis: { format: "~s" }, scale: { nice: false, domain: [Math.min(...values.map((value) => value.offset), map.bytes), map.bytes * 1.06] } }, y2: { field: "end" },
              color: { condition: { test: "datum.chosen", value: "#e45756" }, field: "group", legend: { orient: "bottom", columns: 3, title: "module, by bytes and time", labelLimit: 260 }, scale: { domain: names, scheme: "tableau10" } },
              opacity: { value: 0.85 }, tooltip: ["name", "offset", "bytes", "first", "last"].map((field) => ({ field })),
            } },
          { data: { values: capacity }, mark: { type: "rule", strokeDash: [6, 4], color: color("ink") }, encoding: { y: { field: "bytes", type: "quantitative" } } },
          { data: { values: capacity.map((one) => ({ ...one, first })) }, mark: { type: "text", align: "left", dx: 4, dy: -6 }, encoding: { x: { field: "first", type: "quantitative" }, y: { field: "bytes", type: "quantitative" }, text: { field: "text" } } },
        ],
      }, (buffer) => buffer.module !== undefined && select(buffer.module, true));
    }
    choice.onchange = show;
    whenSelected(show);
  }

  /* ---- weights ---- */
  function weights() {
    if (!data.weights.length) return () => {};
    const place = section("weights", "Sparsity", "Each packed weight, inputs across and outputs down: the darker, the more weights of that part are not zero.");
    const box = element("div", { className: "weights" });
    place.append(box);
    const pictures = new Map();
    function picture(weight) {
      if (pictures.has(weight)) return pictures.get(weight);
      const { rows, columns, density } = weight.picture;
      const canvas = element("canvas", { width: columns, height: rows });
      const bytes = atob(density), pixels = new ImageData(columns, rows);
      for (let index = 0; index < rows * columns; index++) {
        const part = bytes.charCodeAt(index) / 255;
        pixels.data.set([238 - 214 * part, 241 - 180 * part, 245 - 110 * part, 255], 4 * index);
      }
      canvas.getContext("2d").putImageData(pixels, 0, 0);
      pictures.set(weight, canvas);
      return canvas;
    }
    function fill() {
      const found = data.weights.filter((weight) => isFound(weight.module));
      if (!found.length) { box.textContent = NO_MATCH; return; }
      box.replaceChildren(...found.map((weight) => {
        const text = `${weight.module || weight.name}: ${weight.shape.join(" x ")}, ${weight.pattern} ${weight.encoding}, density ${percent(weight.density)}, ${size(weight.bytes)}`;
        const made = clickable(element("figure", { title: weight.name }, picture(weight), element("figcaption", {}, ...breakable(text))), () => select(weight.module, true));
        if (isChosen(weight.module)) made.className = "chosen";
        return made;
      }));
    }
    whenSelected(fill);
    return fill;
  }

  /* ---- IR ---- */
  function ir() {
    const steps = data.ir.filter((step) => step.text || step.diff);
    if (!steps.length) return;
    const place = section("ir", "IR", "The module after each pass, or what the pass changed. With a module chosen, only lines that name it, and changes that begin in it.");
    const pass = element("select", { ariaLabel: "pass" }), what = element("select", { ariaLabel: "text or diff" }), box = element("div", { className: "scroll code" });
    steps.forEach((step, index) => pass.append(element("option", { value: index, textContent: step.seconds === null ? step.name : `${String(index).padStart(2, "0")} ${step.name}: ${count(step.operations)} operations, ${step.seconds.toFixed(2)} s` })));
    what.append(element("option", { value: "text", textContent: "module" }), element("option", { value: "diff", textContent: "diff to the step before" }));
    const note = element("span", { className: "about" });
    place.append(element("div", { className: "tools" }, pass, what, note), box);
    /* A location, or the name of an array or buffer: the path, or what lies below it. */
    function names(line) {
      for (let at = line.indexOf(`"${state.path}`); at >= 0; at = line.indexOf(`"${state.path}`, at + 1))
        if (/[".:@#]/.test(line[at + 1 + state.path.length])) return true;
      return false;
    }
    /* A diff has no locations; the head of each of its parts names the module that it begins in. */
    function changesOf(lines) {
      let shown = false;
      return lines.filter((line) => {
        if (line.startsWith("@@ ")) shown = isChosen(line.split(" @@ ")[1] ?? "");
        return shown || names(line);
      });
    }
    function show() {
      const step = steps[pass.value];
      if (!step[what.value]) what.value = step.text ? "text" : "diff";
      let lines = step[what.value].split("\n");
      const all = lines.length;
      if (state.path !== null) lines = what.value === "diff" ? changesOf(lines) : lines.filter(names);
      const shown = lines.slice(0, MOST_LINES);
      note.textContent = shown.length < all ? `${count(shown.length)} of ${count(all)} lines` : `${count(all)} lines`;
      box.replaceChildren(...shown.map((line) => {
        const made = element("div", { textContent: line || " " });
        if (what.value === "diff") made.className = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : line.startsWith("@") ? "place" : "";
        return made;
      }));
    }
    pass.value = steps.length - 1;
    pass.onchange = what.onchange = show;
    whenSelected(show);
  }

  /* ---- code ---- */
  function disassembly(showTime) {
    const place = section("code", "Code", "The microcode, with how often each instruction is executed. Click one to see it in the timeline.");
    const box = element("div", { className: "scroll code" }), note = element("p", { className: "about shown" });
    place.append(note, box);
    let marked = null;
    function fill() {
      const lines = [];
      let last = null, shown = 0;
      code.text.forEach((text, pc) => {
        const path = code.paths[code.path[pc]];
        if (state.path !== null && !isChosen(path)) return;
        if (!isFound(path)) return;
        shown++;
        if (path !== last) lines.push(clickable(element("div", { className: "title", textContent: path ? `${path}:` : "-" }), () => select(path)));
        last = path;
        const line = element("div", { id: `pc${pc}`, textContent: `${String(pc).padStart(6)} ${(count(code.executions[pc]) + "×").padStart(9)}  ${"  ".repeat(code.depth[pc])}${text}` });
        clickable(line, () => { mark(line); showTime(pc); });
        lines.push(line);
      });
      note.textContent = `${count(shown)} of ${count(code.text.length)} instructions`;
      box.replaceChildren(...(lines.length ? lines : [element("div", { textContent: NO_MATCH })]));
    }
    function mark(line) {
      if (marked) marked.classList.remove("chosen");
      marked = line;
      line.classList.add("chosen");
    }
    whenSelected(fill);
    return [fill, (pc) => {
      const line = document.getElementById(`pc${pc}`);
      if (line) { mark(line); line.scrollIntoView({ block: "center" }); }
    }];
  }

  /* The header stays on top; how tall it is depends on the width and on what is chosen. */
  const header = document.querySelector("header");
  new ResizeObserver(() => document.documentElement.style.setProperty("--header", `${header.offsetHeight}px`)).observe(header);

  let goTo = () => {};
  document.getElementById("loading").remove();
  summary();
  program();
  accuracy();
  comparison();
  outputs();
  const refilled = [layers()];
  const showTime = timeline();
  roofline();
  memory();
  refilled.push(weights());
  ir();
  const [fillCode, showCode] = disassembly(showTime);
  refilled.push(fillCode);
  goTo = showCode;
  document.querySelector("#selection button").onclick = () => select(null);
  document.getElementById("search").oninput = (event) => {
    state.search = event.target.value.trim().toLowerCase();
    for (const fill of refilled) fill();
  };
  /* The keyboard: / to search, Escape to show everything again. */
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target.tagName !== "INPUT" && event.target.tagName !== "SELECT") {
      event.preventDefault();
      document.getElementById("search").focus();
    } else if (event.key === "Escape") {
      select(null);
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...redraws.values()].forEach((draw) => draw()));
  addEventListener("hashchange", follow);
  follow();
  document.body.dataset.ready = "yes";
})().catch((error) => {
  document.querySelector("main").textContent = `This report cannot be shown: ${error.message}`;
  console.error(error);
});
