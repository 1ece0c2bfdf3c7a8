// Goes on to the spawn, once somebody really looks at the page: browsers prerender pages on suspicion.
"use strict";
(() => {
  const go = () => location.replace(document.getElementById("go").href);
  if (document.prerendering) {
    document.addEventListener("prerenderingchange", go, { once: true });
  } else {
    go();
  }
})();
