// Walks all elements of a page that are shown, through shadow roots; returns what is wrong, a sentence each.
() => {
  const found = [];
  const all = [];
  const walk = (root) => {
    for (const node of root.querySelectorAll("*")) {
      all.push(node);
      if (node.shadowRoot) walk(node.shadowRoot);
    }
  };
  walk(document);
  const name = (node) => `${node.localName}${node.id && "#" + node.id}${node.className?.toString && "." + node.className} "${node.textContent.trim().slice(0, 30)}"`;
  const isShown = (node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && node.getClientRects().length > 0;
  const isHiddenFromReaders = (node) => Boolean(node.closest("[aria-hidden=true]"));
  const parentOf = (node) => node.parentElement ?? node.getRootNode().host ?? null;

  const labelOf = (node) => {
    const by = (node.getAttribute("aria-labelledby") ?? "").split(" ").filter(Boolean).map((id) => node.getRootNode().getElementById(id)?.textContent ?? "");
    return [node.getAttribute("aria-label"), ...by, ...[...(node.labels ?? [])].map((one) => one.textContent), node.title, node.localName === "input" || node.localName === "select" ? "" : node.textContent].join("").trim();
  };
  for (const node of all) {
    if (node.matches("button, a[href], input:not([type=hidden]), select, textarea, summary, dialog[open], [role=grid], [tabindex='0']") && isShown(node) && !labelOf(node)) found.push(`no name: ${name(node)}`);
  }

  const ids = new Map();
  for (const node of all) {
    if (!node.id) continue;
    const known = ids.get(node.getRootNode()) ?? new Set();
    if (known.has(node.id)) found.push(`the id twice: ${name(node)}`);
    known.add(node.id);
    ids.set(node.getRootNode(), known);
  }

  const OWNERS = { row: "grid, rowgroup, table, treegrid", gridcell: "row", columnheader: "row", option: "listbox", tab: "tablist", listitem: "list" };
  for (const node of all) {
    const owners = OWNERS[node.getAttribute("role")];
    if (!owners) continue;
    let at = parentOf(node);
    while (at && (!at.getAttribute("role") || ["presentation", "none"].includes(at.getAttribute("role")))) at = parentOf(at);
    if (!at || !owners.split(", ").includes(at.getAttribute("role"))) found.push(`outside of ${owners}: ${name(node)}`);
  }
  for (const grid of all.filter((node) => node.getAttribute("role") === "grid")) {
    if (!grid.getAttribute("aria-rowcount")) found.push(`no aria-rowcount: ${name(grid)}`);
    for (const row of grid.querySelectorAll("[role=row]")) {
      if (!row.getAttribute("aria-rowindex")) found.push(`no aria-rowindex: ${name(row)}`);
      if (![...row.children].every((cell) => ["gridcell", "columnheader", "rowheader"].includes(cell.getAttribute("role")))) found.push(`a row with other things than cells: ${name(row)}`);
    }
  }

  const channels = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const backgroundOf = (node) => {
    for (let at = node; at; at = parentOf(at)) {
      const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (const node of all) {
    const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!hasText || !isShown(node) || isHiddenFromReaders(node) || node.matches("option, script, style, noscript") || node.closest(":disabled")) continue;
    const [light, dark] = [luminance(channels(getComputedStyle(node).color)), luminance(backgroundOf(node))].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) found.push(`a contrast of ${contrast.toFixed(2)}: ${name(node)}`);
  }

  const scrolls = (node) => {
    for (let at = parentOf(node); at; at = parentOf(at)) if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(at).overflowX) && at !== document.body && at !== document.documentElement) return true;
    return false;
  };
  for (const node of all) {
    if (!isShown(node) || node.matches("noscript, head *")) continue;
    const { right, left, width } = node.getBoundingClientRect();
    if (width > 1 && (right > innerWidth + 1 || left < -1) && !scrolls(node)) found.push(`wider than the window (${Math.round(left)} to ${Math.round(right)}): ${name(node)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page scrolls sideways: ${document.documentElement.scrollWidth} > ${innerWidth}`);

  const least = matchMedia("(pointer: coarse)").matches ? 44 : 24;
  for (const node of all) {
    if (!node.matches("button, select, input:not([type=checkbox]):not([type=radio]), summary") || !isShown(node)) continue;
    const { width, height } = node.getBoundingClientRect();
    if (Math.min(width, height) < least) found.push(`a target of ${Math.round(width)} × ${Math.round(height)}: ${name(node)}`);
  }
  return found;
}
