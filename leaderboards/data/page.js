"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children); // text becomes text nodes, never markup
    return node;
  };
  const NOTHING = "–";
  const data = JSON.parse(document.getElementById("data").textContent);

  // ---- sorting: a button in every header, aria-sort on the header, the state in the address
  const textOf = (row, column) => (row.cells[column]?.dataset.sort ?? row.cells[column]?.textContent ?? "").trim();
  const isBlank = (text) => text === "" || text === NOTHING;
  const numberIn = (text) => parseFloat(text.replace(/^[^\d.-]+/, "").replaceAll(",", ""));
  const rowsOf = (body) => all(":scope > tr:not(.detail)", body);

  function sort(table, column, direction) {
    const body = table.tBodies[0];
    const rows = rowsOf(body);
    rows.forEach((row, index) => { row.dataset.place ??= String(index); });
    const texts = new Map(rows.map((row) => [row, textOf(row, column)]));
    const said = [...texts.values()].filter((text) => !isBlank(text));
    const isNumeric = said.every((text) => /^[[(-]?[\d.]/.test(text));
    const sign = direction === "descending" ? -1 : 1;
    const compare = (a, b) => {
      if (direction === "none") return 0;
      const [x, y] = [texts.get(a), texts.get(b)];
      if (isBlank(x) || isBlank(y)) return isBlank(x) - isBlank(y); // last, whichever way
      return sign * (isNumeric ? numberIn(x) - numberIn(y) : x.localeCompare(y, "en", { numeric: true }));
    };
    rows.sort((a, b) => compare(a, b) || a.dataset.place - b.dataset.place);
    for (const row of rows) {
      const detail = row.nextElementSibling?.classList.contains("detail") ? [row.nextElementSibling] : [];
      body.append(row, ...detail);
    }
    for (const header of all("thead th[aria-sort]", table))
      header.setAttribute("aria-sort", header.cellIndex === column ? direction : "none");
  }

  function makeSortable(table) {
    all("thead th", table).forEach((header) => {
      const column = header.cellIndex;
      if (header.textContent.trim() === "") return;
      header.setAttribute("aria-sort", "none");
      const button = make("button", { type: "button" }, ...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const first = header.classList.contains("n") ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const now = header.getAttribute("aria-sort");
        const next = now === "none" ? first : now === first ? second : "none";
        sort(table, column, next);
        if (table.id) remember(`sort=${table.id}:${column}:${next}`);
      });
    });
  }

  function remember(fragment) {
    try { history.replaceState(null, "", `#${fragment}`); } catch { /* a sandboxed page may not */ }
  }

  // ---- the episodes of a task, under its row
  const OUTCOMES = { s: "success", t: "timeout", e: "error" };
  const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const command = (id) =>
    `python -m rdvla_bench.replay ${quoted(data.run)} ${quoted(id)} --video ${quoted(`${data.run}/${data.videos}/${id}.mp4`)}`;

  function makeOpenable(row) {
    const episodes = data.episodes?.[row.dataset.suite]?.[row.dataset.task];
    if (!episodes) return;
    const head = row.querySelector("th");
    const button = make("button", { type: "button", "aria-expanded": "false" }, ...head.childNodes);
    row.classList.add("open");
    head.append(button);
    button.addEventListener("click", () => {
      const isOpen = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!isOpen));
      if (isOpen) row.nextElementSibling.remove();
      else row.after(detail(episodes, row.cells.length, row.closest(".scroll").clientWidth));
    });
  }

  function detail(episodes, width, view) {
    const isChain = episodes.some((episode) => episode[7] !== null);
    const inside = make("div", { class: "inside" }, key(episodes, isChain), strip(episodes, isChain));
    inside.style.width = `${view - 32}px`; // the part of a wide table that is in sight
    const line = make("p", { class: "command", "aria-live": "polite", hidden: "" });
    const table = episodeTable(episodes, isChain, (id) => showCommand(line, id));
    inside.append(make("div", { class: "episodes", tabindex: "0", role: "region", "aria-label": "episodes" }, table), line);
    makeSortable(table);
    return make("tr", { class: "detail" }, make("td", { colspan: width }, inside));
  }

  function showCommand(line, id) {
    const text = command(id);
    line.replaceChildren("film it:", make("code", {}, text));
    line.hidden = false;
    navigator.clipboard?.writeText(text).then(() => line.append("copied"), () => {});
  }

  function key(episodes, isChain) {
    const count = (letter) => episodes.filter((episode) => episode[1] === letter).length;
    const entry = (className, mark, text) => make("span", {}, make("i", { class: `cell ${className}` }, mark), text);
    const node = make("div", { class: "key" });
    if (isChain) node.append("subtasks done in a row, a square a chain:", ...[0, 1, 2, 3, 4, 5].map((k) => entry(`c${k}`, String(k), "")));
    else node.append(entry("s", "", `${count("s")} success`), entry("t", "", `${count("t")} timeout`));
    if (count("e")) node.append(entry("e", "×", `${count("e")} error, not counted`));
    return node;
  }

  function strip(episodes, isChain) {
    const cells = episodes.map(([id, outcome, steps, , depth, , , solved, failed]) => {
      const isError = outcome === "e";
      const className = isChain && !isError ? `c${Math.min(solved, 5)}` : outcome;
      const mark = isError ? "×" : isChain ? String(solved) : "";
      const rest = [`${steps} steps`, depth === null ? "" : `depth ${depth.toFixed(2)}`, failed && `not done: ${failed}`];
      const tip = [id, OUTCOMES[outcome], ...rest].filter(Boolean).join(", ");
      return make("i", { class: `cell ${className}`, "data-tip": tip }, mark);
    });
    return make("div", { class: "strip", "aria-hidden": "true" }, ...cells);
  }

  function episodeTable(episodes, isChain, onAsk) {
    const hasDepth = episodes.some((episode) => episode[4] !== null);
    const most = Math.max(1, ...episodes.flatMap((episode) => episode[5]));
    const heads = ["episode", "outcome", ...(isChain ? ["in a row", "not done"] : []), "steps", "queries"];
    if (hasDepth) heads.push("depth", "depth over queries");
    const numeric = new Set(["in a row", "steps", "queries", "depth"]);
    const head = make("tr", {}, ...[...heads, "film"].map((name) => make("th", numeric.has(name) ? { scope: "col", class: "n" } : { scope: "col" }, name)));
    const rows = episodes.map(([id, outcome, steps, queries, depth, depths, film, solved, failed, error]) => {
      const cells = [make("th", { scope: "row" }, make("code", {}, id))];
      const said = outcome === "e" ? `error: ${error}` : OUTCOMES[outcome];
      cells.push(make("td", { class: `o-${outcome}` }, said));
      const number = (value) => make("td", { class: "n" }, value === null ? NOTHING : String(value));
      if (isChain) cells.push(number(solved), make("td", {}, failed || NOTHING));
      cells.push(number(steps), number(queries));
      if (hasDepth) cells.push(number(depth === null ? null : depth.toFixed(2)), make("td", { "data-sort": depth ?? "" }, spark(depths, most)));
      cells.push(make("td", {}, outcome === "e" ? NOTHING : filmOf(id, film, onAsk)));
      return make("tr", {}, ...cells);
    });
    return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  }

  function filmOf(id, film, onAsk) {
    if (film) return make("a", { href: film }, "watch");
    const button = make("button", { type: "button", class: "plain-button", "aria-label": `how to film ${id}` }, "how to film");
    button.addEventListener("click", () => onAsk(id));
    return button;
  }

  function spark(depths, most) {
    const namespace = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(namespace, "svg");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 100 20");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    if (depths.length) {
      const path = document.createElementNS(namespace, "path");
      const at = (depth, i) => `${(100 * i) / depths.length} ${19 - (18 * depth) / most}h${100 / depths.length}`;
      path.setAttribute("d", `M${depths.map(at).join("L")}`);
      svg.append(path);
    }
    return svg;
  }

  // ---- what hovering says
  const tip = document.getElementById("tip");
  all("[data-tip] > title").forEach((title) => title.remove()); // else the browser says it a second time
  document.addEventListener("pointermove", (event) => {
    const text = event.target.closest?.("[data-tip]")?.dataset.tip;
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    const top = below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : below;
    tip.style.transform = `translate(${left}px, ${top}px)`;
    tip.style.left = tip.style.top = "0";
  });
  addEventListener("beforeprint", () => all("details").forEach((details) => { details.open = true; }));

  // ---- begin; an address may ask for an order or an open task: #sort=tasks:5:descending, #open=libero_goal:3
  all("tr[data-suite]").forEach(makeOpenable);
  all("main table").forEach(makeSortable);
  function obey() {
    const [verb, argument] = decodeURIComponent(location.hash.slice(1)).split("=");
    if (verb === "sort" && argument) {
      const [id, column, direction] = argument.split(":");
      const table = document.getElementById(id);
      if (table?.tBodies && ["ascending", "descending", "none"].includes(direction)) sort(table, Number(column), direction);
    } else if (verb === "open" && argument) {
      const [suite, task] = argument.split(":");
      const row = all("tr.open").find((r) => r.dataset.suite === suite && r.dataset.task === task);
      row?.querySelector("button[aria-expanded=false]")?.click();
      row?.scrollIntoView();
    }
  }
  obey();
  addEventListener("hashchange", obey);
  document.documentElement.dataset.ready = "1";
})();
