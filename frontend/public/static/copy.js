// Puts the new link into the clipboard; without a clipboard it is selected, to be copied by hand.
"use strict";
(() => {
  const field = document.getElementById("link");
  const button = document.getElementById("copy");
  field.addEventListener("focus", () => field.select());
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
    } catch {
      field.focus();
    }
  });
})();
