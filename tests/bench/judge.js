const judged = {
  loaded: performance.getEntriesByType("resource").length,
  over: document.documentElement.scrollWidth - innerWidth,
  charts: [...document.querySelectorAll("figure svg")].map(chart => {
    const frame = chart.getBoundingClientRect();
    const words = [...chart.querySelectorAll("text")];
    const isVisible = one => {
      const box = one.getBoundingClientRect();
      return box.width + box.height > 0;
    };
    const isOutside = one => {
      const box = one.getBoundingClientRect();
      return box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
    };
    return {
      width: frame.width, height: frame.height,
      drawn: [...chart.querySelectorAll("path, rect, circle, line, polyline, polygon")].filter(isVisible).length,
      words: words.length,
      outside: words.filter(isOutside).map(one => one.textContent),
    };
  }),
};
const told = document.createElement("pre");
told.id = "judged";
told.textContent = JSON.stringify(judged);
document.body.append(told);
