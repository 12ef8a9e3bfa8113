// Pages that move: a box with data-live="<url>" is asked for JSON every data-every milliseconds until it says `done`.
// What comes is put in as text, never as HTML. Its keys name elements by data-field; `series` feeds the charts.
"use strict";

(() => {
  const put = (root, name, value) => {
    for (const element of root.querySelectorAll(`[data-field="${name}"]`)) {
      const follows = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
      if (element.textContent !== value) element.textContent = value;
      if (element.classList.contains("badge")) element.className = `badge badge-${value.replace(/[^a-z]/g, "")}`;
      if (follows && element.scrollHeight > element.clientHeight) element.scrollTop = element.scrollHeight;
    }
  };

  const start = (root) => {
    const every = Number(root.dataset.every) || 2000;
    let failures = 0;
    const ask = async () => {
      if (document.hidden) return void setTimeout(ask, every);
      try {
        const answer = await fetch(root.dataset.live, { headers: { Accept: "application/json" }, credentials: "same-origin" });
        if (!answer.ok) throw new Error(String(answer.status));
        const data = await answer.json();
        failures = 0;
        for (const [name, value] of Object.entries(data.fields || {})) put(root, name, String(value));
        for (const element of root.querySelectorAll("[data-show]")) element.hidden = !data[element.dataset.show];
        if (data.series) root.dispatchEvent(new CustomEvent("series", { detail: data.series }));
        if (data.reload) return void location.reload();
        if (data.done) return;
      } catch {
        failures += 1;
        put(root, "connection", "No answer; asking again");
      }
      setTimeout(ask, Math.min(every * 2 ** failures, 30000));
    };
    ask();
  };

  // The list of containers: what each uses now, for the rows that are on the page.
  const figures = () => {
    const cells = [...document.querySelectorAll("[data-figure]")];
    if (!cells.length) return;
    const names = [...new Set(cells.map((cell) => cell.dataset.of))].slice(0, 20);
    const before = {};
    const ask = async () => {
      if (!document.hidden) {
        try {
          const query = names.map((name) => `name=${encodeURIComponent(name)}`).join("&");
          const answer = await fetch(`figures.json?${query}`, { credentials: "same-origin" });
          const { containers } = await answer.json();
          const now = performance.now() / 1000;
          for (const cell of cells) {
            const found = containers[cell.dataset.of];
            const last = before[cell.dataset.of];
            if (!found) cell.textContent = "–";
            else if (cell.dataset.figure === "memory") cell.textContent = `${(found.memory_bytes / 2 ** 20).toFixed(0)} Mi`;
            else if (last) cell.textContent = Math.max(0, (found.cpu_seconds - last.cpu) / (now - last.at)).toFixed(2);
          }
          for (const [name, found] of Object.entries(containers)) before[name] = { cpu: found.cpu_seconds, at: now };
        } catch { /* asked again in a moment */ }
      }
      setTimeout(ask, 3000);
    };
    ask();
  };

  document.addEventListener("DOMContentLoaded", figures);
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-live]").forEach(start));
})();
