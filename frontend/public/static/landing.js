// Goes on to the spawn, once somebody really looks at the page: browsers prerender pages on suspicion.
"use strict";
(() => {
  const link = document.getElementById("go");
  const leave = () => {
    if (window.stop) window.stop(); // or the page's own refresh asks once more while the first answer is awaited
    location.replace(link.href);
  };
  // The first page of a browser brings its cookie. Another tab that was opened at the same moment brings another one, and
  // the last one stays: it is there after as long as this page took to come.
  const tookMs = () => {
    const entry = performance.getEntriesByType && performance.getEntriesByType("navigation")[0];
    return entry ? Math.min(1.5 * (entry.responseEnd - entry.requestStart) + 50, 600) : 300;
  };
  const go = () => (link.dataset.new === undefined ? leave() : setTimeout(leave, tookMs()));
  if (document.prerendering) {
    document.addEventListener("prerenderingchange", go, { once: true });
  } else {
    go();
  }
})();
