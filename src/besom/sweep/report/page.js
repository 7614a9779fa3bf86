"use strict";
(async () => {
  const charts = [...document.querySelectorAll(".chart")].map((place) => ({
    place,
    ...JSON.parse(place.nextElementSibling.textContent),
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
  const draw = async () => {
    const template = themes[dark.matches ? "dark" : "light"];
    for (const { place, data, layout } of charts) {
      await Plotly.react(place, data, { ...layout, template }, config);
      await new Promise((next) => setTimeout(next));
    }
  };
  await draw();
  dark.addEventListener("change", draw);
})();
