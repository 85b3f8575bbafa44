/* Draws what stands beside each chart as data; without it, the tables say the same. */
"use strict";

const styleOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function bytes(value) {
  for (const [step, unit] of [[2 ** 30, "GB"], [2 ** 20, "MB"], [2 ** 10, "kB"]]) {
    if (value >= step) return `${(value / step).toFixed(value / step < 10 ? 1 : 0)} ${unit}`;
  }
  return `${Math.round(value)} B`;
}

function number(value) {
  if (value >= 1e6) return `${+(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${+(value / 1e3).toFixed(1)} k`;
  return `${+value.toFixed(2)}`;
}

const POWERS = Array.from({ length: 45 }, (_, power) => 2 ** power);
const TOLD = { bytes, number, percent: (value) => `${+value.toFixed(1)} %` };

function draw(place) {
  const data = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  const told = TOLD[data.unit];
  const ink = styleOf("--muted");
  const colours = [styleOf("--brand"), styleOf("--amber")];
  const sparse = data.series.every((line) => line.values.filter((value) => value != null).length < 30);
  const span = data.ts[data.ts.length - 1] - data.ts[0];
  const two = (value) => String(value).padStart(2, "0");
  const clock = (ts) => { const at = new Date(ts * 1000); return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`; };
  const day = (ts) => { const at = new Date(ts * 1000); return `${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`; };
  const axis = { stroke: ink, grid: { stroke: styleOf("--line"), width: 1 }, ticks: { stroke: styleOf("--line"), width: 1 } };
  const options = {
    width: place.clientWidth,
    height: 200,
    tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"),
    scales: { y: { range: (_plot, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    series: [
      { label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
      ...data.series.map((line, at) => ({
        label: line.label,
        stroke: colours[at],
        width: 2,
        dash: line.label === data.series[0].label ? undefined : [4, 4],
        spanGaps: false,
        points: { show: sparse, size: 4 },
        value: (_plot, value) => (value == null ? "–" : told(value)),
      })),
    ],
    axes: [
      { ...axis, values: (_plot, ticks) => ticks.map(span > 2 * 86400 ? day : clock) },
      { ...axis, size: 72, values: (_plot, ticks) => ticks.map(told), ...(data.unit === "bytes" ? { incrs: POWERS } : {}) },
    ],
    cursor: { drag: { x: false, y: false } },
  };
  place.replaceChildren();
  return new uPlot(options, [data.ts, ...data.series.map((line) => line.values)], place);
}

const places = [...document.querySelectorAll("[data-chart]")];
let plots = places.map(draw);
addEventListener("resize", () => plots.forEach((plot, at) => plot.setSize({ width: places[at].clientWidth, height: 200 })));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  plots.forEach((plot) => plot.destroy());
  plots = places.map(draw);
});
