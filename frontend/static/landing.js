// Goes on to the spawn, once somebody really looks at the page: browsers prerender pages on suspicion.
"use strict";
(() => {
  const go = () => {
    const { href } = document.getElementById("go");
    if (window.stop) window.stop(); // or the page's own refresh asks once more while the first answer is awaited
    location.replace(href);
  };
  if (document.prerendering) {
    document.addEventListener("prerenderingchange", go, { once: true });
  } else {
    go();
  }
})();
