// Goes on to the spawn, once somebody really looks at the page: browsers prerender pages on suspicion.
"use strict";
(() => {
  const link = document.getElementById("go");
  // The first page of a browser brings its cookie. Another tab that was opened at the same moment brings another one, and
  // the last one stays: it is there after as long as this page took to come.
  const tookMs = () => {
    const [entry] = performance.getEntriesByType("navigation");
    return entry ? Math.min(1.5 * (entry.responseEnd - entry.requestStart) + 50, 600) : 300;
  };
  const go = () => setTimeout(() => location.replace(link.href), "new" in link.dataset ? tookMs() : 0);
  if (document.prerendering) {
    document.addEventListener("prerenderingchange", go, { once: true });
  } else {
    go();
  }
})();
