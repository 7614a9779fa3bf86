"use strict";
(async () => {
  const charts = [...document.querySelectorAll(".chart")].map((place) => ({
    place,
    ...JSON.parse(place.parentElement.nextElementSibling.textContent),
  }));
  if (!charts.length) return;
  try {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const library = document.createElement("script");
    library.textContent = await new Response(stream).text();
    document.head.append(library);
  } catch (error) {
    for (const { place } of charts) {
      place.classList.add("without");
      place.textContent = `This browser cannot unpack the charts (${error}).`;
    }
    return;
  }
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = {
    responsive: true,
    displayModeBar: false, // to drag zooms, a double-click shows all
  };
  // a figure of small charts: as many beside each other as there is room for
  const layOut = (place, layout) => {
    const { columns, cell, sharesY, title } = layout.meta;
    const axes = (letter) => Object.keys(layout).filter((key) => new RegExp(`^${letter}axis\\d*$`).test(key))
      .sort((a, b) => (a.slice(5) || 1) - (b.slice(5) || 1)).map((key) => layout[key]);
    const [across, up] = [axes("x"), axes("y")];
    const margin = { l: 64, r: layout.coloraxis ? 74 : 24, t: 40, b: 56 };
    const width = place.clientWidth - margin.l - margin.r;
    const count = Math.max(1, Math.min(columns, across.length, Math.floor((width + 90) / 290)));
    const rows = Math.ceil(across.length / count);
    const height = rows * cell - 70;
    const [gapX, gapY] = [(sharesY ? 24 : 84) / width, 70 / height];
    const [partX, partY] = [(1 - gapX * (count - 1)) / count, (1 - gapY * (rows - 1)) / rows];
    across.forEach((axis, n) => {
      const [column, row] = [n % count, Math.floor(n / count)];
      axis.domain = [column * (partX + gapX), column * (partX + gapX) + partX];
      up[n].domain = [1 - row * (partY + gapY) - partY, 1 - row * (partY + gapY)];
      if (sharesY) {
        up[n].showticklabels = column === 0;
        up[n].title = { text: column === 0 ? title : "" };
      }
    });
    layout.margin = { ...margin, autoexpand: false };
    layout.height = height + margin.t + margin.b;
    place.style.height = `${layout.height}px`;
  };
  const draw = async () => {
    const template = themes[dark.matches ? "dark" : "light"];
    for (const { place, data, layout } of charts) {
      if (layout.meta) layOut(place, layout);
      await Plotly.react(place, data, { ...layout, template }, config);
      await new Promise((next) => setTimeout(next));
    }
  };
  await draw();
  dark.addEventListener("change", draw);
  let width = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 200);
  });
})();
