// Charts, by Chart.js: a <canvas data-chart="#id"> draws the JSON in the <script type="application/json" id="...">.
// A <canvas data-series="name"> inside a live box grows by one point with each answer.
"use strict";

(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const points = 90;

  const options = (title, more = {}) => ({
    responsive: true, maintainAspectRatio: false, animation: false, interaction: { mode: "index", intersect: false },
    plugins: { legend: { display: false, labels: { color: colour("--body-fg"), boxWidth: 10, boxHeight: 10 } }, tooltip: { enabled: true } },
    scales: {
      x: { stacked: more.stacked, grid: { display: false }, ticks: { color: colour("--body-quiet-color"), maxRotation: 0, autoSkipPadding: 14 } },
      y: { stacked: more.stacked, beginAtZero: true, grid: { color: colour("--hairline-color") }, ticks: { color: colour("--body-quiet-color"), maxTicksLimit: 5, precision: more.precision } },
    },
  });

  const whole = (canvas) => {
    const data = JSON.parse(document.querySelector(canvas.dataset.chart).textContent);
    const set = options(data.title, { stacked: data.stacked, precision: 0 });
    set.plugins.legend.display = data.datasets.length > 1;
    if (data.horizontal) set.indexAxis = "y";
    if (data.urls) {
      set.onClick = (event, hits) => { if (hits.length) location.href = data.urls[hits[0].index]; };
      set.onHover = (event, hits) => { event.native.target.style.cursor = hits.length ? "pointer" : "default"; };
    }
    const datasets = data.datasets.map((one, index) => {
      const shade = colour(one.colour || `--chart-${index + 1}`);
      return { ...one, backgroundColor: data.type === "line" ? `${shade}22` : shade, borderColor: shade, borderWidth: data.type === "line" ? 2 : 0, borderRadius: 3, pointRadius: 0, tension: 0.3, fill: data.type === "line", maxBarThickness: 26 };
    });
    return new Chart(canvas, { type: data.type, data: { labels: data.labels, datasets }, options: set });
  };

  const growing = (canvas) => {
    const shade = colour("--chart-1");
    const set = options(canvas.dataset.series);
    set.plugins.tooltip.enabled = false;
    set.scales.x.display = false;
    if (canvas.dataset.limit) set.scales.y.suggestedMax = Number(canvas.dataset.limit);
    const chart = new Chart(canvas, {
      type: "line", options: set,
      data: { labels: [], datasets: [{ data: [], borderColor: shade, backgroundColor: `${shade}22`, fill: true, borderWidth: 2, pointRadius: 0, tension: 0.25 }] },
    });
    let last = null;
    canvas.closest("[data-live]").addEventListener("series", (event) => {
      let value = event.detail[canvas.dataset.series];
      if (value === undefined || value === null) return;
      if (canvas.dataset.unit === "cores") {
        // Seconds of processor time so far: the slope is what is used now.
        const now = { at: performance.now() / 1000, value };
        const before = last;
        last = now;
        if (!before) return;
        value = Math.max(0, (now.value - before.value) / (now.at - before.at));
        const told = canvas.closest("[data-live]").querySelector('[data-field="cpu"]');
        if (told) told.textContent = `${value.toFixed(2)} cores`;
      }
      chart.data.labels.push("");
      chart.data.datasets[0].data.push(value);
      if (chart.data.labels.length > points) { chart.data.labels.shift(); chart.data.datasets[0].data.shift(); }
      chart.update();
    });
    return chart;
  };

  let drawn = [];
  const draw = () => {
    drawn.forEach((chart) => chart.destroy());
    drawn = [...document.querySelectorAll("canvas[data-chart]")].map(whole);
  };
  document.addEventListener("DOMContentLoaded", () => {
    draw();
    document.querySelectorAll("canvas[data-series]").forEach(growing);
    new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  });
})();
